//! What the caller hands in: where to join, and what to publish.

use crate::room::JOIN_PATIENCE;
use model::{Layer, Secret, TrackSource, VideoCodec, VideoFormat};
use std::time::Duration;
use tokio::sync::watch;

/// Where and as whom to join. Whom is all in the token.
#[derive(Clone, Debug)]
pub struct Config {
    /// The SFU: `ws://`, `wss://`, `http://` or `https://`, with or without a path.
    pub ws_url: String,
    /// A LiveKit access token with `roomJoin` and `canPublish`, and `canUpdateOwnMetadata` for attributes.
    pub token: Secret,
    /// Participant attributes to set once joined.
    pub attributes: Vec<(String, String)>,
    /// How long one attempt to join may take, from the first packet to the SFU's first message.
    pub connect_timeout: Duration,
    /// Until when after the beginning another attempt at the first join may begin, where what the one before failed of may pass.
    pub join_patience: Duration,
    /// Whether addresses of the loopback interface may be used for media.
    pub loopback: bool,
    /// How a video track will be coded that is added later, where that is known: what was not in the first offer can't be added.
    pub expected: Option<VideoFormat>,
    /// Where to put which video codecs the server takes, once it has told; each join tells it anew.
    pub takes: Option<watch::Sender<Option<Vec<VideoCodec>>>>,
    /// For tests of repair: leaves out one of so many datagrams once media flows; 0 leaves out none.
    #[doc(hidden)]
    pub lose_one_in: u32,
}

impl Config {
    /// Five seconds to join (as the Go ingress gives it), and some more attempts; no attributes, no loopback.
    pub fn new(ws_url: impl Into<String>, token: Secret) -> Self {
        Self {
            ws_url: ws_url.into(),
            token,
            attributes: Vec::new(),
            connect_timeout: Duration::from_secs(5),
            join_patience: JOIN_PATIENCE,
            loopback: false,
            expected: None,
            takes: None,
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
    /// Gives its layers other sizes and bitrates; whether that changed any. What can't be changed stays.
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
    /// What it sounds.
    pub source: TrackSource,
    /// Two channels.
    pub stereo: bool,
    /// Whether the encoder sends next to nothing for silence.
    pub dtx: bool,
}

/// What to publish from the start. A track that isn't known yet is added later.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tracks {
    /// The picture.
    pub video: Option<VideoTrack>,
    /// The sound.
    pub audio: Option<AudioTrack>,
}
