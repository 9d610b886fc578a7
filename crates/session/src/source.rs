//! Where a session's media comes from: the contract between an input (RTMP, WHIP, a pulled URL) and a session.

use model::{Blame, Fault, Media, PassthroughMedia};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, oneshot};

/// Events that may wait between an input and its session. A session takes them at once and does its own dropping, so the queue
/// fills only while the machine stalls. The input then stops reading its socket, and the encoder is slowed down.
pub const SOURCE_QUEUE: usize = 64;

/// How long a session waits for the first media to reach the room. The Go ingress gives its pipeline and its track
/// announcement ten seconds each; a source that sent nothing usable in fifteen won't.
pub(crate) const START_DEADLINE: Duration = Duration::from_secs(15);
/// Notices that may wait for an input: they come seconds apart.
const NOTICES: usize = 4;

/// What a source sends.
#[derive(Debug)]
pub enum SourceEvent {
    /// Access units and their configurations.
    Media(Media),
    /// RTP packets for passthrough, and their formats.
    Passthrough(PassthroughMedia),
    /// A splice point (SCTE-35): out of the network with this event from now on, or (`None`) back in it.
    Splice(Option<u32>),
    /// Something of it is not as it should be, in words for whoever made the ingress. It goes on.
    Notice(String),
    /// Nothing more comes. Always the last event. A channel that closes without it is a fault of ours.
    Ended(SourceEnd),
}

/// How a source ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceEnd {
    /// The publisher ended the stream, or closed its connection in order.
    Finished,
    /// The source broke. The fault's text is shown in the ingress's state.
    Lost(Fault),
}

/// A source that a session has accepted. Dropping it tells the input to let go of the publisher.
#[derive(Debug)]
pub struct Source {
    /// What it delivers.
    pub events: mpsc::Receiver<SourceEvent>,
    /// Tells the input why the session lets go of it. The input tells the publisher, as far as its protocol can, and closes.
    pub stop: oneshot::Sender<Option<Fault>>,
    /// How long it may take to bring its first media.
    pub start_deadline: Duration,
    /// Takes requests for key frames of passed-through layers.
    pub keyframes: KeyframeRequests,
    /// Takes what does not get through, in words for the publisher; empty when all does again.
    pub notices: mpsc::Sender<String>,
    /// Whether another machine could go on with it.
    pub portable: Portable,
}

/// Whether another machine that begins to pull the source now goes on where this one is. False of all that is pushed, of files, and
/// until it is known. Clones share one.
#[derive(Clone, Debug, Default)]
pub struct Portable(Arc<AtomicBool>);

impl Portable {
    /// Says so.
    pub fn set(&self, portable: bool) {
        self.0.store(portable, Ordering::Relaxed);
    }

    /// What was said last.
    pub fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Asks the source for a key frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyframeRequest {
    /// The source's layer; 0 is the lowest.
    pub layer: usize,
}

/// The session's end of the requests to a source. None is lost, and none piles up: a request for a layer that waits already
/// changes nothing.
#[derive(Debug)]
pub struct KeyframeRequests(Arc<Waiting>);

/// The input's end.
#[derive(Debug)]
pub struct KeyframeRequestFeed(Arc<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    /// A bit for each layer of which a key frame is wanted.
    layers: AtomicU32,
    changed: Notify,
}

impl KeyframeRequests {
    /// Asks. Layers from the 33rd on are ignored: no source has so many.
    pub fn request(&self, request: KeyframeRequest) {
        let bit = u32::try_from(request.layer).ok().and_then(|layer| 1u32.checked_shl(layer));
        if let Some(bit) = bit {
            self.0.layers.fetch_or(bit, Ordering::Relaxed);
            // Relaxed is enough: the notification synchronizes with whoever it wakes.
            self.0.changed.notify_one();
        }
    }
}

impl KeyframeRequestFeed {
    /// The next request, that of the lowest layer first. Cancel safe.
    pub async fn recv(&mut self) -> KeyframeRequest {
        loop {
            let waiting = self.0.layers.load(Ordering::Relaxed);
            if waiting != 0 {
                let layer = waiting.trailing_zeros();
                self.0.layers.fetch_and(!(1 << layer), Ordering::Relaxed);
                return KeyframeRequest { layer: layer as usize };
            }
            self.0.changed.notified().await;
        }
    }
}

impl Source {
    /// Sends away a publisher that came to take over a session that is ending.
    pub fn refuse_ended(self) {
        let text = "the session with this stream key has just ended; connect again";
        // A publisher that has gone by itself needs no text.
        let _ = self.stop.send(Some(Fault::transient(Blame::Us, text)));
    }
}

/// The input's ends of a [`Source`].
#[derive(Debug)]
pub struct SourceFeed {
    /// Takes what the source sends.
    pub events: mpsc::Sender<SourceEvent>,
    /// Resolves when the session lets go of the source; an error if it was dropped without a reason.
    pub stopped: oneshot::Receiver<Option<Fault>>,
    /// Requests for key frames. May be left unread.
    pub keyframes: KeyframeRequestFeed,
    /// What of the source does not get through, in words, where the publisher can be told; empty when all does again. May be left unread.
    pub notices: mpsc::Receiver<String>,
    /// Where a pulled source says whether another machine could go on with it.
    pub portable: Portable,
}

/// Makes the two ends.
pub fn source() -> (SourceFeed, Source) {
    let (events_tx, events_rx) = mpsc::channel(SOURCE_QUEUE);
    let (stop_tx, stop_rx) = oneshot::channel();
    let (notices_tx, notices_rx) = mpsc::channel(NOTICES);
    let waiting = Arc::<Waiting>::default();
    let portable = Portable::default();
    (
        SourceFeed {
            events: events_tx,
            stopped: stop_rx,
            keyframes: KeyframeRequestFeed(waiting.clone()),
            notices: notices_rx,
            portable: portable.clone(),
        },
        Source {
            events: events_rx,
            stop: stop_tx,
            start_deadline: START_DEADLINE,
            keyframes: KeyframeRequests(waiting),
            notices: notices_tx,
            portable,
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn keyframe_requests_merge_and_none_is_lost() {
        let (mut feed, source) = source();
        for layer in (0..100).flat_map(|_| [2, 0, 2, 99]) {
            source.keyframes.request(KeyframeRequest { layer });
        }
        assert_eq!(feed.keyframes.recv().await, KeyframeRequest { layer: 0 });
        assert_eq!(feed.keyframes.recv().await, KeyframeRequest { layer: 2 });
        tokio::select! {
            biased;
            request = feed.keyframes.recv() => panic!("{request:?}"),
            () = tokio::task::yield_now() => {}
        }
        // One that comes while the feed waits.
        let (request, ()) = tokio::join!(feed.keyframes.recv(), async {
            source.keyframes.request(KeyframeRequest { layer: 1 });
        });
        assert_eq!(request, KeyframeRequest { layer: 1 });
    }
}
