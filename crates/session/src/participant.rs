//! What a session needs of its participant in the room: the narrow side of [`publish`], so that sessions can be tested without
//! a server.

use model::{Layer, Proxies};
use publish::{AudioTrack, Config, Event, Media, Output, Publisher, ServerFacts, Tracks, VideoTrack};
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use tokio::sync::{mpsc, watch};

/// Servers of which is remembered what they said. An ingress has one, or a few.
const REMEMBERED_SERVERS: usize = 64;

/// A participant in a room. Its methods are those of [`Publisher`].
pub trait Participant: Send {
    /// See [`Publisher::add_video`].
    fn add_video(&self, track: VideoTrack);
    /// See [`Publisher::add_audio`].
    fn add_audio(&self, track: AudioTrack);
    /// See [`Publisher::send`].
    fn send(&self, output: Output, media: Media) -> bool;
    /// See [`Publisher::restarted`].
    fn restarted(&self);
    /// See [`Publisher::resized`].
    fn resized(&self, layers: Vec<Layer>);
    /// See [`Publisher::set_attributes`].
    fn set_attributes(&self, attributes: Vec<(String, String)>);
    /// See [`Publisher::leave`].
    fn leave(self: Box<Self>) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

impl Participant for Publisher {
    fn add_video(&self, track: VideoTrack) {
        Publisher::add_video(self, track);
    }

    fn add_audio(&self, track: AudioTrack) {
        Publisher::add_audio(self, track);
    }

    fn send(&self, output: Output, media: Media) -> bool {
        Publisher::send(self, output, media)
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

    fn leave(self: Box<Self>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(Publisher::leave(*self))
    }
}

/// A participant, and its events.
pub type Joined = (Box<dyn Participant>, mpsc::Receiver<Event>);

/// Makes participants.
pub trait ParticipantFactory: Send + Sync + 'static {
    /// Joins as `config` says and publishes these tracks. Does not wait: how it goes comes as events.
    fn join(&self, config: Config, tracks: Tracks) -> Joined;

    /// What this server said of itself with its newest join.
    fn server_facts(&self, ws_url: &str) -> Facts;
}

/// What a server says of itself; `None` before the first join.
pub type Facts = watch::Receiver<Option<ServerFacts>>;

/// Makes participants in rooms of LiveKit servers.
#[derive(Debug, Default)]
pub struct LiveKitParticipants {
    proxies: Proxies,
    servers: Mutex<HashMap<String, watch::Sender<Option<ServerFacts>>>>,
}

impl LiveKitParticipants {
    /// Makes participants whose signalling goes by these proxies.
    pub fn new(proxies: Proxies) -> Self {
        Self { proxies, servers: Mutex::default() }
    }

    fn server(&self, ws_url: &str) -> watch::Sender<Option<ServerFacts>> {
        // Each change under the lock is a single map operation: a panic leaves it whole.
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        if servers.len() >= REMEMBERED_SERVERS && !servers.contains_key(ws_url) {
            servers.clear();
        }
        servers.entry(ws_url.to_owned()).or_default().clone()
    }
}

impl ParticipantFactory for LiveKitParticipants {
    fn join(&self, mut config: Config, tracks: Tracks) -> Joined {
        config.proxies = self.proxies.clone();
        config.server_facts = Some(self.server(&config.ws_url));
        let (publisher, events) = publish::connect(config, tracks);
        (Box::new(publisher), events)
    }

    fn server_facts(&self, ws_url: &str) -> Facts {
        self.server(ws_url).subscribe()
    }
}
