//! A bound on log lines about strangers.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lines about strangers in each [`LOG_WINDOW`]: enough to see who it is and to help an operator with a mistyped key, too few
/// to fill a disk.
const LOG_LINES: u32 = 20;
/// See [`LOG_LINES`].
const LOG_WINDOW: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Debug, Default)]
pub struct LogBudget(Mutex<LogWindow>);

#[derive(Debug, Default)]
struct LogWindow {
    since: Option<Instant>,
    lines: u32,
    left_out: u64,
}

impl LogBudget {
    /// Whether one more line may be logged; if so, how many were left out before it.
    pub fn may_log(&self) -> Option<u64> {
        self.may_log_at(Instant::now())
    }

    fn may_log_at(&self, now: Instant) -> Option<u64> {
        let mut log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if log.since.is_none_or(|s| now - s >= LOG_WINDOW) {
            (log.since, log.lines) = (Some(now), 0);
        }
        if log.lines >= LOG_LINES {
            log.left_out += 1;
            return None;
        }
        log.lines += 1;
        Some(std::mem::take(&mut log.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_bounded_and_the_rest_counted() {
        let (log, now) = (LogBudget::default(), Instant::now());
        let logged = (0..LOG_LINES + 3).filter_map(|_| log.may_log_at(now)).count();
        assert_eq!(logged as u32, LOG_LINES);
        assert_eq!(log.may_log_at(now + LOG_WINDOW), Some(3));
    }
}
