//! Backoff: growing waits between attempts, and the time after which reconnecting to a live source is given up.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The first wait. A server that restarts is often back at once.
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// The longest wait: a source that comes back is picked up within it.
const LONGEST_WAIT: Duration = Duration::from_secs(4);

/// Waits between attempts that bring nothing new; after the last a file, or a segment of one, is given up. Together with the client's own timeouts
/// they bridge a restart of the server. The first attempt comes at once: a server may just have closed a slow connection.
pub(crate) const RETRY_WAITS: [Duration; 6] = [
    Duration::ZERO,
    Duration::from_millis(200),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
];

/// Exponential backoff: each wait is twice the one before, up to four seconds.
#[derive(Clone, Debug)]
pub struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(FIRST_WAIT)
    }
}

impl Backoff {
    /// The wait before the next attempt.
    pub fn wait(&self) -> Duration {
        self.0
    }

    /// Doubles the wait, after an attempt that failed.
    pub fn grow(&mut self) {
        self.0 = (self.0 * 2).min(LONGEST_WAIT);
    }
}

/// Backoff with an end: counts the time since the first of a row of faults.
#[derive(Clone, Debug)]
pub(crate) struct Reconnect {
    limit: Duration,
    failing_since: Option<Instant>,
    backoff: Backoff,
}

impl Reconnect {
    /// Gives up `limit` after the first fault.
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit, failing_since: None, backoff: Backoff::default() }
    }

    /// Media came: the next fault is the first of a new row.
    pub(crate) fn succeeded(&mut self) {
        (self.failing_since, self.backoff) = (None, Backoff::default());
    }

    /// Whether no media has come since a fault.
    pub(crate) fn is_failing(&self) -> bool {
        self.failing_since.is_some()
    }

    /// After a fault: how long to wait before the next attempt; `None` to give up.
    pub(crate) fn failed(&mut self, now: Instant) -> Option<Duration> {
        let since = *self.failing_since.get_or_insert(now);
        let left = self.limit.checked_sub(now.saturating_duration_since(since)).filter(|left| !left.is_zero())?;
        let wait = self.backoff.wait().min(left);
        self.backoff.grow();
        Some(wait)
    }
}

/// Ends the waits of all renditions of a presentation as soon as one of them is served again, so that they are joined again in one place.
#[derive(Clone, Debug, Default)]
pub(crate) struct Served(Arc<(Mutex<u64>, Condvar)>);

impl Served {
    /// A rendition is served again.
    pub(crate) fn announce(&self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.1.notify_all();
    }

    /// Waits for `wait`, or until a rendition is served again.
    pub(crate) fn wait(&self, wait: Duration) {
        let count = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = *count;
        drop(self.0.1.wait_timeout_while(count, wait, |now| *now == before));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_wait_ends_when_another_rendition_is_served() {
        let served = Served::default();
        served.announce();
        let begin = Instant::now();
        served.wait(Duration::from_millis(20));
        assert!(begin.elapsed() >= Duration::from_millis(20), "what was before does not count");
        let other = served.clone();
        let (tell, told) = std::sync::mpsc::channel();
        let waits = std::thread::spawn(move || {
            tell.send(()).unwrap();
            other.wait(SECOND * 1000);
        });
        told.recv().unwrap();
        while !waits.is_finished() {
            served.announce();
            std::thread::yield_now();
        }
        waits.join().unwrap();
    }

    #[test]
    fn waits_grow_up_to_the_limit() {
        let mut reconnect = Reconnect::new(SECOND * 10);
        let begin = Instant::now();
        let (mut now, mut waits) = (begin, Vec::new());
        while let Some(wait) = reconnect.failed(now) {
            now += wait;
            waits.push(wait.as_millis());
        }
        assert_eq!((waits, now), (vec![250, 500, 1000, 2000, 4000, 2250], begin + SECOND * 10));
        assert!(reconnect.is_failing() && reconnect.failed(now).is_none());
        reconnect.succeeded();
        assert!(!reconnect.is_failing());
        assert_eq!(reconnect.failed(now + SECOND), Some(FIRST_WAIT), "a new row of faults");
        assert_eq!(Reconnect::new(Duration::ZERO).failed(now), None);
    }
}
