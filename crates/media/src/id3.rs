//! ID3 tags in front of audio without a container, as HLS has it: they carry its MPEG-TS timestamp (RFC 8216 §3.4).

/// The timestamp in nanoseconds in a tag of ID3 (2.3 or 2.4) at the beginning of these bytes: a private frame holds it.
pub fn mpegts_timestamp(head: &[u8]) -> Option<i64> {
    const OWNER: &[u8] = b"com.apple.streaming.transportStreamTimestamp\0";
    let safe = |b: &[u8; 4]| b.iter().fold(0usize, |n, b| n << 7 | usize::from(b & 0x7F));
    let tag = head.first_chunk::<10>().filter(|t| t.starts_with(b"ID3") && t[5] & 0x40 == 0)?;
    let mut rest = &head[10..];
    rest = &rest[..rest.len().min(safe(&[tag[6], tag[7], tag[8], tag[9]]))];
    while let Some(frame) = rest.first_chunk::<10>().filter(|f| f[0] != 0) {
        let size = [frame[4], frame[5], frame[6], frame[7]];
        let size = if tag[3] >= 4 { safe(&size) } else { u32::from_be_bytes(size) as usize };
        let data = rest.get(10..10usize.checked_add(size)?)?;
        if frame.starts_with(b"PRIV")
            && let Some(time) = data.strip_prefix(OWNER).and_then(|t| t.first_chunk::<8>())
        {
            let ticks = i64::try_from(u64::from_be_bytes(*time) & ((1 << 33) - 1)).ok()?;
            return Some(ticks * 100_000 / 9);
        }
        rest = &rest[10 + size..];
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_timestamp_is_read() {
        let owner = b"com.apple.streaming.transportStreamTimestamp\0";
        let of = |version: u8, ticks: u64| {
            let frame = |id: &[u8], data: &[u8]| [id, &[0, 0, 0, data.len() as u8, 0, 0], data].concat();
            let frames = [frame(b"TIT2", b"x"), frame(b"PRIV", &[&owner[..], &ticks.to_be_bytes()].concat())].concat();
            [&[b'I', b'D', b'3', version, 0, 0, 0, 0, 0, frames.len() as u8], &frames[..], &[0xFF, 0xF1]].concat()
        };
        assert_eq!(
            (mpegts_timestamp(&of(3, 90_000)), mpegts_timestamp(&of(4, 450_045))),
            (Some(1_000_000_000), Some(5_000_500_000))
        );
        assert_eq!(mpegts_timestamp(&of(4, 90_000)[..60]), None);
        assert_eq!(mpegts_timestamp(&[0xFF, 0xF1, 0, 0, 0, 0, 0, 0, 0, 0, 0]), None);
    }

    proptest! {
        #[test]
        fn noise_never_panics(noise in proptest::collection::vec(any::<u8>(), 0..2000)) {
            mpegts_timestamp(&[b"ID3\x04\0\0\0\0\x7f\x7fPRIV", &noise[..]].concat());
        }
    }
}
