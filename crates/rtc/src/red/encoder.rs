//! Redundant sound (RFC 2198): each packet repeats the ones before it, so that what gets lost on the way need not be asked for.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Packets a packet can repeat at the most. With one of ten lost, one of a thousand is lost three times in a row.
const MOST_REPEATED: usize = 2;
/// Where the fields of a block's header end (RFC 2198 §3): 14 bits of timestamp offset, 10 of length.
const MAX_OFFSET: u32 = 1 << 14;
const MAX_BLOCK: usize = 1 << 10;
/// Bytes of a header of a repeated block, and of the last one.
const HEADER: usize = 4;
const LAST_HEADER: usize = 1;

/// Losses, as the receiver reports them, from which on one packet is repeated, and two. Below the first nobody hears them: a
/// receiver makes up for a lost packet of 20 ms. With one of 20 lost and one repeated, one of 400 is heard as lost.
const LOSSES: [f32; MOST_REPEATED] = [0.005, 0.04];
/// How long after a report of losses packets are repeated: reports tell of a second or some each, in which few packets of sound
/// are sent, and many of them none of which was lost.
const WARY: Duration = Duration::from_secs(30);

/// How many packets to repeat, by what the receiver reports: repeating costs bits, and a good network needs none of it.
#[derive(Debug, Default)]
pub(crate) struct Repeating {
    /// When each number of repeated packets was last needed.
    needed: [Option<Instant>; MOST_REPEATED],
}

impl Repeating {
    /// The receiver reports that of each packet sent so much was lost (0 to 1).
    pub(crate) fn note(&mut self, loss: f32, now: Instant) {
        for (needed, least) in self.needed.iter_mut().zip(LOSSES) {
            if loss >= least {
                *needed = Some(now);
            }
        }
    }

    /// How many packets each one repeats now.
    pub(crate) fn count(&self, now: Instant) -> usize {
        let needed = |at: &Option<Instant>| at.is_some_and(|at| now.saturating_duration_since(at) < WARY);
        self.needed.iter().rposition(needed).map_or(0, |level| level + 1)
    }
}

/// What a packet of sound is sent with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Sequence number, with its roll-overs.
    pub sequence: u64,
    /// Timestamp, which wraps.
    pub timestamp: u32,
}

/// Wraps the packets of one stream.
#[derive(Debug, Default)]
pub struct Red {
    /// The newest packets, as they were handed in.
    sent: VecDeque<(Place, Vec<u8>)>,
}

impl Red {
    /// `payload` of this (primary) payload type behind the `repeat` packets before it. What is too long or too old to be
    /// repeated in `most` bytes is left out with all before it, as a receiver counts blocks to know whose they are.
    pub fn wrap(&mut self, at: Place, payload: &[u8], payload_type: u8, repeat: usize, most: usize) -> Vec<u8> {
        let mut len = LAST_HEADER + payload.len();
        let mut repeated = Vec::with_capacity(MOST_REPEATED);
        for back in 1..=repeat.min(MOST_REPEATED) as u64 {
            let before = |(place, _): &&(Place, Vec<u8>)| place.sequence + back == at.sequence;
            let Some((place, data)) = self.sent.iter().find(before) else { break };
            // Wraps as RTP timestamps do.
            let offset = at.timestamp.wrapping_sub(place.timestamp);
            len += HEADER + data.len();
            if offset >= MAX_OFFSET || data.len() >= MAX_BLOCK || len > most {
                break;
            }
            repeated.push((offset, data));
        }
        let mut out = Vec::with_capacity(len);
        for (offset, data) in repeated.iter().rev() {
            // Both fit, as was looked at above.
            let fields = (offset << 10) | data.len() as u32;
            out.push(0x80 | payload_type);
            out.extend_from_slice(&fields.to_be_bytes()[1..]);
        }
        out.push(payload_type);
        repeated.iter().rev().for_each(|(_, data)| out.extend_from_slice(data));
        out.extend_from_slice(payload);
        self.keep(at, payload);
        out
    }

