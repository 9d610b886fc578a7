//! Marks of the ends of access units in RTP, where a camera sets them wrongly. The last packet of an access unit is marked (RFC 6184 §5.1,
//! RFC 7798 §4.1), but some mark each slice, or parameter sets: each would be taken for a picture of its own. Once that is seen, no mark
//! counts, and an access unit ends where the time changes. Pure.

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Markers {
    /// Number and time of the newest packet, and whether it was marked.
    last: Option<(u16, u32, bool)>,
    lie: bool,
}

/// Where the mark stands (RFC 3550 §5.1).
const MARK: u8 = 0x80;

impl Markers {
    /// Looks at a packet. True if its mark does not count and is to be cleared with [`clear`].
    pub(super) fn is_false(&mut self, packet: &[u8]) -> bool {
        let [_, marked, n1, n0, t3, t2, t1, t0, ..] = *packet else { return false };
        let (number, time) = (u16::from_be_bytes([n1, n0]), u32::from_be_bytes([t3, t2, t1, t0]));
        let marked = marked & MARK != 0;
        if let Some((last, its_time, true)) = self.last
            && number == last.wrapping_add(1)
            && time == its_time
        {
            self.lie = true;
        }
        self.last = Some((number, time, marked));
        self.lie && marked
    }
}

/// Takes the mark off a packet.
pub(super) fn clear(packet: &mut [u8]) {
    if let Some(byte) = packet.get_mut(1) {
        *byte &= !MARK;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packet(number: u16, time: u32, marked: bool) -> Vec<u8> {
        let [n1, n0] = number.to_be_bytes();
        [&[0x80, if marked { 0xE0 } else { 0x60 }, n1, n0][..], &time.to_be_bytes(), &[0; 8]].concat()
    }

    #[test]
    fn true_marks_count() {
        let mut markers = Markers::default();
        for (number, time, marked) in
            [(9, 1, false), (10, 1, true), (11, 2, true), (12, 3, true), (12, 3, true), (14, 3, true)]
        {
            assert!(!markers.is_false(&packet(number, time, marked)), "{number}");
        }
    }

    #[test]
    fn once_one_is_false_none_counts() {
        let mut markers = Markers::default();
        assert!(!markers.is_false(&packet(u16::MAX, 1, true)));
        assert!(markers.is_false(&packet(0, 1, true)));
        assert!(!markers.is_false(&packet(1, 2, false)));
        let mut last = packet(2, 2, true);
        assert!(markers.is_false(&last));
        clear(&mut last);
        assert_eq!(last, packet(2, 2, false));
    }

    proptest! {
        #[test]
        fn noise_never_panics(packets in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..16), 0..9)) {
            let mut markers = Markers::default();
            for mut packet in packets {
                markers.is_false(&packet);
                clear(&mut packet);
            }
        }
    }
}
