//! The sending side of RED: what each packet repeats, and how many.

use super::position::RtpPosition;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Packets that a packet repeats at most. With one of ten lost, one of a thousand is lost three times in a row.
const MAX_REDUNDANCY: usize = 2;
/// Limits of the fields of a block's header (RFC 2198 §3): 14 bits of timestamp offset, 10 of length.
const MAX_OFFSET: u32 = 1 << 14;
const MAX_BLOCK: usize = 1 << 10;
/// Bytes of the header of a redundant block, and of the primary one (RFC 2198 §3).
const REDUNDANT_HEADER: usize = 4;
const PRIMARY_HEADER: usize = 1;

/// Losses, as the receiver reports them, from which on one packet is repeated, and two. Below the first nobody hears them: a
/// receiver conceals a lost packet of 20 ms. With one of 20 lost and one repeated, one of 400 is heard as lost.
const LOSS_THRESHOLDS: [f32; MAX_REDUNDANCY] = [0.005, 0.04];
/// How long packets are repeated after a report of losses: a report covers a second or a few, in which few audio packets are
/// sent, and many reports cover none that was lost.
const REDUNDANCY_HOLD: Duration = Duration::from_secs(30);

/// How many packets to repeat, by the losses that the receiver reports: repeating costs bits, and a good network needs none of it.
#[derive(Debug, Default)]
pub(crate) struct RedundancyControl {
    /// When each level of redundancy was last needed.
    needed: [Option<Instant>; MAX_REDUNDANCY],
}

impl RedundancyControl {
    /// The receiver reports that so much of what was sent is lost (0 to 1).
    pub(crate) fn report(&mut self, loss: f32, now: Instant) {
        for (needed, least) in self.needed.iter_mut().zip(LOSS_THRESHOLDS) {
            if loss >= least {
                *needed = Some(now);
            }
        }
    }

    /// How many packets each one repeats now.
    pub(crate) fn level(&self, now: Instant) -> usize {
        let needed = |at: &Option<Instant>| at.is_some_and(|at| now.saturating_duration_since(at) < REDUNDANCY_HOLD);
        self.needed.iter().rposition(needed).map_or(0, |level| level + 1)
    }
}

/// Wraps the packets of one stream.
#[derive(Debug, Default)]
pub struct RedEncoder {
    /// The newest packets, as they were handed in.
    sent: VecDeque<(RtpPosition, Vec<u8>)>,
}

impl RedEncoder {
    /// `payload` of this (primary) payload type behind the `level` packets before it. What is too long or too old to be
    /// repeated in `max` bytes is left out with all before it, as a receiver counts blocks to know whose they are.
    pub fn wrap(&mut self, at: RtpPosition, payload: &[u8], payload_type: u8, level: usize, max: usize) -> Vec<u8> {
        let mut len = PRIMARY_HEADER + payload.len();
        let mut redundant = Vec::with_capacity(MAX_REDUNDANCY);
        for back in 1..=level.min(MAX_REDUNDANCY) as u64 {
            let before = |(position, _): &&(RtpPosition, Vec<u8>)| position.sequence + back == at.sequence;
            let Some((position, data)) = self.sent.iter().find(before) else { break };
            // Wraps as RTP timestamps do.
            let offset = at.timestamp.wrapping_sub(position.timestamp);
            len += REDUNDANT_HEADER + data.len();
            if offset >= MAX_OFFSET || data.len() >= MAX_BLOCK || len > max {
                break;
            }
            redundant.push((offset, data));
        }
        let mut out = Vec::with_capacity(len);
        for (offset, data) in redundant.iter().rev() {
            // Both fit, as was checked above.
            let fields = (offset << 10) | data.len() as u32;
            out.push(0x80 | payload_type);
            out.extend_from_slice(&fields.to_be_bytes()[1..]);
        }
        out.push(payload_type);
        redundant.iter().rev().for_each(|(_, data)| out.extend_from_slice(data));
        out.extend_from_slice(payload);
        self.keep(at, payload);
        out
    }

