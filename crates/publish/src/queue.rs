//! What runs between the [`Publisher`](crate::Publisher) and its task: the queue of media, what the session wants, and events.

use crate::{Event, Media, Output, Tracks};
use media::KeyframeGate;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{mpsc, watch};

/// Layers of a track at most: there are three qualities.
pub(crate) const MAX_LAYERS: usize = 3;
/// Media that may wait for the task: a second of three layers at 30 a second and of audio, rounded. The task takes it at once unless
/// the machine stalls.
pub(crate) const MEDIA_QUEUE: usize = 128;
/// Events that may wait in the channel. The task keeps some more, and merges what can be.
const EVENT_QUEUE: usize = 32;

/// What a session wants of the task. Only the newest counts, so nothing of it can get lost or pile up.
#[derive(Clone, Debug, Default)]
pub(crate) struct Control {
    /// What to publish. Tracks are added, never removed.
    pub(crate) tracks: Tracks,
    /// Attributes of the participant that are to be set.
    pub(crate) attributes: BTreeMap<String, String>,
    /// How often the encoder was restarted.
    pub(crate) restarts: u32,
    /// Leave the room.
    pub(crate) leave: bool,
}

/// The handle's ends.
#[derive(Debug)]
pub(crate) struct HandleEnds {
    pub(crate) control: watch::Sender<Control>,
    pub(crate) media: MediaSender,
    pub(crate) events: mpsc::Receiver<Event>,
}

/// The task's ends.
#[derive(Debug)]
pub(crate) struct TaskEnds {
    pub(crate) control: watch::Receiver<Control>,
    pub(crate) media: mpsc::Receiver<(Output, Media)>,
    pub(crate) overflow: Arc<Overflow>,
    pub(crate) events: mpsc::Sender<Event>,
}

/// Makes both ends; `tracks` are what the session wants at first.
pub(crate) fn queues(tracks: Tracks) -> (HandleEnds, TaskEnds) {
    let (events, events_rx) = mpsc::channel(EVENT_QUEUE);
    let (media, media_rx) = mpsc::channel(MEDIA_QUEUE);
    let (control, control_rx) = watch::channel(Control { tracks, ..Default::default() });
    let overflow = Arc::new(Overflow::new());
    let media = MediaSender { queue: media, overflow: overflow.clone() };
    let task = TaskEnds { control: control_rx, media: media_rx, overflow, events };
    (HandleEnds { control, media, events: events_rx }, task)
}

/// Where the handle puts media.
#[derive(Debug)]
pub(crate) struct MediaSender {
    queue: mpsc::Sender<(Output, Media)>,
    overflow: Arc<Overflow>,
}

impl MediaSender {
    /// Queues media; false if it was dropped. See [`crate::Publisher::send`].
    pub(crate) fn send(&self, output: Output, media: Media) -> bool {
        let gated = match (&output, &media) {
            (Output::Video(layer), Media::AccessUnit(unit)) => Some((*layer, unit.key)),
            _ => None,
        };
        let send = || self.queue.try_send((output, media)).is_ok();
        match gated {
            Some((layer, key)) => self.overflow.guard(layer, key, send),
            None => send(),
        }
    }
}

/// Which layers lost access units because the queue was full.
#[derive(Debug)]
pub(crate) struct Overflow {
    gates: Mutex<[KeyframeGate; MAX_LAYERS]>,
    /// The task has not asked for a key frame yet.
    unrequested: [AtomicBool; MAX_LAYERS],
}

impl Overflow {
    fn new() -> Self {
        Self { gates: Mutex::new([const { KeyframeGate::open() }; MAX_LAYERS]), unrequested: Default::default() }
    }

    /// The layers that have lost access units since the last call and need a key frame.
    pub(crate) fn take(&self) -> impl Iterator<Item = usize> + '_ {
        let lost = |flag: &AtomicBool| flag.load(Ordering::Relaxed) && flag.swap(false, Ordering::Relaxed);
        (0..MAX_LAYERS).filter(move |layer| lost(&self.unrequested[*layer]))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AccessUnit;
    use bytes::Bytes;
    use model::MediaTime;
    use std::time::Instant;

    fn unit(key: bool) -> Media {
        let (pts, data) = (MediaTime::ZERO, Bytes::from_static(b"x"));
        Media::AccessUnit(AccessUnit { pts, at: Instant::now(), key, data, level: None })
    }

    #[test]
    fn full_queue_drops_to_the_next_key_frame() {
        let (handle, mut task) = queues(Tracks::default());
        let send = |layer, key| handle.media.send(Output::Video(layer), unit(key));
        let mut read = || task.media.try_recv().is_ok();
        assert_eq!((0..2 * MEDIA_QUEUE).filter(|_| send(0, false)).count(), MEDIA_QUEUE);
        assert!(!handle.media.send(Output::Audio, unit(true)));
        assert_eq!(task.overflow.take().collect::<Vec<_>>(), [0]);
        assert_eq!(task.overflow.take().count(), 0, "one request suffices");
        assert!(!send(0, true), "still full");
        assert!(read() && !send(0, false), "its key frame was lost");
        assert!(send(1, false), "another layer lost nothing");
        assert!(read() && send(0, true));
        assert!(read() && send(0, false));
        assert!(read() && handle.media.send(Output::Audio, unit(true)));
        assert!(read() && !send(MAX_LAYERS, true), "no such layer");
    }
}
