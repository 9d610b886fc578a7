//! How late the media is: the one measure by which the child chooses between waiting and dropping.
//!
//! A source that runs ahead (a file, a burst at the start) may be held up without harm: queues fill, the socket fills, the
//! parent feels it. A source in real time may not: what is held up once is late for ever. The two are told apart by comparing
//! media time with the wall clock, against the most timely media of the last while.

use model::MediaTime;
use std::time::{Duration, Instant};

/// How long the most timely media counts. A source that paused, with its timestamps standing still meanwhile, is late for
/// this long and not for ever.
const WINDOW: Duration = Duration::from_secs(10);

/// Measures lateness.
#[derive(Debug)]
pub struct Pace {
    origin: Instant,
    /// Start of the current window, and the least (wall clock − media time) in it and in the one before, in nanoseconds.
    window: Instant,
    current: i64,
    previous: i64,
}

impl Pace {
    /// Starts measuring.
    pub fn new(now: Instant) -> Self {
        Self { origin: now, window: now, current: i64::MAX, previous: i64::MAX }
    }

    /// Takes the time of media that is at hand `now`; gives how late it is.
    pub fn lateness(&mut self, media: MediaTime, now: Instant) -> Duration {
        let passed = i64::try_from(now.saturating_duration_since(self.origin).as_nanos()).unwrap_or(i64::MAX);
        let offset = passed.saturating_sub(media.as_nanos());
        if now.saturating_duration_since(self.window) >= WINDOW {
            self.previous = std::mem::replace(&mut self.current, i64::MAX);
            self.window = now;
        }
        self.current = self.current.min(offset);
        Duration::from_nanos(offset.saturating_sub(self.current.min(self.previous)).max(0).unsigned_abs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(pace: &mut Pace, start: Instant, steps: impl IntoIterator<Item = (u64, i64)>) -> Vec<u128> {
        steps
            .into_iter()
            .map(|(wall, media)| {
                pace.lateness(MediaTime::from_millis(media), start + Duration::from_millis(wall)).as_millis()
            })
            .collect()
    }

    #[test]
    fn a_source_that_runs_ahead_is_never_late() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let late = run(&mut pace, start, (0..1000).map(|i| (i * 5, i as i64 * 40)));
        assert!(late.iter().all(|l| *l == 0));
    }

    #[test]
    fn lateness_is_the_distance_to_the_most_timely() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        assert_eq!(
            run(&mut pace, start, [(0, 500), (40, 540), (380, 580), (400, 600), (400, 900)]),
            [0, 0, 300, 300, 0]
        );
    }

    #[test]
    fn after_a_pause_or_a_jump_back_of_the_timestamps_lateness_is_forgotten_after_two_windows() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let late = run(&mut pace, start, (0..1000).map(|i| (i * 40 + if i > 10 { 3000 } else { 0 }, i as i64 * 40)));
        assert_eq!((late[10], late[11], late[100], late[999]), (0, 3000, 3000, 0));
    }
}
