//! A source that is open: what all ways to open one come to.

use crate::demuxer::Demultiplexer;
use crate::track_queues::TrackQueues;
use std::sync::Arc;

/// See the [module](self).
pub(crate) struct Source {
    /// Its tracks.
    pub(crate) queues: TrackQueues,
    /// Whether it comes in real time, so that it must not be held up.
    pub(crate) live: bool,
    /// What reads a file: it knows how long that is, and may be able to jump in it.
    pub(crate) file: Option<Arc<Demultiplexer>>,
}
