//! Makes the SFU forward layers that are back after a pause at once.
//!
//! livekit-server keeps viewers off a layer that stopped for the ten seconds that follow. A publisher's message that the track is not
//! muted makes the layer count again, from its next packet on, and tells viewers nothing when it was not muted before (read in
//! livekit-server 1.13.5, whose `MediaTrackReceiver::SetMuted` resets its stream trackers; seen there and in no documentation).

use std::time::{Duration, Instant};

/// How long after such a message another layer that is back is no news: the layers of a new encoder come within it.
pub(super) const SAME_RESTART: Duration = Duration::from_millis(300);
/// Between two such messages at the least. Each costs the viewers' allocation a moment without layers, so that a stream which stutters
/// for good should not cause many.
pub(super) const MIN_INTERVAL: Duration = Duration::from_secs(2);
/// How long the server's own message that a track is muted may have crossed ours that it is not.
pub(super) const MUTE_CROSSING: Duration = Duration::from_secs(2);

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct TrackerReset {
    sent: Option<Instant>,
    due: Option<Instant>,
}

impl TrackerReset {
    /// A layer is back after a pause that the server may take for its end. Whether that is news.
    pub(super) fn layer_back(&mut self, now: Instant) -> bool {
        let known = self.sent.is_some_and(|sent| now < sent + SAME_RESTART);
        if !known {
            let at = self.sent.map_or(now, |sent| now.max(sent + MIN_INTERVAL));
            self.due.get_or_insert(at);
        }
        !known
    }

    /// Layers are about to come back, all at once: the message is there before them.
    pub(super) fn restarted(&mut self, now: Instant) {
        self.due = Some(now);
    }

    /// Whether the message is due; asked once.
    pub(super) fn take_due(&mut self, now: Instant) -> bool {
        self.due.take_if(|at| *at <= now).is_some()
    }

    /// The message goes out.
    pub(super) fn sent(&mut self, now: Instant) {
        self.sent = Some(now);
    }

    /// Whether our message may have undone on the server what it says now: that somebody has muted the track.
    pub(super) fn may_have_crossed(&self, now: Instant) -> bool {
        self.sent.is_some_and(|sent| now < sent + MUTE_CROSSING)
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.due
    }
}