    fn keep(&mut self, at: RtpPosition, payload: &[u8]) {
        if self.sent.len() == MAX_REDUNDANCY {
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

    fn position(n: u64) -> RtpPosition {
        RtpPosition { sequence: 100 + n, timestamp: (u32::MAX - 1000).wrapping_add(n as u32 * 960) }
    }

    #[test]
    fn packets_repeat_those_before() {
        let mut red = RedEncoder::default();
        let mut wrap = |n: u64, repeat| blocks(&red.wrap(position(n), &[n as u8; 3], 111, repeat, 1000));
        assert_eq!(wrap(0, 2), [(0, vec![0; 3])]);
        assert_eq!(wrap(1, 2), [(960, vec![0; 3]), (0, vec![1; 3])]);
        assert_eq!(wrap(2, 2), [(1920, vec![0; 3]), (960, vec![1; 3]), (0, vec![2; 3])]);
        assert_eq!(wrap(3, 1), [(960, vec![2; 3]), (0, vec![3; 3])]);
        assert_eq!(wrap(4, 0), [(0, vec![4; 3])]);
        // One was left out before it: a receiver could not know whose a block is.
        assert_eq!(wrap(6, 2), [(0, vec![6; 3])]);
        assert_eq!(wrap(7, 2), [(960, vec![6; 3]), (0, vec![7; 3])]);
    }

    #[test]
    fn losses_are_remembered() {
        let (mut control, start) = (RedundancyControl::default(), Instant::now());
        let mut at = |seconds: u64, loss: f32| {
            let now = start + Duration::from_secs(seconds);
            control.report(loss, now);
            control.level(now)
        };
        assert_eq!([at(0, 0.0), at(1, 0.01), at(2, 0.0), at(3, 0.05), at(4, 0.01)], [0, 1, 1, 2, 2]);
        assert_eq!([at(32, 0.0), at(33, 0.0), at(34, 0.0)], [2, 1, 0]);
    }

    #[test]
    fn too_old_or_too_long_is_not_repeated() {
        let mut red = RedEncoder::default();
        red.wrap(RtpPosition { sequence: 1, timestamp: 0 }, &[1], 111, 2, 1000);
        assert_eq!(
            blocks(&red.wrap(RtpPosition { sequence: 2, timestamp: MAX_OFFSET }, &[2], 111, 2, 1000)),
            [(0, vec![2])]
        );
        red.wrap(RtpPosition { sequence: 3, timestamp: MAX_OFFSET + 960 }, &[3; MAX_BLOCK], 111, 2, 5000);
        assert_eq!(
            blocks(&red.wrap(RtpPosition { sequence: 4, timestamp: MAX_OFFSET + 1920 }, &[4], 111, 2, 5000)).len(),
            1
        );
        // The nearest one fits, the one before does not.
        red.wrap(RtpPosition { sequence: 5, timestamp: MAX_OFFSET + 2880 }, &[5; 600], 111, 2, 1200);
        red.wrap(RtpPosition { sequence: 6, timestamp: MAX_OFFSET + 3840 }, &[6; 300], 111, 2, 1200);
        let packet = red.wrap(RtpPosition { sequence: 7, timestamp: MAX_OFFSET + 4800 }, &[7; 600], 111, 2, 1200);
        assert_eq!(blocks(&packet).iter().map(|b| b.1.len()).collect::<Vec<_>>(), [300, 600]);
    }

    proptest! {
        #[test]
        fn level_two_covers_two_losses_in_a_row(
            sizes in proptest::collection::vec(1usize..300, 3..40), lost in 0usize..36,
        ) {
            let mut red = RedEncoder::default();
            let packets: Vec<_> = sizes
                .iter()
                .enumerate()
                .map(|(n, size)| blocks(&red.wrap(position(n as u64), &vec![n as u8; *size], 111, 2, 1200)))
                .collect();
            let lost = lost.min(sizes.len() - 3);
            for (n, size) in sizes.iter().enumerate().skip(lost).take(2) {
                prop_assert!(packets[lost + 2].iter().any(|(_, data)| *data == vec![n as u8; *size]));
            }
        }
    }
}
