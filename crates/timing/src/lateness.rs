//! How late media is, measured against the most timely media of the last while: by it a worker chooses between waiting and dropping.
//!
//! A source that runs ahead (a file, a burst at the start) may be held up without harm: queues fill, the socket fills, and the
//! parent feels back-pressure. A source in real time may not: what is held up once stays late. Comparing media time with the wall
//! clock tells the two apart.
//!
//! **May assume** of [`crate::ingest_clock`]: media time only moves forward, at the pace of the wall clock for a live source.

use model::MediaTime;
use std::time::{Duration, Instant};

/// How long the most timely media counts. A source that paused while its timestamps stood still is late for this long, not for ever.
const WINDOW: Duration = Duration::from_secs(10);

/// See the [module](self).
#[derive(Debug)]
pub struct Lateness {
    origin: Instant,
    /// Start of the current window; then the least (wall clock − media time) in it and in the window before, in nanoseconds.
    window: Instant,
    current: i64,
    previous: i64,
}

impl Lateness {
    /// Starts measuring.
    pub fn new(now: Instant) -> Self {
        Self { origin: now, window: now, current: i64::MAX, previous: i64::MAX }
    }

    /// How late media of the time `media` is, which is at hand `now`.
    pub fn of(&mut self, media: MediaTime, now: Instant) -> Duration {
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

    fn run(lateness: &mut Lateness, start: Instant, steps: impl IntoIterator<Item = (u64, i64)>) -> Vec<u128> {
        steps
            .into_iter()
            .map(|(wall, media)| {
                lateness.of(MediaTime::from_millis(media), start + Duration::from_millis(wall)).as_millis()
            })
            .collect()
    }

    #[test]
    fn a_source_that_runs_ahead_is_never_late() {
        let start = Instant::now();
        let mut lateness = Lateness::new(start);
        let late = run(&mut lateness, start, (0..1000).map(|i| (i * 5, i as i64 * 40)));
        assert!(late.iter().all(|l| *l == 0));
    }

    #[test]
    fn lateness_is_the_distance_to_the_most_timely() {
        let start = Instant::now();
        let mut lateness = Lateness::new(start);
        assert_eq!(
            run(&mut lateness, start, [(0, 500), (40, 540), (380, 580), (400, 600), (400, 900)]),
            [0, 0, 300, 300, 0]
        );
    }

    #[test]
    fn lateness_is_forgotten_after_two_windows() {
        let start = Instant::now();
        let mut lateness = Lateness::new(start);
        let late =
            run(&mut lateness, start, (0..1000).map(|i| (i * 40 + if i > 10 { 3000 } else { 0 }, i as i64 * 40)));
        assert_eq!((late[10], late[11], late[100], late[999]), (0, 3000, 3000, 0));
    }
}