    fn keep(&mut self, at: Place, payload: &[u8]) {
        if self.sent.len() == MOST_REPEATED {
            self.sent.pop_front();
        }
        self.sent.push_back((at, payload.to_vec()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The blocks of a packet, with how long before it they were.
    fn blocks(packet: &[u8]) -> Vec<(u32, Vec<u8>)> {
        let (mut at, mut heads) = (0, Vec::new());
        while packet[at] & 0x80 != 0 {
            assert_eq!(packet[at] & 0x7f, 111);
            let fields = u32::from_be_bytes([0, packet[at + 1], packet[at + 2], packet[at + 3]]);
            heads.push((fields >> 10, (fields & 0x3ff) as usize));
            at += 4;
        }
        assert_eq!(packet[at], 111);
        at += 1;
        let mut found = Vec::new();
        for (offset, len) in heads {
            found.push((offset, packet[at..at + len].to_vec()));
            at += len;
        }
        found.push((0, packet[at..].to_vec()));
        found
    }

    fn place(n: u64) -> Place {
        Place { sequence: 100 + n, timestamp: (u32::MAX - 1000).wrapping_add(n as u32 * 960) }
    }

    #[test]
    fn each_packet_repeats_those_before_it() {
        let mut red = Red::default();
        let mut wrap = |n: u64, repeat| blocks(&red.wrap(place(n), &[n as u8; 3], 111, repeat, 1000));
        assert_eq!(wrap(0, 2), [(0, vec![0; 3])]);
        assert_eq!(wrap(1, 2), [(960, vec![0; 3]), (0, vec![1; 3])]);
        assert_eq!(wrap(2, 2), [(1920, vec![0; 3]), (960, vec![1; 3]), (0, vec![2; 3])]);
        assert_eq!(wrap(3, 1), [(960, vec![2; 3]), (0, vec![3; 3])]);
        assert_eq!(wrap(4, 0), [(0, vec![4; 3])]);
        // One was left out before it: whose a block is could not be told.
        assert_eq!(wrap(6, 2), [(0, vec![6; 3])]);
        assert_eq!(wrap(7, 2), [(960, vec![6; 3]), (0, vec![7; 3])]);
    }

    #[test]
    fn losses_are_remembered_for_a_while() {
        let (mut repeating, start) = (Repeating::default(), Instant::now());
        let mut at = |seconds: u64, loss: f32| {
            let now = start + Duration::from_secs(seconds);
            repeating.note(loss, now);
            repeating.count(now)
        };
        assert_eq!([at(0, 0.0), at(1, 0.01), at(2, 0.0), at(3, 0.05), at(4, 0.01)], [0, 1, 1, 2, 2]);
        assert_eq!([at(32, 0.0), at(33, 0.0), at(34, 0.0)], [2, 1, 0]);
    }

    #[test]
    fn what_is_too_old_or_too_long_is_not_repeated() {
        let mut red = Red::default();
        red.wrap(Place { sequence: 1, timestamp: 0 }, &[1], 111, 2, 1000);
        assert_eq!(blocks(&red.wrap(Place { sequence: 2, timestamp: MAX_OFFSET }, &[2], 111, 2, 1000)), [(0, vec![2])]);
        red.wrap(Place { sequence: 3, timestamp: MAX_OFFSET + 960 }, &[3; MAX_BLOCK], 111, 2, 5000);
        assert_eq!(blocks(&red.wrap(Place { sequence: 4, timestamp: MAX_OFFSET + 1920 }, &[4], 111, 2, 5000)).len(), 1);
        // The nearest one fits, the one before does not.
        red.wrap(Place { sequence: 5, timestamp: MAX_OFFSET + 2880 }, &[5; 600], 111, 2, 1200);
        red.wrap(Place { sequence: 6, timestamp: MAX_OFFSET + 3840 }, &[6; 300], 111, 2, 1200);
        let packet = red.wrap(Place { sequence: 7, timestamp: MAX_OFFSET + 4800 }, &[7; 600], 111, 2, 1200);
        assert_eq!(blocks(&packet).iter().map(|b| b.1.len()).collect::<Vec<_>>(), [300, 600]);
    }

    proptest! {
        #[test]
        fn with_two_repeated_any_two_lost_in_a_row_are_there(
            sizes in proptest::collection::vec(1usize..300, 3..40), lost in 0usize..36,
        ) {
            let mut red = Red::default();
            let packets: Vec<_> = sizes
                .iter()
                .enumerate()
                .map(|(n, size)| blocks(&red.wrap(place(n as u64), &vec![n as u8; *size], 111, 2, 1200)))
                .collect();
            let lost = lost.min(sizes.len() - 3);
            for (n, size) in sizes.iter().enumerate().skip(lost).take(2) {
                prop_assert!(packets[lost + 2].iter().any(|(_, data)| *data == vec![n as u8; *size]));
            }
        }
    }
}
