//! How often and when to try to get into the room, or back into it, and when to give up.

use super::action::Actions;
use crate::Event;
use std::time::{Duration, Instant};

/// How long to try to come back while no media flows (as long as the Go SDK does).
const GIVE_UP_AFTER: Duration = Duration::from_secs(60);
/// Before the n-th attempt, n² times this, but never longer than the other: a server that was started again is found soon.
pub(super) const BACKOFF_UNIT: Duration = Duration::from_millis(300);
pub(super) const MAX_BACKOFF: Duration = Duration::from_secs(2);

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Reconnect {
    start: Instant,
    /// Until when after `start` another attempt at the first join may begin.
    join_window: Duration,
    /// Media has flowed: what breaks now is worth coming back to.
    established: bool,
    /// The session knows that the room is lost.
    reported: bool,
    attempt: u32,
    /// Since when the room is lost.
    away_since: Option<Instant>,
    /// Why the room was lost, or what the last attempt failed of.
    reason: String,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attempt {
    Now,
    At(Instant),
    Never,
}

impl Reconnect {
    pub(super) fn new(join_window: Duration, now: Instant) -> Self {
        Self {
            start: now,
            join_window,
            established: false,
            reported: false,
            attempt: 0,
            away_since: None,
            reason: String::new(),
        }
    }

    /// Whether the room was ever reached with media.
    pub(super) fn is_established(&self) -> bool {
        self.established
    }

    /// Why the room is lost.
    pub(super) fn reason(&self) -> &str {
        &self.reason
    }

    /// How often the first join was tried.
    pub(super) fn attempts(&self) -> u32 {
        self.attempt
    }

    /// The first join came to nothing. When to try it again, if that may help.
    pub(super) fn join_failed(&mut self, may_pass: bool, now: Instant) -> Option<Instant> {
        self.attempt += 1;
        let at = now + self.backoff();
        (may_pass && at < self.start + self.join_window).then_some(at)
    }

    /// The room is lost.
    pub(super) fn lost(&mut self, reason: String, now: Instant, actions: &mut Actions) {
        self.reason = reason;
        self.away_since.get_or_insert(now);
        if !std::mem::replace(&mut self.reported, true) {
            actions.emit(Event::Reconnecting);
        }
    }

    /// An attempt to come back failed of this.
    pub(super) fn failed(&mut self, reason: String) {
        self.reason = reason;
    }

    /// The next attempt comes later than the last one.
    pub(super) fn back_off(&mut self) {
        self.attempt += 1;
    }

    /// The next attempt counts as the first, and the time to give up begins now.
    pub(super) fn start_over(&mut self, now: Instant) {
        self.attempt = 0;
        self.away_since = Some(now);
    }

    /// When to try next. As long as `media_flows` there is no reason to give up.
    pub(super) fn next(&self, media_flows: bool, now: Instant) -> Attempt {
        if !media_flows && self.away_since.is_some_and(|since| now >= since + GIVE_UP_AFTER) {
            Attempt::Never
        } else if self.attempt == 0 {
            Attempt::Now
        } else {
            Attempt::At(now + self.backoff())
        }
    }

    /// All is in the room, and media flows.
    pub(super) fn settled(&mut self, actions: &mut Actions) {
        self.established = true;
        self.attempt = 0;
        self.away_since = None;
        if std::mem::take(&mut self.reported) {
            actions.emit(Event::Reconnected);
        }
    }

    fn backoff(&self) -> Duration {
        BACKOFF_UNIT.saturating_mul(self.attempt.saturating_mul(self.attempt)).min(MAX_BACKOFF)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// However often attempts fail: each waits at least as long as the one before, none longer than the bound, and there is an end.
        #[test]
        fn attempts_back_off_and_end(took in prop::collection::vec(0u64..5_000, 200)) {
            let start = Instant::now();
            let mut reconnect = Reconnect::new(Duration::ZERO, start);
            reconnect.lost("test".into(), start, &mut Actions::default());
            let (mut now, mut before) = (start, Duration::ZERO);
            for ms in took {
                let wait = match reconnect.next(false, now) {
                    Attempt::Now => Duration::ZERO,
                    Attempt::At(at) => at - now,
                    Attempt::Never => {
                        prop_assert!(now >= start + GIVE_UP_AFTER);
                        prop_assert_ne!(reconnect.next(true, now), Attempt::Never);
                        return Ok(());
                    }
                };
                prop_assert!(now < start + GIVE_UP_AFTER && before <= wait && wait <= MAX_BACKOFF);
                now += wait + Duration::from_millis(ms);
                before = wait;
                reconnect.back_off();
            }
            prop_assert!(false, "it never gives up");
        }
    }
}
