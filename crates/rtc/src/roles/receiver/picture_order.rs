//! Notices B-frames in packets that are passed through: RTP timestamps are those of presentation, and go back where pictures come in
//! another order than they are shown in. Pure: `now` goes in.

use std::time::{Duration, Instant};

/// Steps back before they count: a clock that was set steps back once.
const MIN_STEPS: u32 = 4;
/// A longer step back (ticks of 90 kHz) is no reordering: no encoder reorders over a second.
const MAX_STEP: u32 = 90_000;
/// Between two tellings.
const INTERVAL: Duration = Duration::from_secs(1);

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct PictureOrder {
    /// Sequence number and timestamp of the newest packet.
    newest: Option<(u64, u32)>,
    steps: u32,
    told: Option<Instant>,
}

impl PictureOrder {
    /// Takes a packet's sequence number, which is extended, and its timestamp. Whether B-frames are to be told of now.
    pub(super) fn reordered(&mut self, sequence: u64, timestamp: u32, now: Instant) -> bool {
        let before = match self.newest {
            // It was late.
            Some((newest, _)) if sequence <= newest => return false,
            newest => newest.map_or(timestamp, |(_, before)| before),
        };
        self.newest = Some((sequence, timestamp));
        let back = before.wrapping_sub(timestamp);
        if back == 0 || back > MAX_STEP {
            return false;
        }
        self.steps += 1;
        let due = self.told.is_none_or(|at| now.saturating_duration_since(at) >= INTERVAL);
        if self.steps < MIN_STEPS || !due {
            return false;
        }
        self.told = Some(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(timestamps: impl Iterator<Item = u32>) -> usize {
        let (mut order, t0) = (PictureOrder::default(), Instant::now());
        let mut told = 0;
        for (n, timestamp) in timestamps.enumerate() {
            let now = t0 + Duration::from_millis(33) * n as u32;
            // Two packets a picture.
            told += usize::from(order.reordered(2 * n as u64, timestamp, now));
            told += usize::from(order.reordered(2 * n as u64 + 1, timestamp, now));
        }
        told
    }

    #[test]
    fn b_frames_are_told_once_a_second() {
        // 3 1 2 6 4 5 9 ...
        let places = (0..100u32).flat_map(|n| [3, 1, 2].map(|at| 3 * n + at));
        let told_of_b_frames = told(places.map(|n| n.wrapping_mul(3_000).wrapping_sub(60_000)));
        assert!((8..=10).contains(&told_of_b_frames), "{told_of_b_frames}");
        assert_eq!(told((0..300).map(|n| n * 3_000)), 0);
        // A clock that is set back now and then.
        assert_eq!(told((0..300).map(|n| n * 3_000 % 400_000)), 0);
    }

    #[test]
    fn packets_that_come_late_are_none() {
        let (mut order, now) = (PictureOrder::default(), Instant::now());
        for n in (0..200u64).step_by(2) {
            assert!(!order.reordered(n + 1, (n as u32 + 1) * 3_000, now));
            assert!(!order.reordered(n, n as u32 * 3_000, now));
        }
    }
}
