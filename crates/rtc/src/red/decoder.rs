//! Redundant sound that comes in (RFC 2198): what each packet repeats of the ones before it takes the place of those that got lost.
//! The counterpart of [`super::red`].

use std::collections::VecDeque;

/// Blocks in a packet at the most. Browsers repeat one packet, or two; nine is what they can be told to.
const MAX_BLOCKS: usize = 10;
/// Packets remembered, to know what is missing: more than any packet repeats, and some that come late.
const REMEMBERED: usize = 32;

/// A block that repeats an earlier packet: by how much the timestamp of that one was less, and its payload.
pub type Repeated<'a> = (u32, &'a [u8]);

/// The repeated blocks of a redundant packet, oldest first, and its own. `None` if it is damaged, or its own block is not of
/// `payload_type`; blocks of other types are left out.
pub fn blocks(packet: &[u8], payload_type: u8) -> Option<(Vec<Repeated<'_>>, &[u8])> {
    let (mut rest, mut heads) = (packet, Vec::new());
    // §3: the first bit says that another head follows; 14 bits of timestamp offset, 10 of length.
    let last = loop {
        match *rest {
            [first, a, b, c, ..] if first & 0x80 != 0 && heads.len() < MAX_BLOCKS => {
                let fields = u32::from_be_bytes([0, a, b, c]);
                heads.push((first & 0x7f, fields >> 10, (fields & 0x3ff) as usize));
                rest = &rest[4..];
            }
            [first, ..] if first & 0x80 == 0 => break first,
            _ => return None,
        }
    };
    rest = &rest[1..];
    let mut repeated = Vec::with_capacity(heads.len());
    for (kind, offset, len) in heads {
        let (block, after) = rest.split_at_checked(len)?;
        if kind == payload_type && !block.is_empty() {
            repeated.push((offset, block));
        }
        rest = after;
    }
    (last == payload_type).then_some((repeated, rest))
}

/// What has come of one stream of sound.
#[derive(Debug, Default)]
pub struct Heard {
    /// Sequence numbers and timestamps, in order.
    packets: VecDeque<(u64, u32)>,
}

impl Heard {
    /// A packet comes: false if its place is taken, be it by what another one repeated of it.
    pub fn take(&mut self, sequence: u64, timestamp: u32) -> bool {
        let place = self.packets.partition_point(|p| p.0 < sequence);
        let known = self.packets.get(place).is_some_and(|p| p.0 == sequence);
        let too_old = place == 0 && self.packets.len() == REMEMBERED;
        if known || too_old {
            return false;
        }
        if self.packets.len() == REMEMBERED {
            self.packets.pop_front();
            self.packets.insert(place - 1, (sequence, timestamp));
        } else {
            self.packets.insert(place, (sequence, timestamp));
        }
        true
    }

    /// The place of the missing packet that had this timestamp: a block does not tell it (§3 has timestamps only). `back`: that many
    /// blocks before its packet's own, `sequence`. `None` if it did not get lost.
    pub fn missing(&self, sequence: u64, back: usize, timestamp: u32) -> Option<u64> {
        // Timestamps wrap (RFC 3550 §5.1).
        let is_before = |a: u32, b: u32| (b.wrapping_sub(a) as i32) > 0;
        if self.packets.iter().any(|p| p.1 == timestamp) {
            return None;
        }
        let before = self.packets.iter().rfind(|p| is_before(p.1, timestamp))?.0;
        let after = self.packets.iter().find(|p| is_before(timestamp, p.1))?.0;
        // Exact where one place is free; else it goes by the blocks, of which none is left out in between as a rule.
        let counted = sequence.checked_sub(back as u64)?;
        match after.checked_sub(before)? {
            0 | 1 => None,
            2 => Some(before + 1),
            _ => Some(counted).filter(|c| (before + 1..after).contains(c)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::{Place, Red};
    use proptest::prelude::*;

    #[test]
    fn blocks_are_read_or_refused() {
        let packet = [0x80 | 111, 0x0f, 0x00, 2, 111, 7, 8, 9];
        assert_eq!(blocks(&packet, 111), Some((vec![(960, &[7, 8][..])], &[9][..])));
        assert_eq!(blocks(&packet, 112), None, "another codec");
        for len in 0..7 {
            assert_eq!(blocks(&packet[..len], 111), None, "cut after {len}");
        }
        assert_eq!(blocks(&[0xff; 200], 0x7f), None, "heads without end");
        assert_eq!(blocks(&[111], 111), Some((vec![], &[][..])));
    }

    #[test]
    fn only_what_is_missing_has_a_place() {
        let mut heard = Heard::default();
        assert!(heard.take(10, 9600) && heard.take(11, 10560) && !heard.take(10, 9600));
        // 12 and 13 are lost.
        assert!(heard.take(14, 13440));
        assert_eq!(heard.missing(14, 1, 12480), Some(13));
        assert_eq!(heard.missing(14, 2, 11520), Some(12));
        assert_eq!(heard.missing(14, 3, 10560), None, "it came");
        assert_eq!(heard.missing(14, 9, 960), None, "from before the start");
        assert!(heard.take(13, 12480));
        assert_eq!(heard.missing(14, 1, 11520), Some(12), "one place is free, however it is counted");
        assert!(heard.take(12, 11520) && !heard.take(12, 11520), "comes after all");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(packet in proptest::collection::vec(any::<u8>(), 0..200), kind in 0u8..128) {
            if let Some((repeated, own)) = blocks(&packet, kind) {
                let sum: usize = repeated.iter().map(|(_, b)| b.len()).sum();
                prop_assert!(sum + own.len() < packet.len());
            }
        }

        /// With two repeated, whatever two in a row get lost are there again, each in its place and once.
        #[test]
        fn what_is_lost_comes_back(start in any::<u32>(), first in 0u64..1 << 40, lost in proptest::collection::btree_set(2u64..200, 0..40)) {
            let mut red = Red::default();
            let mut heard = Heard::default();
            let mut got = std::collections::BTreeMap::new();
            for n in 0..210u64 {
                let place = Place { sequence: first + n, timestamp: start.wrapping_add(n as u32 * 960) };
                let payload = (n as u16).to_be_bytes();
                let packet = red.wrap(place, &payload, 111, 2, 1000);
                if lost.contains(&n) {
                    continue;
                }
                let (repeated, own) = blocks(&packet, 111).unwrap();
                prop_assert!(heard.take(place.sequence, place.timestamp));
                prop_assert!(got.insert(n, own.to_vec()).is_none());
                for (i, (offset, block)) in repeated.iter().enumerate() {
                    let timestamp = place.timestamp.wrapping_sub(*offset);
                    if let Some(sequence) = heard.missing(place.sequence, repeated.len() - i, timestamp) {
                        prop_assert!(heard.take(sequence, timestamp));
                        prop_assert!(got.insert(sequence - first, block.to_vec()).is_none());
                    }
                }
            }
            for (n, payload) in &got {
                prop_assert_eq!(payload, &(*n as u16).to_be_bytes().to_vec());
            }
            for n in 0..200u64 {
                let three = (n.saturating_sub(2)..=n + 2).filter(|m| lost.contains(m)).count() >= 3;
                prop_assert!(three || got.contains_key(&n), "{} of {:?}", n, lost);
            }
        }
    }
}
