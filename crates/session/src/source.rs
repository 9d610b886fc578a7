//! Where a session's media comes from: the contract between a server (RTMP, later WHIP and SRT) and a session.

use crate::lifecycle::START_DEADLINE;
use model::{Blame, Fault, Media, PassthroughMedia};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, oneshot};

/// Access units that may wait between a server and its session. A session drains this at once and does its own dropping, so
/// it fills only while the machine is stalled; the server then stops reading its socket, and the encoder feels it.
pub const SOURCE_QUEUE: usize = 64;

/// What a source says.
#[derive(Debug)]
pub enum SourceEvent {
    /// Media.
    Media(Media),
    /// Media that is passed on as it comes.
    Passthrough(PassthroughMedia),
    /// A splice point (SCTE-35): out of its network with this event from now on, or (`None`) back in it.
    Splice(Option<u32>),
    /// Nothing more comes. Always the last event. A channel that closes without it is a fault of ours.
    Ended(SourceEnd),
}

/// How a source ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceEnd {
    /// The publisher said goodbye, or closed its connection in order.
    Finished,
    /// It broke; the words are for the ingress's state.
    Lost(Fault),
}

/// A source that a session has accepted. Dropping it tells the server to let go of the publisher.
#[derive(Debug)]
pub struct Source {
    /// What it delivers.
    pub events: mpsc::Receiver<SourceEvent>,
    /// Tells the server why the session lets go of it; it tells the publisher, as far as its protocol has words, and closes.
    pub stop: oneshot::Sender<Option<Fault>>,
    /// How long it may take to bring its first media.
    pub patience: Duration,
    /// Takes what the room wishes of it.
    pub wishes: Wishes,
}

/// What the room wishes of a source whose media is passed on as it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// A picture to start decoding this layer from; lowest is 0.
    KeyFrame(usize),
}

/// The way of wishes to a source. Nothing is lost, and nothing piles up: a wish that waits already is not made twice.
#[derive(Debug)]
pub struct Wishes(Arc<Waiting>);

/// Where a source gets them.
#[derive(Debug)]
pub struct WishFeed(Arc<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    /// A bit for each layer of which a key frame is wanted.
    key_frames: AtomicU32,
    made: Notify,
}

impl Wishes {
    /// Makes a wish. Of layers beyond the 32nd nobody has heard.
    pub fn make(&self, wish: Wish) {
        let Wish::KeyFrame(layer) = wish;
        let bit = u32::try_from(layer).ok().and_then(|layer| 1u32.checked_shl(layer));
        if let Some(bit) = bit {
            self.0.key_frames.fetch_or(bit, Ordering::Relaxed);
            // This also hands the bit over to whoever is woken by it.
            self.0.made.notify_one();
        }
    }
}

impl WishFeed {
    /// The next wish, that of the lowest layer first. Cancel safe.
    pub async fn recv(&mut self) -> Wish {
        loop {
            let waiting = self.0.key_frames.load(Ordering::Relaxed);
            if waiting != 0 {
                let layer = waiting.trailing_zeros();
                self.0.key_frames.fetch_and(!(1 << layer), Ordering::Relaxed);
                return Wish::KeyFrame(layer as usize);
            }
            self.0.made.notified().await;
        }
    }
}

impl Source {
    /// Sends a publisher away that wanted to take over a session which ends.
    pub fn too_late(self) {
        let text = "the session with this stream key has just ended; connect again";
        // Who has gone needs no words.
        let _ = self.stop.send(Some(Fault::transient(Blame::Us, text)));
    }
}

/// The server's ends of a [`Source`].
#[derive(Debug)]
pub struct SourceFeed {
    /// Where to put what comes.
    pub events: mpsc::Sender<SourceEvent>,
    /// Resolves when the session lets go (an error if it was dropped without words).
    pub stopped: oneshot::Receiver<Option<Fault>>,
    /// What the room wishes; may be left unread.
    pub wishes: WishFeed,
}

/// Makes the two ends.
pub fn source() -> (SourceFeed, Source) {
    let (events_tx, events_rx) = mpsc::channel(SOURCE_QUEUE);
    let (stop_tx, stop_rx) = oneshot::channel();
    let waiting = Arc::<Waiting>::default();
    (
        SourceFeed { events: events_tx, stopped: stop_rx, wishes: WishFeed(waiting.clone()) },
        Source { events: events_rx, stop: stop_tx, patience: START_DEADLINE, wishes: Wishes(waiting) },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_storm_of_wishes_loses_none_and_is_heard_once() {
        let (mut feed, source) = source();
        for layer in (0..100).flat_map(|_| [2, 0, 2, 99]) {
            source.wishes.make(Wish::KeyFrame(layer));
        }
        assert_eq!(feed.wishes.recv().await, Wish::KeyFrame(0));
        assert_eq!(feed.wishes.recv().await, Wish::KeyFrame(2));
        tokio::select! {
            biased;
            wish = feed.wishes.recv() => panic!("{wish:?}"),
            () = tokio::task::yield_now() => {}
        }
        // One that comes while it is waited for.
        let (wish, ()) = tokio::join!(feed.wishes.recv(), async { source.wishes.make(Wish::KeyFrame(1)) });
        assert_eq!(wish, Wish::KeyFrame(1));
    }
}
