//! The sender's clock as seen from ours: from RTP timestamps and RTCP sender reports to the moment at which something was
//! taken, the same line for sound and picture, so that lips match. Pure.
//!
//! Without a report a stream's timestamps are tied to the earliest arrival they explain; with one, to the sender's own wall
//! clock (RFC 3550 §6.4.1), which in turn is tied to ours by the fastest report seen.

use std::time::{Duration, Instant};

/// The delay of the fastest report may be outdone by slower ones for so long before the clocks are taken to have drifted.
const DRIFT_EVERY: Duration = Duration::from_secs(10);
/// How far the tie follows then: 100 ppm, what crystals differ by.
const DRIFT_STEP: i128 = 1_000_000;
/// A tie that is off by more than this is no drift: the sender's clock was set.
const SET: i128 = 2_000_000_000;

/// The wall clock that a session's streams share.
#[derive(Debug)]
pub struct Clock {
    origin: Instant,
    /// Our time minus the sender's wall clock, in ns, of the fastest report.
    tie: Option<i128>,
    moved: Instant,
}

/// One stream's timestamps.
#[derive(Debug)]
pub struct Ticks {
    rate: u32,
    /// The newest timestamp, without wrap-arounds.
    last: Option<i64>,
    /// Our time minus media time in ns, by the earliest arrival.
    arrival: Option<i128>,
    /// A timestamp and the sender's wall clock for it, in ns.
    report: Option<(i64, i128)>,
}

impl Clock {
    /// A clock that has seen nothing.
    pub fn new(now: Instant) -> Self {
        Self { origin: now, tie: None, moved: now }
    }

    /// Takes a report that arrived at `now`: `timestamp` of `ticks` belongs to `wall`, the sender's time since any epoch.
    pub fn report(&mut self, ticks: &mut Ticks, timestamp: u32, wall: Duration, now: Instant) {
        let wall = i128::try_from(wall.as_nanos()).unwrap_or(i128::MAX / 2);
        let extended = ticks.extend(timestamp);
        ticks.report = Some((extended, wall));
        let seen = self.nanos(now) - wall;
        let tie = *self.tie.get_or_insert(seen);
        if seen < tie || seen > tie + SET {
            (self.tie, self.moved) = (Some(seen), now);
        } else if now.saturating_duration_since(self.moved) >= DRIFT_EVERY {
            (self.tie, self.moved) = (Some(seen.min(tie + DRIFT_STEP)), now);
        }
    }

    /// When what belongs to `timestamp` was taken; it arrived at `now`. Never later than that.
    pub fn at(&mut self, ticks: &mut Ticks, timestamp: u32, now: Instant) -> Instant {
        let extended = ticks.extend(timestamp);
        let arrived = self.nanos(now);
        let media = ticks.nanos(extended);
        let earliest = ticks.arrival.get_or_insert(arrived - media);
        *earliest = (*earliest).min(arrived - media);
        let at = match (ticks.report, self.tie) {
            (Some((timestamp, wall)), Some(tie)) => {
                let taken = wall + media - ticks.nanos(timestamp);
                // It came faster than any report: that is the tie, lest time jitters as the network does.
                let tie = if taken + tie > arrived && taken + tie < arrived + SET { arrived - taken } else { tie };
                self.tie = Some(tie);
                taken + tie
            }
            _ => media + *earliest,
        };
        // What is older than this is nonsense of the sender's.
        let at = at.clamp(arrived - SET, arrived);
        self.origin + Duration::from_nanos(u64::try_from(at).unwrap_or(0))
    }

    fn nanos(&self, at: Instant) -> i128 {
        i128::try_from(at.saturating_duration_since(self.origin).as_nanos()).unwrap_or(i128::MAX / 2)
    }
}

impl Ticks {
    /// Of a clock with `rate` ticks a second.
    pub fn new(rate: u32) -> Self {
        Self { rate, last: None, arrival: None, report: None }
    }

    /// Forgets what belonged to another numbering.
    pub fn restart(&mut self) {
        *self = Self::new(self.rate);
    }

    /// The timestamp without wrap-arounds: the one nearest to the newest.
    pub fn extend(&mut self, timestamp: u32) -> i64 {
        let last = *self.last.get_or_insert(i64::from(timestamp));
        // Wraps as the difference of two timestamps does (RFC 3550 §5.1).
        let extended = last + i64::from(timestamp.wrapping_sub(last as u32) as i32);
        self.last = Some(last.max(extended));
        extended
    }

    fn nanos(&self, extended: i64) -> i128 {
        i128::from(extended) * 1_000_000_000 / i128::from(self.rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn reports_bring_sound_and_picture_together() {
        let t0 = Instant::now();
        let mut clock = Clock::new(t0);
        let (mut audio, mut video) = (Ticks::new(48_000), Ticks::new(90_000));
        // Both were taken at the sender's second 1000; the picture took 80 ms longer to come.
        let (sound, picture) =
            (clock.at(&mut audio, 7, t0 + MS * 20), clock.at(&mut video, u32::MAX - 10, t0 + MS * 100));
        assert_eq!(picture - sound, MS * 80, "nothing else is known yet");
        let wall = Duration::from_secs(1000);
        clock.report(&mut audio, 7, wall, t0 + MS * 120);
        clock.report(&mut video, u32::MAX - 10, wall, t0 + MS * 120);
        let later = t0 + MS * 1120;
        let sound = clock.at(&mut audio, 7 + 48_000, later);
        let picture = clock.at(&mut video, (u32::MAX - 10).wrapping_add(90_000), later);
        assert_eq!(sound, picture);
    }

    #[test]
    fn a_slow_report_moves_nothing_and_a_clock_that_was_set_does() {
        let t0 = Instant::now();
        let mut clock = Clock::new(t0);
        let mut audio = Ticks::new(48_000);
        clock.report(&mut audio, 0, Duration::from_secs(50), t0);
        let before = clock.at(&mut audio, 48_000, t0 + MS * 1500);
        clock.report(&mut audio, 48_000, Duration::from_secs(51), t0 + MS * 1400);
        assert_eq!(clock.at(&mut audio, 48_000, t0 + MS * 1500), before);
        clock.report(&mut audio, 96_000, Duration::from_secs(2), t0 + MS * 2000);
        assert_eq!(clock.at(&mut audio, 96_000, t0 + MS * 2000), t0 + MS * 2000);
    }

    proptest! {
        #[test]
        fn nothing_is_taken_after_it_came(steps in proptest::collection::vec((any::<u32>(), 0u64..500, any::<bool>(), any::<u64>()), 1..60)) {
            let mut now = Instant::now();
            let mut clock = Clock::new(now);
            let mut ticks = Ticks::new(90_000);
            for (timestamp, pause, report, wall) in steps {
                now += Duration::from_millis(pause);
                if report {
                    clock.report(&mut ticks, timestamp, Duration::from_nanos(wall), now);
                }
                prop_assert!(clock.at(&mut ticks, timestamp, now) <= now);
            }
        }
    }
}
