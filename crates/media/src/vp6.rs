//! The crop of VP6 pictures: a byte before each picture in FLV (annex E.4.3.1 of Adobe's Video File Format 10.1), which GStreamer's
//! demultiplexer drops. Without it 360 lines are shown as 368.

/// The crop byte of the first picture at the beginning of a file; `None` if that is no FLV or its video is not VP6.
pub fn crop(head: &[u8]) -> Option<u8> {
    let offset = head.strip_prefix(b"FLV")?.get(2..6)?.first_chunk::<4>()?;
    // The file header, and the length of the tag before the first one.
    let mut at = (u32::from_be_bytes(*offset) as usize).checked_add(4)?;
    loop {
        let tag = head.get(at..at.checked_add(13)?)?;
        let size = u32::from_be_bytes([0, tag[1], tag[2], tag[3]]) as usize;
        if tag[0] & 0x1f == 9 && size > 1 {
            // Codec ids of VP6, and of VP6 with alpha.
            return matches!(tag[11] & 0x0f, 4 | 5).then_some(tag[12]);
        }
        at += 11 + size + 4;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tag(kind: u8, body: &[u8]) -> Vec<u8> {
        let size = (body.len() as u32).to_be_bytes();
        let head = [&[kind][..], &size[1..], &[0; 7]].concat();
        [&head[..], body, &(11 + body.len() as u32).to_be_bytes()].concat()
    }

    fn file(tags: &[Vec<u8>]) -> Vec<u8> {
        [b"FLV\x01\x05\0\0\0\x09\0\0\0\0", &tags.concat()[..]].concat()
    }

    #[test]
    fn the_first_picture_holds_the_crop() {
        let before = [tag(18, b"onMetaData"), tag(8, &[0xaf, 1, 2])].concat();
        assert_eq!(crop(&file(&[before.clone(), tag(9, &[0x14, 0x0c, 1])])), Some(0x0c));
        assert_eq!(crop(&file(&[tag(9, &[0x15, 0x08, 0, 0, 9])])), Some(8));
        assert_eq!(crop(&file(&[before.clone(), tag(9, &[0x17, 0, 1])])), None);
        for head in [&b""[..], b"FLV", b"FLV\x01\x05\xff\xff\xff\xff", b"RIFF....", &file(&[before])] {
            assert_eq!(crop(head), None);
        }
    }

    proptest! {
        #[test]
        fn noise_never_panics(noise in proptest::collection::vec(any::<u8>(), 0..200)) {
            crop(&noise);
            crop(&file(&[noise]));
        }
    }
}
