//! The handle that a session holds, and the start and end of the task behind it.

use crate::queue::{Control, HandleEnds, MediaSender, TaskEnds, queues};
use crate::task::{FINAL_EVENT_DEADLINE, Task};
use crate::{AudioTrack, Config, Event, Media, Output, Tracks, VideoTrack, join};
use futures_util::FutureExt;
use model::{Blame, Fault, Layer};
use std::panic::AssertUnwindSafe;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// How long leaving may take.
const LEAVE_DEADLINE: Duration = Duration::from_secs(1);

/// A participant in a room that publishes at most one video and one audio track. Dropping it leaves the room too.
#[derive(Debug)]
pub struct Publisher {
    control: watch::Sender<Control>,
    media: MediaSender,
    task: JoinHandle<()>,
}

/// Joins the room and publishes `tracks`. Spawns a task on the current tokio runtime (which needs time and IO); what becomes of it
/// comes as events. The receiver is to be read all the time. A `wss://` address needs a default rustls crypto provider to be
/// installed in the process.
pub fn connect(config: Config, tracks: Tracks) -> (Publisher, mpsc::Receiver<Event>) {
    let (HandleEnds { control, media, events }, ends) = queues(tracks.clone());
    let task = tokio::spawn(run(config, tracks, ends));
    (Publisher { control, media, task }, events)
}

/// Runs the task, and tells the session why it ended should it not be able to do so itself.
async fn run(config: Config, tracks: Tracks, ends: TaskEnds) {
    let events = ends.events.clone();
    let fault = match join::base(&config.ws_url) {
        Err(e) => Some(e.fault()),
        Ok(base) => contain(Task::new(base, &config, tracks).run(ends)).await,
    };
    if let Some(fault) = fault {
        // A session that is gone reads nothing any more.
        let _ = events.send_timeout(Event::Closed(fault), FINAL_EVENT_DEADLINE).await;
    }
}

/// Runs a task to its end. A panic inside it (the WebRTC engine's, on what it takes for impossible) ends this session only.
async fn contain(task: impl Future<Output = ()>) -> Option<Fault> {
    let ended = AssertUnwindSafe(task).catch_unwind().await;
    ended.err().map(|_| Fault::transient(Blame::Us, "publishing failed inside the ingress"))
}

impl Publisher {
    /// Publishes a video track too, if there was none.
    pub fn add_video(&self, track: VideoTrack) {
        self.control.send_if_modified(|c| c.tracks.video.is_none() && c.tracks.video.replace(track).is_none());
    }

    /// Publishes an audio track too, if there was none.
    pub fn add_audio(&self, track: AudioTrack) {
        self.control.send_if_modified(|c| c.tracks.audio.is_none() && c.tracks.audio.replace(track).is_none());
    }

    /// Sends media of one output. Never blocks. Returns false if it was dropped because the queue was full: a layer of access units
    /// then continues with its next key frame, which an event also requests; packets that are passed through are missing as they
    /// would be on a lossy network. What nobody watches, or what there is no connection for, counts as taken.
    pub fn send(&self, output: Output, media: Media) -> bool {
        self.media.send(output, media)
    }

    /// Says that the video to come is of a new encoder, after a pause, so that the SFU does not keep viewers off layers that paused.
    /// To be called before the first of it, and as soon as it is known that no more comes from the encoder before.
    pub fn restarted(&self) {
        self.control.send_modify(|c| c.restarts = c.restarts.wrapping_add(1));
    }

    /// Says that the layers of the video track are of these sizes and bitrates now. They are as many as before, of the same
    /// qualities: others change nothing, as a track can't.
    pub fn resized(&self, layers: Vec<Layer>) {
        self.control.send_if_modified(|c| c.tracks.video.as_mut().is_some_and(|video| video.resize(&layers)));
    }

    /// Sets participant attributes, keeping the others; an empty value deletes one.
    pub fn set_attributes(&self, attributes: Vec<(String, String)>) {
        self.control.send_modify(|c| c.attributes.extend(attributes));
    }

    /// Leaves the room and closes; takes a second at most.
    pub async fn leave(self) {
        self.control.send_modify(|c| c.leave = true);
        if tokio::time::timeout(LEAVE_DEADLINE, self.control.closed()).await.is_err() {
            self.task.abort();
        }
    }
}

#[cfg(test)]
mod tests;
