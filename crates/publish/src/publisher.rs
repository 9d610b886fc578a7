//! The handle a session holds, and the task behind it.

use crate::task::{Ends, Task};
use crate::{AudioTrack, Config, Event, Media, Output, Tracks, VideoTrack, join};
use futures_util::FutureExt;
use media::KeyframeGate;
use model::{Blame, Fault, Layer};
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// Layers of a track at the most: there are three qualities.
pub(crate) const MAX_LAYERS: usize = 3;
/// Frames that may wait for the task: a second of three layers at 30 a second and of sound, rounded. The task takes them at
/// once unless the machine stalls.
const QUEUE: usize = 128;
/// Events that may wait in the channel; the task keeps some more, and merges what can be.
const EVENTS: usize = 32;
/// How long leaving may take.
const LEAVE: Duration = Duration::from_secs(1);
/// How long a session may take to take in how it ended.
pub(crate) const LAST_WORDS: Duration = Duration::from_secs(5);

/// What a session wants of the task. Only the newest counts, so nothing of it can get lost or pile up.
#[derive(Clone, Debug, Default)]
pub(crate) struct Control {
    pub(crate) tracks: Tracks,
    pub(crate) attributes: BTreeMap<String, String>,
    /// How often the encoder has begun anew.
    pub(crate) restarts: u32,
    pub(crate) leave: bool,
}

/// Which layers lost access units because the queue was full.
#[derive(Debug)]
pub(crate) struct Overflow {
    /// What finds room again.
    gates: Mutex<[KeyframeGate; MAX_LAYERS]>,
    /// The task has not asked for a key frame yet.
    unrequested: [AtomicBool; MAX_LAYERS],
}

impl Overflow {
    fn new() -> Self {
        Self { gates: Mutex::new([const { KeyframeGate::open() }; MAX_LAYERS]), unrequested: Default::default() }
    }

    /// Whether `layer` has lost access units since the last call.
    pub(crate) fn take(&self, layer: usize) -> bool {
        self.unrequested[layer].load(Ordering::Relaxed) && self.unrequested[layer].swap(false, Ordering::Relaxed)
    }

    /// Hands an access unit of this layer over by `send`, unless it builds on one that was lost; whether it was taken.
    fn guard(&self, layer: usize, key: bool, send: impl FnOnce() -> bool) -> bool {
        // A gate is whole, whoever panicked.
        let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(gate) = gates.get_mut(layer) else { return false };
        if !gate.admits(key) {
            return false;
        }
        let taken = send();
        if !taken {
            gate.close();
            self.unrequested[layer].store(true, Ordering::Relaxed);
        }
        taken
    }
}

/// A participant in a room that publishes at most one video and one audio track. Dropping it leaves the room too.
#[derive(Debug)]
pub struct Publisher {
    control: watch::Sender<Control>,
    media: mpsc::Sender<(Output, Media)>,
    overflow: Arc<Overflow>,
    task: JoinHandle<()>,
}

/// Joins the room and publishes `tracks`. Spawns a task on the current tokio runtime (which needs time and IO); what
/// becomes of it comes as events. The receiver is to be read all the time. A `wss://` address needs a default rustls
/// crypto provider to be installed in the process.
pub fn connect(config: Config, tracks: Tracks) -> (Publisher, mpsc::Receiver<Event>) {
    let (events, events_rx) = mpsc::channel(EVENTS);
    let (media, media_rx) = mpsc::channel(QUEUE);
    let (control, control_rx) = watch::channel(Control { tracks: tracks.clone(), ..Default::default() });
    let overflow = Arc::new(Overflow::new());
    let ends = Ends { control: control_rx, media: media_rx, overflow: overflow.clone(), events };
    let task = tokio::spawn(run(config, tracks, ends));
    (Publisher { control, media, overflow, task }, events_rx)
}

/// The task, and the words should it not be able to tell them itself.
async fn run(config: Config, tracks: Tracks, ends: Ends) {
    let events = ends.events.clone();
    let fault = match join::base(&config.ws_url) {
        Err(e) => Some(e.fault()),
        Ok(base) => contain(Task::new(base, &config, tracks).run(ends)).await,
    };
    if let Some(fault) = fault {
        // A session that has gone away needs no words.
        let _ = events.send_timeout(Event::Closed(fault), LAST_WORDS).await;
    }
}

/// Runs a task to its end. A panic inside it (the WebRTC engine's, on what it takes for impossible) ends this session only.
async fn contain(task: impl Future<Output = ()>) -> Option<Fault> {
    let ended = AssertUnwindSafe(task).catch_unwind().await;
    ended.err().map(|_| Fault::transient(Blame::Us, "publishing failed inside the ingress"))
}

impl Publisher {
    /// Publishes a picture too, if there was none.
    pub fn add_video(&self, track: VideoTrack) {
        self.control.send_if_modified(|c| c.tracks.video.is_none() && c.tracks.video.replace(track).is_none());
    }

    /// Publishes sound too, if there was none.
    pub fn add_audio(&self, track: AudioTrack) {
        self.control.send_if_modified(|c| c.tracks.audio.is_none() && c.tracks.audio.replace(track).is_none());
    }

    /// Sends media of one output. Never blocks. Returns false if it was dropped, as the queue was full: a layer of access units then
    /// goes on with its next key frame, which an event also asks for; of packets the room misses these, as it would on a bad
    /// network. (What nobody wants, or what there is no connection for, counts as taken.)
    pub fn send(&self, output: Output, media: Media) -> bool {
        let gated = match (&output, &media) {
            (Output::Video(layer), Media::AccessUnit(unit)) => Some((*layer, unit.key)),
            _ => None,
        };
        let send = || self.media.try_send((output, media)).is_ok();
        match gated {
            Some((layer, key)) => self.overflow.guard(layer, key, send),
            None => send(),
        }
    }

    /// Says that the pictures to come are of a new encoder, after a pause: lest the SFU keeps viewers off layers that paused. To
    /// be called before the first of them, and as soon as it is known that no more come from the encoder before.
    pub fn restarted(&self) {
        self.control.send_modify(|c| c.restarts = c.restarts.wrapping_add(1));
    }

    /// Says that the layers of the picture are of these sizes and bitrates now. They are as many as before, of the same
    /// qualities: others change nothing, as a track can't.
    pub fn resized(&self, layers: Vec<Layer>) {
        self.control.send_if_modified(|c| c.tracks.video.as_mut().is_some_and(|video| video.resize(&layers)));
    }

    /// Sets participant attributes, keeping the others; an empty value deletes one.
    pub fn set_attributes(&self, attributes: Vec<(String, String)>) {
        self.control.send_modify(|c| c.attributes.extend(attributes));
    }

    /// Says goodbye to the room and closes; takes a second at the most.
    pub async fn leave(self) {
        self.control.send_modify(|c| c.leave = true);
        if tokio::time::timeout(LEAVE, self.control.closed()).await.is_err() {
            self.task.abort();
        }
    }
}

#[cfg(test)]
mod tests;
