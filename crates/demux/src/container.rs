//! What the first bytes of something are, and what has to be known of a container before it is demultiplexed.

use gstreamer as gst;

/// Bytes by which a container is recognised: an MPEG-TS needs some packets, everything else less.
pub(crate) const HEAD: usize = 64 << 10;

/// The field of a container's caps that holds how much of its pictures is cropped, as the decoder of VP6 wants to know it.
pub(crate) const VP6_CROP: &str = "ingress-crop";

/// What begins like this; `None` if nothing known does.
pub(crate) fn detect(head: &[u8]) -> Option<gst::Caps> {
    gst::SliceTypeFind::type_find(head).1
}

/// Whether these first bytes are enough to be sure of what it is.
pub(crate) fn is_certain(head: &[u8]) -> bool {
    gst::SliceTypeFind::type_find(head).0 >= gst::TypeFindProbability::Likely
}

/// Whether this is an MPEG-TS: it is played as it comes, and holds splice points.
pub(crate) fn is_mpegts(kind: &gst::CapsRef) -> bool {
    kind.structure(0).is_some_and(|s| s.name() == "video/mpegts")
}

/// Whether an MP4 that begins like this has its media before its index (ISO 14496-12 §4.2): it can only be played from its end.
pub(crate) fn has_index_last(head: &[u8]) -> bool {
    let mut at = 0usize;
    while let Some(start) = head.get(at..at.saturating_add(16)) {
        let size = u32::from_be_bytes([start[0], start[1], start[2], start[3]]);
        match (&start[4..8], size) {
            (b"mdat", _) => return true,
            (b"ftyp" | b"free" | b"skip" | b"wide" | b"uuid" | b"pdin", 8..) => at = at.saturating_add(size as usize),
            _ => return false,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_at_the_end_is_seen() {
        let file = |boxes: &[(&str, usize)]| -> Vec<u8> {
            let one = |(name, size): &(&str, usize)| {
                let mut b = (*size as u32).to_be_bytes().to_vec();
                b.extend(name.as_bytes());
                b.resize(*size, 0);
                b
            };
            boxes.iter().flat_map(one).collect()
        };
        assert!(has_index_last(&file(&[("ftyp", 32), ("free", 8), ("mdat", 100)])));
        assert!(!has_index_last(&file(&[("ftyp", 32), ("moov", 80), ("mdat", 100)])));
        assert!(!has_index_last(&file(&[("ftyp", 4)])) && !has_index_last(&[]) && !has_index_last(&[0; 100]));
    }
}
