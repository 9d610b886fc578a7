//! How often workers may crash: what kills each of them must not keep the machine busy; and the backoff where none can be started.
//! The same for both roles.

use model::{Blame, Fault};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Crashes within [`CRASH_WINDOW`] that are too many: viewers hardly notice one, but a source that kills each worker is better
/// told so.
pub(crate) const MAX_CRASHES: usize = 3;
/// See [`MAX_CRASHES`].
const CRASH_WINDOW: Duration = Duration::from_secs(60);

/// Waits before another attempt where no worker could be started: a machine that is out of processes, memory or descriptors, or
/// whose program is just being replaced, is mostly back within seconds. Eight seconds in all: encoders wait longer before they give up.
const START_BACKOFF: [Duration; 5] = [
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
];

/// Attempts to start a worker that failed, in a row.
#[derive(Clone, Debug, Default)]
pub(crate) struct Starts(usize);

impl Starts {
    /// Another has failed; how long to wait before the next. `None`: enough.
    pub(crate) fn failed(&mut self) -> Option<Duration> {
        let wait = START_BACKOFF.get(self.0).copied();
        self.0 += 1;
        wait
    }

    /// One came up, whatever became of it.
    pub(crate) fn succeeded(&mut self) {
        self.0 = 0;
    }
}

/// What to say after the last attempt.
pub(crate) fn not_started(what: &str, how: &str) -> Fault {
    let tries = START_BACKOFF.len() + 1;
    let text = format!(
        "{what} could not be started in {tries} attempts ({how}); try again later, and tell whoever runs the server"
    );
    Fault::transient(Blame::Us, text)
}

/// When children crashed of late.
#[derive(Clone, Debug, Default)]
pub(crate) struct Crashes(VecDeque<Instant>);

impl Crashes {
    /// Counts one at `now`; whether it is one too many.
    pub(crate) fn too_many(&mut self, now: Instant) -> bool {
        self.0.push_back(now);
        self.0.retain(|at| now.saturating_duration_since(*at) <= CRASH_WINDOW);
        self.0.len() >= MAX_CRASHES
    }
}
