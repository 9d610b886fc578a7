//! A source that is open: what all ways to open one come to.

use crate::demuxer::Demultiplexer;
use crate::track_queues::TrackQueues;

/// See the [module](self).
pub(crate) struct Source {
    /// Its tracks.
    pub(crate) queues: TrackQueues,
    /// Whether it comes in real time, so that it must not be held up.
    pub(crate) live: bool,
    /// What reads a file at any offset, and can jump in it.
    pub(crate) file: Option<Demultiplexer>,
}
