//! What the caller hands in: where to join, and what to publish.

use crate::ServerFacts;
use model::{Layer, Proxies, Secret, TrackSource, VideoCodec, VideoFormat};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How long after its beginning another attempt at the first join may begin. One that begins last may take
/// [`Config::connect_timeout`] (5 s): in all that is below the 15 s that a session gives its room.
pub(crate) const JOIN_RETRY_WINDOW: Duration = Duration::from_secs(8);

/// Gives a token for the same participant in the same room, for when another has expired.
#[derive(Clone)]
pub struct RenewToken(Arc<dyn Fn() -> Option<Secret> + Send + Sync>);

impl RenewToken {
    /// Made by this function; `None` where it can't.
    pub fn new(make: impl Fn() -> Option<Secret> + Send + Sync + 'static) -> Self {
        Self(Arc::new(make))
    }

    /// Always this one.
    pub fn same(token: Secret) -> Self {
        Self::new(move || Some(token.clone()))
    }

    /// A token.
    pub fn make(&self) -> Option<Secret> {
        (self.0)()
    }
}

impl fmt::Debug for RenewToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RenewToken")
    }
}

impl PartialEq for RenewToken {
    /// Whether they are copies of one.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// Where to join, and as whom: that is all in the token.
#[derive(Clone, Debug)]
pub struct Config {
    /// The server: `ws://`, `wss://`, `http://` or `https://`, with or without a path.
    pub ws_url: String,
    /// A LiveKit access token with `roomJoin` and `canPublish`, and `canUpdateOwnMetadata` for attributes.
    pub token: Secret,
    /// Makes another such token; `None` where the one above is all there is.
    pub renew: Option<RenewToken>,
    /// Participant attributes to set once joined.
    pub attributes: Vec<(String, String)>,
    /// How long one attempt to join may take, from the first packet to the server's first message.
    pub connect_timeout: Duration,
    /// How long after the beginning another attempt at the first join may begin, where what the one before failed of may pass.
    pub join_retry_window: Duration,
    /// Whether media may use addresses of the loopback interface.
    pub loopback: bool,
    /// How a video track that is added later will be coded, where that is known: a codec that the first offer lacks can't be added.
    pub expected: Option<VideoFormat>,
    /// The proxies that signalling goes by.
    pub proxies: Proxies,
    /// Where to put what the server says of itself. Each join sets it again.
    pub server_facts: Option<watch::Sender<Option<ServerFacts>>>,
    /// For tests of repair: drops one of so many datagrams once media flows; 0 drops none.
    #[doc(hidden)]
    pub lose_one_in: u32,
}

impl Config {
    /// Five seconds to join (like the Go ingress gives it), and some more attempts; no attributes, no loopback.
    pub fn new(ws_url: impl Into<String>, token: Secret) -> Self {
        Self {
            ws_url: ws_url.into(),
            token,
            renew: None,
            attributes: Vec::new(),
            connect_timeout: Duration::from_secs(5),
            join_retry_window: JOIN_RETRY_WINDOW,
            loopback: false,
            expected: None,
            proxies: Proxies::default(),
            server_facts: None,
            lose_one_in: 0,
        }
    }
}

/// A video track to publish.
#[derive(Clone, Debug, PartialEq)]
pub struct VideoTrack {
    /// The client's id of the track; unique in this participant. Letters, digits, `_` and `-`.
    pub cid: String,
    /// The track's name in the room; may be empty.
    pub name: String,
    /// What it shows.
    pub source: TrackSource,
    /// One to three layers, lowest quality first, no quality twice, all of one codec. [`Output::Video`](crate::Output::Video) names
    /// them by their index here.
    pub layers: Vec<LayerFormat>,
}

/// A layer of a track, and how it is coded: the layers of a track may have producers of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerFormat {
    /// Its quality, size and bitrate.
    pub layer: Layer,
    /// How it is coded.
    pub format: VideoFormat,
}

impl VideoTrack {
    /// Gives its layers other sizes and bitrates; whether that changed any. Other qualities, or more or fewer layers, change nothing.
    pub(crate) fn resize(&mut self, layers: &[Layer]) -> bool {
        let same = self.sizes().map(|l| l.quality).eq(layers.iter().map(|l| l.quality));
        let changes = same && !self.sizes().eq(layers.iter().copied());
        if changes {
            self.layers.iter_mut().zip(layers).for_each(|(ours, layer)| ours.layer = *layer);
        }
        changes
    }

    /// Its layers without their formats.
    pub(crate) fn sizes(&self) -> impl Iterator<Item = Layer> + '_ {
        self.layers.iter().map(|l| l.layer)
    }

    /// The size of its largest layer.
    pub(crate) fn size(&self) -> (u32, u32) {
        self.sizes().last().map_or((0, 0), |l| (l.width, l.height))
    }

    /// The codec of all its layers; `None` if it has none.
    pub(crate) fn codec(&self) -> Option<VideoCodec> {
        self.layers.last().map(|l| l.format.codec)
    }

    /// What the track as a whole is offered as: the format of its top layer, which asks the most of whoever decodes it, with dependency
    /// descriptors if any layer has some.
    pub(crate) fn format(&self) -> Option<VideoFormat> {
        let described = self.layers.iter().any(|l| l.format.described);
        self.layers.last().map(|l| VideoFormat { described, ..l.format.clone() })
    }
}

/// An audio track to publish. Always Opus.
#[derive(Clone, Debug, PartialEq)]
pub struct AudioTrack {
    /// The client's id of the track; unique in this participant. Letters, digits, `_` and `-`.
    pub cid: String,
    /// The track's name in the room; may be empty.
    pub name: String,
    /// What is heard.
    pub source: TrackSource,
    /// Two channels.
    pub stereo: bool,
    /// Whether its sender sends next to nothing for silence (DTX).
    pub dtx: bool,
}

/// What to publish from the start. A track that isn't known yet is added later.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tracks {
    /// Video.
    pub video: Option<VideoTrack>,
    /// Audio.
    pub audio: Option<AudioTrack>,
}
