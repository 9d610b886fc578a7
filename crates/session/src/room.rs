//! What a session needs of a room: the narrow side of [`publish`], so that sessions can be tested without one.

use bytes::Bytes;
use model::{MediaTime, Packet};
use publish::{AudioTrack, Config, Event, Out, Publisher, Tracks, VideoTrack};
use std::future::Future;
use std::pin::Pin;
use std::time::Instant;
use tokio::sync::mpsc;

/// A participant in a room. See [`Publisher`], whose methods these are.
pub trait Room: Send {
    /// See [`Publisher::add_video`].
    fn add_video(&self, track: VideoTrack);
    /// See [`Publisher::add_audio`].
    fn add_audio(&self, track: AudioTrack);
    /// See [`Publisher::video`].
    fn video(&self, layer: usize, frame: Out) -> bool;
    /// See [`Publisher::audio`].
    fn audio(&self, pts: MediaTime, at: Instant, data: Bytes, level: Option<i8>) -> bool;
    /// See [`Publisher::restarted`].
    fn restarted(&self);
    /// See [`Publisher::set_attributes`].
    fn set_attributes(&self, attributes: Vec<(String, String)>);
    /// See [`Publisher::packets`].
    fn packets(&self, packets: Vec<Packet>) -> bool;
    /// See [`Publisher::leave`].
    fn leave(self: Box<Self>) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

impl Room for Publisher {
    fn add_video(&self, track: VideoTrack) {
        Publisher::add_video(self, track);
    }

    fn add_audio(&self, track: AudioTrack) {
        Publisher::add_audio(self, track);
    }

    fn video(&self, layer: usize, frame: Out) -> bool {
        Publisher::video(self, layer, frame)
    }

    fn audio(&self, pts: MediaTime, at: Instant, data: Bytes, level: Option<i8>) -> bool {
        Publisher::audio(self, pts, at, data, level)
    }

    fn restarted(&self) {
        Publisher::restarted(self);
    }

    fn set_attributes(&self, attributes: Vec<(String, String)>) {
        Publisher::set_attributes(self, attributes);
    }

    fn packets(&self, packets: Vec<Packet>) -> bool {
        Publisher::packets(self, packets)
    }

    fn leave(self: Box<Self>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(Publisher::leave(*self))
    }
}

/// Where sessions join rooms.
pub trait Rooms: Send + Sync + 'static {
    /// Joins as `config` says, with these tracks. What becomes of it comes as events.
    fn join(&self, config: Config, tracks: Tracks) -> (Box<dyn Room>, mpsc::Receiver<Event>);
}

/// Rooms of LiveKit.
#[derive(Clone, Copy, Debug, Default)]
pub struct LiveKit;

impl Rooms for LiveKit {
    fn join(&self, config: Config, tracks: Tracks) -> (Box<dyn Room>, mpsc::Receiver<Event>) {
        let (publisher, events) = publish::connect(config, tracks);
        (Box::new(publisher), events)
    }
}
