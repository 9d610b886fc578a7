//! Where a session's media comes from: the contract between a server (RTMP, later WHIP and SRT) and a session.

use crate::state::START_DEADLINE;
use model::{Blame, Fault, Media, Passed};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Access units that may wait between a server and its session. A session drains this at once and does its own dropping, so
/// it fills only while the machine is stalled; the server then stops reading its socket, and the encoder feels it.
pub const SOURCE_QUEUE: usize = 64;

/// Wishes that may wait: one for each layer, and again.
const WISHES: usize = 8;

/// What a source says.
#[derive(Debug)]
pub enum SourceEvent {
    /// Media.
    Media(Media),
    /// Media that is passed on as it comes.
    Passed(Passed),
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
    /// Takes what the room wishes of it. Wishes that find no taker are lost; they come again.
    pub wishes: mpsc::Sender<Wish>,
}

/// What the room wishes of a source whose media is passed on as it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// A picture to start decoding this layer from; lowest is 0.
    KeyFrame(usize),
}

impl Source {
    /// Sends a publisher away that wanted to take over a session which ends.
    pub fn too_late(self) {
        let text = "the session with this stream key has just ended; connect again";
        // Who has gone needs no words.
        let _ = self.stop.send(Some(Fault::passing(Blame::Us, text)));
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
    pub wishes: mpsc::Receiver<Wish>,
}

/// Makes the two ends.
pub fn source() -> (SourceFeed, Source) {
    let (events_tx, events_rx) = mpsc::channel(SOURCE_QUEUE);
    let (stop_tx, stop_rx) = oneshot::channel();
    let (wishes_tx, wishes_rx) = mpsc::channel(WISHES);
    (
        SourceFeed { events: events_tx, stopped: stop_rx, wishes: wishes_rx },
        Source { events: events_rx, stop: stop_tx, patience: START_DEADLINE, wishes: wishes_tx },
    )
}
