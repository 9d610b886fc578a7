//! When livekit-server may have called a layer stopped: its stream tracker wants to see so many packets in each half second, and
//! calls a layer with fewer stopped. Then it wants ten seconds without a gap before viewers get that layer again, unless it is
//! told that the track begins anew. Pure: the caller counts packets, and learns when to tell.

use crate::payload::{FLOOR_PACKETS, FLOOR_WINDOW};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// In so much time as many packets as are wanted mean that the layer is back. Shorter than the window, lest a stream on the edge
/// comes back with each packet.
const BACK_WITHIN: Duration = Duration::from_millis(375);

/// One layer's packets.
#[derive(Debug)]
pub(crate) struct Pulse {
    /// How many packets are wanted in each [`FLOOR_WINDOW`]; the lowest layer is forgiven more (read in 1.13.5).
    wanted: usize,
    /// When the newest so many were sent.
    sent: VecDeque<Instant>,
    /// There was a window with fewer.
    stopped: bool,
}

impl Pulse {
    /// Of a layer by its rank, 0 the lowest.
    pub(crate) fn of_layer(rank: usize) -> Self {
        let wanted = if rank == 0 { 1 } else { FLOOR_PACKETS };
        Self { wanted, sent: VecDeque::with_capacity(FLOOR_PACKETS), stopped: false }
    }

    /// Packets of the layer are sent. Whether they show that it is back after what the server takes for an end: fewer packets
    /// than wanted, and now as many again. (A stream that never has as many is left as the server sees it.)
    pub(crate) fn count(&mut self, packets: usize, now: Instant) -> bool {
        if packets > 0 && self.sent.len() == self.wanted && !self.dense(FLOOR_WINDOW, now) {
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

    /// The layer rests because nobody wants it, of which the server knows.
    pub(crate) fn rest(&mut self) {
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
        let (start, mut pulse) = (Instant::now(), Pulse::of_layer(rank));
        times.into_iter().filter(|t| pulse.count(packets, start + Duration::from_millis(*t))).collect()
    }

    #[test]
    fn a_pause_is_noticed_once_there_are_enough_packets_again() {
        let pause = |ms: u64| (0..30).map(|n| n * 33).chain((0..30).map(move |n| 30 * 33 + ms + n * 33));
        assert_eq!(back(2, 1, pause(0)), [0u64; 0]);
        assert_eq!(back(2, 1, pause(300)), [0u64; 0]);
        assert_eq!(back(2, 1, pause(500)), [990 + 500 + 4 * 33], "with the fifth packet");
        assert_eq!(back(2, 8, pause(500)), [990 + 500], "with the first picture");
        assert_eq!(back(0, 1, pause(400)), [0u64; 0], "the lowest layer needs one");
        assert_eq!(back(0, 1, pause(500)), [990 + 500]);
    }

    #[test]
    fn a_source_of_few_pictures_has_no_pauses() {
        for fps in [1, 2, 3, 4, 5, 8, 10, 12, 15] {
            let packets = crate::payload::at_least(Duration::from_secs(1) / fps);
            let times = (0..40).map(|n| n * 1_000 / u64::from(fps));
            // Slower than two a second they are repeated by the session.
            if fps >= 2 {
                assert_eq!(back(2, packets, times.clone()), [0u64; 0], "{fps}");
            }
            assert_eq!(back(2, 1, times).len(), 0, "{fps}: never enough, so it is not back either");
        }
    }

    #[test]
    fn a_layer_that_nobody_wanted_has_not_stopped() {
        let (start, mut pulse) = (Instant::now(), Pulse::of_layer(1));
        assert!(!pulse.count(9, start));
        pulse.rest();
        assert!(!pulse.count(9, start + Duration::from_secs(20)));
        assert!(pulse.count(9, start + Duration::from_secs(40)));
    }
}
