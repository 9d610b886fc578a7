//! What livekit-server's stream tracker makes of a layer. It wants to see a number of packets in each half second, and calls a layer
//! with fewer stopped. Then it wants ten seconds without a gap before viewers get that layer again, unless it is told that the
//! track begins again. Pure: the caller counts packets, and learns when to tell.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The time within which livekit-server wants to see [`WANTED_PACKETS`] packets of a middle or upper layer (its stream tracker's
/// default, read in 1.13.5). A layer with fewer is called stopped, and viewers are kept off it for the ten seconds that follow.
const WINDOW: Duration = Duration::from_millis(500);
const WANTED_PACKETS: usize = 5;

/// The time within which as many packets as are wanted mean that the layer is back. Shorter than the window, lest a stream on the edge
/// comes back with each packet.
const BACK_WITHIN: Duration = Duration::from_millis(375);

/// Into how many packets at least a frame goes that came `interval` after the one before, so that sources with few frames a
/// second keep their layers: as if one frame fewer than usual were in the window, as they jitter.
pub(super) fn min_packets(interval: Duration) -> usize {
    let windows = WINDOW.as_secs_f64() / interval.as_secs_f64().max(0.001);
    // The cast holds: at most 500.
    let frames = (windows - 0.5).floor().max(1.0) as usize;
    WANTED_PACKETS.div_ceil(frames)
}

/// One layer's packets.
#[derive(Debug)]
pub(super) struct StreamTracker {
    /// How many packets are wanted in each [`WINDOW`]; the lowest layer is forgiven more (read in 1.13.5).
    wanted: usize,
    /// When the newest so many were sent.
    sent: VecDeque<Instant>,
    /// There was a window with fewer.
    stopped: bool,
}

impl StreamTracker {
    /// Of a layer by its rank, 0 the lowest.
    pub(super) fn of_layer(rank: usize) -> Self {
        let wanted = if rank == 0 { 1 } else { WANTED_PACKETS };
        Self { wanted, sent: VecDeque::with_capacity(WANTED_PACKETS), stopped: false }
    }

    /// Packets of the layer are sent. Whether they show that it is back after what the server takes for an end: fewer packets
    /// than wanted, and now as many again. (A stream that never has as many is left as the server sees it.)
    pub(super) fn count(&mut self, packets: usize, now: Instant) -> bool {
        if packets > 0 && self.sent.len() == self.wanted && !self.dense(WINDOW, now) {
            self.stopped = true;
        }
        for _ in 0..packets.min(self.wanted) {
            if self.sent.len() == self.wanted {
                self.sent.pop_front();
            }
            self.sent.push_back(now);
        }
        let back = self.stopped && self.dense(BACK_WITHIN, now);
        self.stopped &= !back;
        back
    }

    /// The layer pauses because nobody watches it, and the server knows.
    pub(super) fn pause(&mut self) {
        self.sent.clear();
        self.stopped = false;
    }

    fn dense(&self, window: Duration, now: Instant) -> bool {
        self.sent.front().is_some_and(|first| now.saturating_duration_since(*first) <= window)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends so many packets at each of these times, in milliseconds; the times at which the layer is back.
    fn back(rank: usize, packets: usize, times: impl IntoIterator<Item = u64>) -> Vec<u64> {
        let (start, mut tracker) = (Instant::now(), StreamTracker::of_layer(rank));
        times.into_iter().filter(|t| tracker.count(packets, start + Duration::from_millis(*t))).collect()
    }

    #[test]
    fn pause_ends_with_enough_packets() {
        let pause = |ms: u64| (0..30).map(|n| n * 33).chain((0..30).map(move |n| 30 * 33 + ms + n * 33));
        assert_eq!(back(2, 1, pause(0)), [0u64; 0]);
        assert_eq!(back(2, 1, pause(300)), [0u64; 0]);
        assert_eq!(back(2, 1, pause(500)), [990 + 500 + 4 * 33], "with the fifth packet");
        assert_eq!(back(2, 8, pause(500)), [990 + 500], "with the first frame");
        assert_eq!(back(0, 1, pause(400)), [0u64; 0], "the lowest layer needs one");
        assert_eq!(back(0, 1, pause(500)), [990 + 500]);
    }

    #[test]
    fn low_frame_rate_is_no_pause() {
        for fps in [1, 2, 3, 4, 5, 8, 10, 12, 15] {
            let packets = min_packets(Duration::from_secs(1) / fps);
            let times = (0..40).map(|n| n * 1_000 / u64::from(fps));
            // Slower than two a second they are repeated by the session.
            if fps >= 2 {
                assert_eq!(back(2, packets, times.clone()), [0u64; 0], "{fps}");
            }
            assert_eq!(back(2, 1, times).len(), 0, "{fps}: never enough, so it is not back either");
        }
    }

    #[test]
    fn low_frame_rate_makes_more_packets() {
        let packets = |fps: f64| min_packets(Duration::from_secs_f64(fps.recip()));
        assert_eq!([60.0, 30.0, 25.0, 15.0].map(packets), [1; 4]);
        assert_eq!([10.0, 5.0, 4.0, 1.0, 0.01].map(packets), [2, 3, 5, 5, 5]);
        assert_eq!(min_packets(Duration::ZERO), 1);
    }

    #[test]
    fn unwatched_layer_has_not_stopped() {
        let (start, mut tracker) = (Instant::now(), StreamTracker::of_layer(1));
        assert!(!tracker.count(9, start));
        tracker.pause();
        assert!(!tracker.count(9, start + Duration::from_secs(20)));
        assert!(tracker.count(9, start + Duration::from_secs(40)));
    }
}
