//! A source that is open: what all ways to open one come to.

use crate::demuxer::Demultiplexer;
use crate::track_queues::TrackQueues;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// See the [module](self).
pub(crate) struct Source {
    /// Its tracks.
    pub(crate) queues: TrackQueues,
    /// Whether it comes in real time, so that it must not be held up.
    pub(crate) live: bool,
    /// What reads a file: it knows how long that is, and may be able to jump in it.
    pub(crate) file: Option<Arc<Demultiplexer>>,
    /// Whether another machine could go on with it.
    pub(crate) portable: Portable,
}

/// Whether another machine that begins to pull the source now goes on where this one is: what is live has no beginning to play anew. At
/// first it is not so. Clones share one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Portable(Arc<AtomicBool>);

impl Portable {
    /// The source knows now, or knows better.
    pub(crate) fn set(&self, portable: bool) {
        self.0.store(portable, Ordering::Relaxed);
    }

    /// What it knows.
    pub(crate) fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
