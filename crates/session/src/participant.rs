//! What a session needs of a room: the narrow side of [`publish`], so that sessions can be tested without one.

use bytes::Bytes;
use model::{Layer, MediaTime, Packet, VideoCodec};
use publish::{AudioTrack, Config, Event, Out, Publisher, Tracks, VideoTrack};
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::sync::{mpsc, watch};

/// Servers of which it is remembered what they take; an ingress has one, or a few.
const SERVERS: usize = 64;

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
    /// See [`Publisher::resized`].
    fn resized(&self, layers: Vec<Layer>);
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

    fn resized(&self, layers: Vec<Layer>) {
        Publisher::resized(self, layers);
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

    /// What the server there takes, as the newest join of all told.
    fn takes(&self, ws_url: &str) -> Takes;
}

/// What a server said last of the video codecs that it takes; `None` before it has said anything.
pub type Takes = watch::Receiver<Option<Vec<VideoCodec>>>;

/// Rooms of LiveKit.
#[derive(Debug, Default)]
pub struct LiveKit {
    servers: Mutex<HashMap<String, watch::Sender<Option<Vec<VideoCodec>>>>>,
}

impl LiveKit {
    fn server(&self, ws_url: &str) -> watch::Sender<Option<Vec<VideoCodec>>> {
        // What is in there is whole, whoever panicked.
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        if servers.len() >= SERVERS && !servers.contains_key(ws_url) {
            servers.clear();
        }
        servers.entry(ws_url.to_owned()).or_default().clone()
    }
}

impl Rooms for LiveKit {
    fn join(&self, mut config: Config, tracks: Tracks) -> (Box<dyn Room>, mpsc::Receiver<Event>) {
        config.takes = Some(self.server(&config.ws_url));
        let (publisher, events) = publish::connect(config, tracks);
        (Box::new(publisher), events)
    }

    fn takes(&self, ws_url: &str) -> Takes {
        self.server(ws_url).subscribe()
    }
}

type Joined = (Box<dyn Room>, mpsc::Receiver<Event>);

/// Rooms of which one was joined before its session began. Dropping it unused leaves that one.
pub struct Ahead {
    joined: Mutex<Option<Joined>>,
    rooms: Arc<dyn Rooms>,
}

impl Ahead {
    /// Joins, without a track yet.
    pub fn join(rooms: Arc<dyn Rooms>, config: Config) -> Self {
        let joined = rooms.join(config, Tracks::default());
        Self { joined: Mutex::new(Some(joined)), rooms }
    }

    /// Whether it could not be joined, or has been left, before a session took it.
    pub fn is_over(&self) -> bool {
        let joined = self.joined.lock().unwrap_or_else(PoisonError::into_inner);
        joined.as_ref().is_some_and(|(_, events)| events.is_closed())
    }
}

impl Rooms for Ahead {
    /// The first time, adds the tracks to the room that was joined.
    fn join(&self, config: Config, tracks: Tracks) -> (Box<dyn Room>, mpsc::Receiver<Event>) {
        let joined = self.joined.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some((room, events)) = joined else { return self.rooms.join(config, tracks) };
        tracks.video.into_iter().for_each(|track| room.add_video(track));
        tracks.audio.into_iter().for_each(|track| room.add_audio(track));
        room.set_attributes(config.attributes);
        (room, events)
    }

    fn takes(&self, ws_url: &str) -> Takes {
        self.rooms.takes(ws_url)
    }
}
