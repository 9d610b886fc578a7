//! Bounds how often something is sent on that a source can change in floods: reports to the control plane, attributes of the
//! participant. Pure: `now` goes in.

use std::time::{Duration, Instant};

/// Lets the first change through at once, and after that one each period at most. The newest is never lost.
#[derive(Debug)]
pub(crate) struct Throttle {
    period: Duration,
    last: Option<Instant>,
    pending: bool,
}

impl Throttle {
    /// Nothing has changed yet.
    pub(crate) fn new(period: Duration) -> Self {
        Self { period, last: None, pending: false }
    }

    /// Something changes. Whether to send it now; if not, [`Throttle::tick`] says when.
    pub(crate) fn changed(&mut self, now: Instant) -> bool {
        self.pending = true;
        self.tick(now)
    }

    /// When to call [`Throttle::tick`].
    pub(crate) fn due(&self) -> Option<Instant> {
        self.last.filter(|_| self.pending).map(|last| last + self.period)
    }

    /// Whether a change is pending and its time has come. It counts as sent then.
    pub(crate) fn tick(&mut self, now: Instant) -> bool {
        let sends = self.pending && self.due().is_none_or(|due| now >= due);
        if sends {
            (self.last, self.pending) = (Some(now), false);
        }
        sends
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_passes_once_a_period_and_its_end_too() {
        let t0 = Instant::now();
        let at = |ms| t0 + Duration::from_millis(ms);
        let mut throttle = Throttle::new(Duration::from_secs(1));
        assert_eq!((throttle.due(), throttle.tick(at(0))), (None, false));
        let sent: Vec<u64> = (0..2_500).filter(|ms| throttle.changed(at(*ms))).collect();
        assert_eq!(sent, [0, 1_000, 2_000]);
        assert_eq!(throttle.due(), Some(at(3_000)));
        assert!(!throttle.tick(at(2_999)) && throttle.tick(at(3_000)) && !throttle.tick(at(9_000)));
        assert_eq!(throttle.due(), None);
        assert!(throttle.changed(at(9_000)), "after a rest at once");
    }
}
