//! The playback clock of a pull: when what was demultiplexed leaves the worker, and with which times.
//!
//! A file is played at the pace of the wall clock. If its next frame is not there when it is due, the clock stands still until it comes:
//! the timeline stretches, and nothing is skipped. What a live source pauses, and what was missed while it was joined again, moves the
//! clock as well.
//!
//! **May assume** of [`crate::decode_order`] and [`crate::hls_clock`]: DTS of all tracks are on one timeline that begins anywhere.

use model::MediaTime;
use std::time::Instant;

/// See the [module](self). Source times are nanoseconds.
#[derive(Debug)]
pub struct PlaybackClock {
    start: Instant,
    /// The source time that was due at `start`.
    base: i64,
    /// How long the clock stood still in all, less what was skipped.
    stalled: i64,
}

impl PlaybackClock {
    /// The source time `base` is due at `now`.
    pub fn new(base: i64, now: Instant) -> Self {
        Self { start: now, base, stalled: 0 }
    }

    /// The source time that is due at `now`.
    pub fn due(&self, now: Instant) -> i64 {
        self.base.saturating_add(self.elapsed(now)).saturating_sub(self.stalled)
    }

    /// How long it has been played for in all, in nanoseconds.
    pub fn elapsed(&self, now: Instant) -> i64 {
        i64::try_from(now.saturating_duration_since(self.start).as_nanos()).unwrap_or(i64::MAX)
    }

    /// The clock stood still for `by` nanoseconds more.
    pub fn stall(&mut self, by: i64) {
        self.stalled = self.stalled.saturating_add(by);
    }

    /// `by` nanoseconds of the source do not exist: what follows is due at once.
    pub fn skip(&mut self, by: i64) {
        self.stalled = self.stalled.saturating_sub(by);
    }

    /// A live source has paused for `paused` nanoseconds in all ([`crate::jitter_delay`]).
    pub fn set_paused(&mut self, paused: i64) {
        self.stalled = paused;
    }

    /// A source time on the timeline that leaves the worker: zero at `start`.
    pub fn map(&self, time: i64) -> MediaTime {
        MediaTime::from_nanos(time.saturating_sub(self.base).saturating_add(self.stalled))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_stall_stretches_the_timeline_and_a_gap_shortens_it() {
        let (start, ms) = (Instant::now(), 1_000_000);
        let after = |by: u64| start + Duration::from_millis(by);
        let mut clock = PlaybackClock::new(5_000 * ms, start);
        assert_eq!((clock.due(start), clock.map(5_000 * ms)), (5_000 * ms, MediaTime::ZERO));
        assert_eq!(clock.due(after(40)), 5_040 * ms);
        clock.stall(300 * ms);
        assert_eq!((clock.due(after(340)), clock.map(5_040 * ms)), (5_040 * ms, MediaTime::from_millis(340)));
        clock.skip(8_000 * ms);
        assert_eq!((clock.due(after(340)), clock.map(13_040 * ms)), (13_040 * ms, MediaTime::from_millis(340)));
        clock.set_paused(0);
        assert_eq!((clock.due(after(340)), clock.elapsed(after(340))), (5_340 * ms, 340 * ms));
    }
}
