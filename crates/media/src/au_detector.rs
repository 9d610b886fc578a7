//! Whether what an MPEG-TS brings is one picture each time. It need not be by the standard, so a parser waits for the next picture
//! to see that one has ended; all that sends live does it, and where it is seen for long enough the parser is told.

/// How much must be one picture each before that is believed.
const ENOUGH: u32 = 16;

/// How slices are marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slices {
    /// H.264.
    H264,
    /// H.265.
    H265,
}

impl Slices {
    /// Those of what GStreamer calls so.
    pub fn of(name: &str) -> Option<Self> {
        match name {
            "video/x-h264" => Some(Self::H264),
            "video/x-h265" => Some(Self::H265),
            _ => None,
        }
    }

    /// Of a NAL unit: whether it is a slice, and then whether it is a picture's first.
    fn slice(self, nal: &[u8]) -> Option<bool> {
        match self {
            // first_mb_in_slice is 0 (H.264 §7.3.3): an Exp-Golomb code of one bit.
            Self::H264 => matches!(nal.first()? & 0x1F, 1 | 2 | 5).then(|| nal.get(1).is_some_and(|b| b & 0x80 != 0)),
            // first_slice_segment_in_pic_flag (H.265 §7.3.6.1), behind a header of two bytes.
            Self::H265 => ((nal.first()? >> 1 & 0x3F) < 32).then(|| nal.get(2).is_some_and(|b| b & 0x80 != 0)),
        }
    }

    /// Whether this byte stream (annex B of both) begins with a start code and holds one picture: one first slice, before others.
    fn one_picture(self, bytes: &[u8]) -> bool {
        let starts = |at: &usize| bytes[*at..].starts_with(&[0, 0, 1]);
        let begins = bytes.iter().position(|b| *b != 0).is_some_and(|at| at >= 2 && bytes[at] == 1);
        let mut slices =
            (0..bytes.len().saturating_sub(3)).filter(starts).filter_map(|at| self.slice(&bytes[at + 3..]));
        begins && slices.next() == Some(true) && !slices.any(|first| first)
    }
}

/// Looks at one piece after the other.
#[derive(Debug)]
pub struct Whole {
    slices: Slices,
    seen: u32,
}

impl Whole {
    /// Nothing seen yet.
    pub fn new(slices: Slices) -> Self {
        Self { slices, seen: 0 }
    }

    /// Takes the next piece; says whether it and what comes may be taken for whole pictures, where that changes.
    pub fn push(&mut self, bytes: &[u8]) -> Option<bool> {
        let before = self.seen;
        self.seen = if self.slices.one_picture(bytes) { (before + 1).min(ENOUGH) } else { 0 };
        let believed = |seen| seen == ENOUGH;
        (believed(before) != believed(self.seen)).then_some(believed(self.seen))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const AUD: &[u8] = &[0, 0, 0, 1, 9, 0xF0];
    const FIRST: &[u8] = &[0, 0, 0, 1, 0x65, 0x88, 1, 2, 3];
    const NEXT: &[u8] = &[0, 0, 1, 0x41, 0x20, 1, 2, 3];

    #[test]
    fn one_picture_is_told_from_parts_and_from_more() {
        let of = |parts: &[&[u8]]| Slices::H264.one_picture(&parts.concat());
        assert!(of(&[AUD, FIRST]) && of(&[FIRST, NEXT, NEXT]) && of(&[FIRST]));
        for bad in
            [&[NEXT][..], &[NEXT, FIRST], &[FIRST, FIRST], &[AUD, FIRST, AUD, FIRST], &[&[7, 7], FIRST], &[AUD], &[]]
        {
            assert!(!of(bad), "{bad:?}");
        }
        let hevc = |first: u8| [&[0, 0, 0, 1, 0x40, 1, 12, 0, 0, 1, 0x26, 1][..], &[first, 5, 5]].concat();
        assert!(Slices::H265.one_picture(&hevc(0xAF)) && !Slices::H265.one_picture(&hevc(0x20)));
    }

    #[test]
    fn it_is_believed_after_enough_and_not_for_longer_than_it_holds() {
        let mut whole = Whole::new(Slices::H264);
        for _ in 0..ENOUGH - 1 {
            assert_eq!(whole.push(FIRST), None);
        }
        assert_eq!((whole.push(FIRST), whole.push(FIRST)), (Some(true), None));
        assert_eq!((whole.push(NEXT), whole.push(NEXT), whole.push(FIRST)), (Some(false), None, None));
    }

    proptest! {
        #[test]
        fn noise_never_panics(noise in proptest::collection::vec(0u8..3, 0..60)) {
            Slices::H264.one_picture(&noise);
            Slices::H265.one_picture(&noise);
        }
    }
}
