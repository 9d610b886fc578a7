//! The clock of an HLS presentation, shared by the threads that read one rendition each: it lets the first to come to a run of segments
//! wait for the others.

use crate::sync::lock;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Instant;
use timing::hls_clock::{FrameTime, HlsClock, OFFER_TIMEOUT, Rendition};

/// See the [module](self).
#[derive(Clone, Debug, Default)]
pub(super) struct SharedClock(Arc<(Mutex<HlsClock>, Condvar)>);

impl SharedClock {
    /// One more rendition is read.
    pub(super) fn join(&self) -> Rendition {
        lock(&self.0.0).join()
    }

    /// A rendition is read no more.
    pub(super) fn leave(&self) {
        lock(&self.0.0).leave();
        self.0.1.notify_all();
    }

    /// Where a frame of a rendition is on the timeline, in nanoseconds. Waits for other renditions at the start of a run, for
    /// [`OFFER_TIMEOUT`] at most.
    pub(super) fn map(&self, rendition: &mut Rendition, at: FrameTime) -> i64 {
        let until = Instant::now() + OFFER_TIMEOUT;
        let mut clock = lock(&self.0.0);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if let Some(mapped) = clock.map(rendition, at, left.is_zero()) {
                self.0.1.notify_all();
                return mapped;
            }
            clock = self.0.1.wait_timeout(clock, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
