//! How a connection or segment moves the timestamps of its frames to the timeline of the source.

use model::Kind;
use std::sync::Arc;
use timing::rebase::Rebase;

/// What is to be added to a frame's times to move them to the source's timeline, in nanoseconds.
pub(crate) type TimeShift = Arc<dyn Fn(FrameStamp) -> i64 + Send + Sync>;

/// The times of a frame as demultiplexed, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameStamp {
    pub(crate) kind: Kind,
    /// Its DTS, or its PTS where only that is known.
    pub(crate) at: i64,
    /// How long after `at` it has been shown, as far as that is known.
    pub(crate) duration: i64,
    /// By how much `at` is less than the container's own time, which counts from elsewhere.
    pub(crate) container_offset: i64,
}

/// Times as they are.
pub(crate) fn none() -> TimeShift {
    Arc::new(|_| 0)
}

/// Times of which the first becomes `to` (nanoseconds).
pub(crate) fn rebased(to: i64) -> TimeShift {
    let rebase = Rebase::new(to);
    Arc::new(move |stamp| rebase.offset(stamp.kind, stamp.at))
}

/// Times as they are, but for a track whose clock is far from the other's.
pub(crate) fn together() -> TimeShift {
    let rebase = Rebase::as_they_are();
    Arc::new(move |stamp| rebase.offset(stamp.kind, stamp.at))
}
