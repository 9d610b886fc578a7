//! How many bytes go into a payload, and how a frame is cut.

/// Bytes of RTP payload in one packet at most. 1200 is what fits every path on the internet (and what the Go ingress
/// keeps to); from it go 12 for the RTP header, 24 for the extensions we send (abs-send-time, transport-cc, MID, RID,
/// audio level, rounded up to words, and their header), 16 for the SRTP tag, 2 for the sequence number that a
/// retransmission repeats (RFC 4588 §4), and 2 to spare.
pub const MAX_PAYLOAD: usize = 1200 - 12 - 24 - 16 - 2 - 2;

/// Cuts `len` bytes into as few pieces of at most `max` as do, but `at_least` so many, of nearly equal size: a short last packet
/// costs as much as a full one.
pub(super) fn split(len: usize, max: usize, at_least: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    let count = len.div_ceil(max.max(1)).max(at_least.min(len)).max(1);
    let (size, longer) = (len / count, len % count);
    (0..count).map(move |i| {
        let start = i * size + i.min(longer);
        start..start + size + usize::from(i < longer)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pieces_join_and_are_nearly_equal(len in 0usize..100_000, max in 1usize..2000, least in 0usize..9) {
            let all: Vec<_> = split(len, max, least).collect();
            prop_assert!(all.len() >= least.min(len));
            prop_assert_eq!(all[0].start, 0);
            prop_assert_eq!(all[all.len() - 1].end, len);
            prop_assert!(all.windows(2).all(|p| p[0].end == p[1].start));
            let sizes: Vec<_> = all.iter().map(|r| r.len()).collect();
            prop_assert!(sizes.iter().all(|&s| s <= max));
            prop_assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1);
        }
    }
}
