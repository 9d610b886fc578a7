//! The receiving side of RED: what a packet repeats takes the place of packets that got lost.

use std::collections::VecDeque;

/// Blocks in a packet at most. Browsers repeat one packet, or two; nine is what they can be told to.
const MAX_BLOCKS: usize = 10;
/// Packets remembered, to know what is missing: more than any packet repeats, and some that come late.
const HISTORY: usize = 32;

/// A block that repeats an earlier packet: how many ticks its timestamp was before the primary one's, and its payload.
pub type RedundantBlock<'a> = (u32, &'a [u8]);

/// The redundant blocks of a packet, oldest first, and its primary one. `None` if it is damaged, or its primary block is not of
/// `payload_type`; redundant blocks of other types are left out.
pub fn split_blocks(packet: &[u8], payload_type: u8) -> Option<(Vec<RedundantBlock<'_>>, &[u8])> {
    let (mut rest, mut headers) = (packet, Vec::new());
    // RFC 2198 §3: the first bit says that another header follows; 14 bits of timestamp offset, 10 of length.
    let last = loop {
        match *rest {
            [first, a, b, c, ..] if first & 0x80 != 0 && headers.len() < MAX_BLOCKS => {
                let fields = u32::from_be_bytes([0, a, b, c]);
                headers.push((first & 0x7f, fields >> 10, (fields & 0x3ff) as usize));
                rest = &rest[4..];
            }
            [first, ..] if first & 0x80 == 0 => break first,
            _ => return None,
        }
    };
    rest = &rest[1..];
    let mut redundant = Vec::with_capacity(headers.len());
    for (kind, offset, len) in headers {
        let (block, after) = rest.split_at_checked(len)?;
        if kind == payload_type && !block.is_empty() {
            redundant.push((offset, block));
        }
        rest = after;
    }
    (last == payload_type).then_some((redundant, rest))
}

/// What has been received of one audio stream.
#[derive(Debug, Default)]
pub struct ReceiveHistory {
    /// Sequence numbers and timestamps, in order.
    packets: VecDeque<(u64, u32)>,
}

impl ReceiveHistory {
    /// A packet comes: false if it was there before, be it as a redundant block of another one, or is too old to tell.
    pub fn insert(&mut self, sequence: u64, timestamp: u32) -> bool {
        let at = self.packets.partition_point(|p| p.0 < sequence);
        let known = self.packets.get(at).is_some_and(|p| p.0 == sequence);
        let too_old = at == 0 && self.packets.len() == HISTORY;
        if known || too_old {
            return false;
        }
        if self.packets.len() == HISTORY {
            self.packets.pop_front();
            self.packets.insert(at - 1, (sequence, timestamp));
        } else {
            self.packets.insert(at, (sequence, timestamp));
        }
        true
    }

    /// The sequence number of the lost packet that had this timestamp: a redundant block does not carry it (RFC 2198 §3 has
    /// timestamps only). The block is the one `back` blocks before the primary one of packet `sequence`. `None` if the packet is
    /// not lost.
    pub fn lost_sequence(&self, sequence: u64, back: usize, timestamp: u32) -> Option<u64> {
        // Timestamps wrap (RFC 3550 §5.1).
        let is_before = |a: u32, b: u32| (b.wrapping_sub(a) as i32) > 0;
        if self.packets.iter().any(|p| p.1 == timestamp) {
            return None;
        }
        let before = self.packets.iter().rfind(|p| is_before(p.1, timestamp))?.0;
        let after = self.packets.iter().find(|p| is_before(timestamp, p.1))?.0;
        // Exact where one packet is missing; else by the count of blocks, of which none is left out in between as a rule.
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
    use crate::red::{RedEncoder, RtpPosition};
    use proptest::prelude::*;

    #[test]
    fn blocks_are_split_or_refused() {
        let packet = [0x80 | 111, 0x0f, 0x00, 2, 111, 7, 8, 9];
        assert_eq!(split_blocks(&packet, 111), Some((vec![(960, &[7, 8][..])], &[9][..])));
        assert_eq!(split_blocks(&packet, 112), None, "another codec");
        for len in 0..7 {
            assert_eq!(split_blocks(&packet[..len], 111), None, "cut after {len}");
        }
        assert_eq!(split_blocks(&[0xff; 200], 0x7f), None, "headers without end");
        assert_eq!(split_blocks(&[111], 111), Some((vec![], &[][..])));
    }

    #[test]
    fn only_lost_packets_have_a_sequence() {
        let mut history = ReceiveHistory::default();
        assert!(history.insert(10, 9600) && history.insert(11, 10560) && !history.insert(10, 9600));
        // 12 and 13 are lost.
        assert!(history.insert(14, 13440));
        assert_eq!(history.lost_sequence(14, 1, 12480), Some(13));
        assert_eq!(history.lost_sequence(14, 2, 11520), Some(12));
        assert_eq!(history.lost_sequence(14, 3, 10560), None, "it came");
        assert_eq!(history.lost_sequence(14, 9, 960), None, "from before the start");
        assert!(history.insert(13, 12480));
        assert_eq!(history.lost_sequence(14, 1, 11520), Some(12), "one packet is missing, however it is counted");
        assert!(history.insert(12, 11520) && !history.insert(12, 11520), "comes after all");
    }

    proptest! {
        #[test]
        fn any_bytes_are_split(packet in proptest::collection::vec(any::<u8>(), 0..200), kind in 0u8..128) {
            if let Some((redundant, own)) = split_blocks(&packet, kind) {
                let sum: usize = redundant.iter().map(|(_, b)| b.len()).sum();
                prop_assert!(sum + own.len() < packet.len());
            }
        }

        /// With two redundant blocks, whatever two in a row get lost are recovered, each once and with its sequence number.
        #[test]
        fn lost_packets_are_recovered(start in any::<u32>(), first in 0u64..1 << 40, lost in proptest::collection::btree_set(2u64..200, 0..40)) {
            let mut red = RedEncoder::default();
            let mut history = ReceiveHistory::default();
            let mut got = std::collections::BTreeMap::new();
            for n in 0..210u64 {
                let position = RtpPosition { sequence: first + n, timestamp: start.wrapping_add(n as u32 * 960) };
                let payload = (n as u16).to_be_bytes();
                let packet = red.wrap(position, &payload, 111, 2, 1000);
                if lost.contains(&n) {
                    continue;
                }
                let (redundant, own) = split_blocks(&packet, 111).unwrap();
                prop_assert!(history.insert(position.sequence, position.timestamp));
                prop_assert!(got.insert(n, own.to_vec()).is_none());
                for (i, (offset, block)) in redundant.iter().enumerate() {
                    let timestamp = position.timestamp.wrapping_sub(*offset);
                    if let Some(sequence) = history.lost_sequence(position.sequence, redundant.len() - i, timestamp) {
                        prop_assert!(history.insert(sequence, timestamp));
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
