//! News that a source can make in floods, and who is told of it: others than this session's room must not suffer from them.

use std::time::{Duration, Instant};

/// Lets the first news through at once, and after that no more than one each period; the newest is never lost.
#[derive(Debug)]
pub(crate) struct Throttle {
    period: Duration,
    last: Option<Instant>,
    waits: bool,
}

impl Throttle {
    /// Nothing is new yet.
    pub(crate) fn new(period: Duration) -> Self {
        Self { period, last: None, waits: false }
    }

    /// Something is new: whether to tell it now. If not, it is to be told when [`Throttle::tell`] says so.
    pub(crate) fn news(&mut self, now: Instant) -> bool {
        self.waits = true;
        self.tell(now)
    }

    /// When to ask [`Throttle::tell`].
    pub(crate) fn due(&self) -> Option<Instant> {
        self.last.filter(|_| self.waits).map(|last| last + self.period)
    }

    /// Whether something waits to be told, and its time has come. It counts as told then.
    pub(crate) fn tell(&mut self, now: Instant) -> bool {
        let tells = self.waits && self.due().is_none_or(|due| now >= due);
        if tells {
            (self.last, self.waits) = (Some(now), false);
        }
        tells
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_told_once_a_period_and_its_end_too() {
        let t0 = Instant::now();
        let at = |ms| t0 + Duration::from_millis(ms);
        let mut seldom = Throttle::new(Duration::from_secs(1));
        assert_eq!((seldom.due(), seldom.tell(at(0))), (None, false));
        let told: Vec<u64> = (0..2_500).filter(|ms| seldom.news(at(*ms))).collect();
        assert_eq!(told, [0, 1_000, 2_000]);
        assert_eq!(seldom.due(), Some(at(3_000)));
        assert!(!seldom.tell(at(2_999)) && seldom.tell(at(3_000)) && !seldom.tell(at(9_000)));
        assert_eq!(seldom.due(), None);
        assert!(seldom.news(at(9_000)), "after a rest at once");
    }
}
