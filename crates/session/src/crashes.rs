//! How often children may crash: what kills each of them must not keep the machine busy. For those that transcode and those that
//! pull alike.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// So many crashes within [`CRASH_WINDOW`] are too many: viewers hardly notice one, but a source that kills each child is better
/// told so.
pub(crate) const MAX_CRASHES: usize = 3;
/// See [`MAX_CRASHES`].
const CRASH_WINDOW: Duration = Duration::from_secs(60);

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
