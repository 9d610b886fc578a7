//! For how long what is live is tried again when it breaks: with growing waits, until nothing has come for too long. Pure.

use std::time::{Duration, Instant};

/// The first wait; each is twice the one before.
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// The longest.
const LONGEST_WAIT: Duration = Duration::from_secs(4);

/// The waits between attempts at what is live: each twice the one before, up to four seconds.
#[derive(Clone, Debug)]
pub struct Waits(Duration);

impl Default for Waits {
    fn default() -> Self {
        Self(FIRST_WAIT)
    }
}

impl Waits {
    /// How long to wait before the attempt that comes.
    pub fn now(&self) -> Duration {
        self.0
    }

    /// That attempt was in vain, too.
    pub fn grow(&mut self) {
        self.0 = (self.0 * 2).min(LONGEST_WAIT);
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Patience {
    most: Duration,
    since: Option<Instant>,
    waits: Waits,
}

impl Patience {
    /// One that lasts for `most` from the first fault on.
    pub(crate) fn new(most: Duration) -> Self {
        Self { most, since: None, waits: Waits::default() }
    }

    /// Something came: the next fault is the first of another trouble.
    pub(crate) fn came(&mut self) {
        (self.since, self.waits) = (None, Waits::default());
    }

    /// Whether nothing has come since a fault.
    pub(crate) fn troubled(&self) -> bool {
        self.since.is_some()
    }

    /// After a fault: how long to wait before the next attempt; `None` if that was the last.
    pub(crate) fn wait(&mut self, now: Instant) -> Option<Duration> {
        let since = *self.since.get_or_insert(now);
        let left = self.most.checked_sub(now.saturating_duration_since(since)).filter(|left| !left.is_zero())?;
        let wait = self.waits.now().min(left);
        self.waits.grow();
        Some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn waits_grow_and_end_with_the_time() {
        let mut patience = Patience::new(SECOND * 10);
        let begin = Instant::now();
        let (mut now, mut waits) = (begin, Vec::new());
        while let Some(wait) = patience.wait(now) {
            now += wait;
            waits.push(wait.as_millis());
        }
        assert_eq!((waits, now), (vec![250, 500, 1000, 2000, 4000, 2250], begin + SECOND * 10));
        assert!(patience.troubled() && patience.wait(now).is_none());
        patience.came();
        assert!(!patience.troubled());
        assert_eq!(patience.wait(now + SECOND), Some(FIRST_WAIT), "counted anew");
        assert_eq!(Patience::new(Duration::ZERO).wait(now), None);
    }
}
