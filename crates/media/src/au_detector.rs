//! Detects that each PES packet of an MPEG-TS holds one access unit. The standard does not require it, so a parser waits for the next
//! access unit to see that one has ended. All live senders do it, and where it is seen for long enough the parser is told.

/// How many pieces in a row must be one access unit each before that is relied on.
const RELIED_ON_AFTER: u32 = 16;

/// How slices are marked in NAL units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SliceSyntax {
    /// H.264.
    H264,
    /// HEVC.
    H265,
}

impl SliceSyntax {
    /// That of a codec by GStreamer's name for it.
    pub fn of(name: &str) -> Option<Self> {
        match name {
            "video/x-h264" => Some(Self::H264),
            "video/x-h265" => Some(Self::H265),
            _ => None,
        }
    }

    /// Whether a NAL unit is a slice, and then whether it is a picture's first.
    pub fn slice(self, nal: &[u8]) -> Option<bool> {
        match self {
            // first_mb_in_slice is 0 (H.264 §7.3.3): an Exp-Golomb code of one bit.
            Self::H264 => matches!(nal.first()? & 0x1F, 1 | 2 | 5).then(|| nal.get(1).is_some_and(|b| b & 0x80 != 0)),
            // first_slice_segment_in_pic_flag (H.265 §7.3.6.1), after a header of two bytes.
            Self::H265 => ((nal.first()? >> 1 & 0x3F) < 32).then(|| nal.get(2).is_some_and(|b| b & 0x80 != 0)),
        }
    }

    /// Whether this Annex B byte stream begins with a start code and holds one access unit: one first slice, before others.
    fn is_one_au(self, bytes: &[u8]) -> bool {
        let starts = |at: &usize| bytes[*at..].starts_with(&[0, 0, 1]);
        let begins = bytes.iter().position(|b| *b != 0).is_some_and(|at| at >= 2 && bytes[at] == 1);
        let mut slices =
            (0..bytes.len().saturating_sub(3)).filter(starts).filter_map(|at| self.slice(&bytes[at + 3..]));
        begins && slices.next() == Some(true) && !slices.any(|first| first)
    }
}

/// Looks at one piece after the other.
#[derive(Debug)]
pub struct AuDetector {
    syntax: SliceSyntax,
    seen: u32,
}

impl AuDetector {
    /// Nothing seen yet.
    pub fn new(syntax: SliceSyntax) -> Self {
        Self { syntax, seen: 0 }
    }

    /// Takes the next piece. Where it changes whether each piece is one access unit, gives that.
    pub fn push(&mut self, bytes: &[u8]) -> Option<bool> {
        let before = self.seen;
        self.seen = if self.syntax.is_one_au(bytes) { (before + 1).min(RELIED_ON_AFTER) } else { 0 };
        let holds = |seen| seen == RELIED_ON_AFTER;
        (holds(before) != holds(self.seen)).then_some(holds(self.seen))
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
    fn one_access_unit_is_told_from_parts_and_more() {
        let of = |parts: &[&[u8]]| SliceSyntax::H264.is_one_au(&parts.concat());
        assert!(of(&[AUD, FIRST]) && of(&[FIRST, NEXT, NEXT]) && of(&[FIRST]));
        for bad in
            [&[NEXT][..], &[NEXT, FIRST], &[FIRST, FIRST], &[AUD, FIRST, AUD, FIRST], &[&[7, 7], FIRST], &[AUD], &[]]
        {
            assert!(!of(bad), "{bad:?}");
        }
        let hevc = |first: u8| [&[0, 0, 0, 1, 0x40, 1, 12, 0, 0, 1, 0x26, 1][..], &[first, 5, 5]].concat();
        assert!(SliceSyntax::H265.is_one_au(&hevc(0xAF)) && !SliceSyntax::H265.is_one_au(&hevc(0x20)));
    }

    #[test]
    fn it_is_relied_on_while_it_holds() {
        let mut detector = AuDetector::new(SliceSyntax::H264);
        for _ in 0..RELIED_ON_AFTER - 1 {
            assert_eq!(detector.push(FIRST), None);
        }
        assert_eq!((detector.push(FIRST), detector.push(FIRST)), (Some(true), None));
        assert_eq!((detector.push(NEXT), detector.push(NEXT), detector.push(FIRST)), (Some(false), None, None));
    }

    proptest! {
        #[test]
        fn noise_never_panics(noise in proptest::collection::vec(0u8..3, 0..60)) {
            SliceSyntax::H264.is_one_au(&noise);
            SliceSyntax::H265.is_one_au(&noise);
        }
    }
}
