//! The settings of an ingress after validation: invalid ones can't be represented.

use crate::{AudioEncoding, Blame, Fault, IngressId, Secret, VideoEncoding};

/// How media comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum InputKind {
    Rtmp,
    Whip,
    Url,
}

impl InputKind {
    /// The value of the `type` label in metrics: "rtmp", "whip", "url".
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rtmp => "rtmp",
            Self::Whip => "whip",
            Self::Url => "url",
        }
    }

    /// The first letters of this kind's resource ids, as in the Go ingress.
    pub fn resource_prefix(self) -> &'static str {
        match self {
            Self::Rtmp => "RT_",
            Self::Whip => "WH_",
            Self::Url => "UR_",
        }
    }

    /// Whether the ingress can be used again after a session, which then ends INACTIVE and not COMPLETE.
    pub fn reusable(self) -> bool {
        self != Self::Url
    }
}

/// What a published track is for, as LiveKit's `TrackSource`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum TrackSource {
    Camera,
    Microphone,
    ScreenShare,
    ScreenShareAudio,
}

/// The audio track to publish.
#[derive(Clone, Debug, PartialEq)]
pub struct AudioSpec {
    /// The track's name in the room; may be empty.
    pub name: String,
    /// What it is for.
    pub source: TrackSource,
    /// How to encode it.
    pub encoding: AudioEncoding,
}

/// The video track to publish.
#[derive(Clone, Debug, PartialEq)]
pub struct VideoSpec {
    /// The track's name in the room; may be empty.
    pub name: String,
    /// What it is for.
    pub source: TrackSource,
    /// How to encode it, with the layers as configured, before they are fitted to the source.
    pub encoding: VideoEncoding,
}

/// A valid ingress.
#[derive(Clone, Debug, PartialEq)]
pub struct IngressSpec {
    /// Its id.
    pub ingress_id: IngressId,
    /// Its name, for logs.
    pub name: String,
    /// The stream key; empty for URL inputs.
    pub stream_key: Secret,
    /// The URL to pull; empty for RTMP and WHIP. It may hold a login, so it is a secret.
    pub url: Secret,
    /// How media comes in.
    pub input: InputKind,
    /// The name of the room to publish to.
    pub room: String,
    /// The participant's identity.
    pub identity: String,
    /// The participant's name; may be empty.
    pub participant_name: String,
    /// The participant's metadata; may be empty.
    pub metadata: String,
    /// Whether media is transcoded; if not, it goes into the room as it comes (passthrough).
    pub transcode: bool,
    /// Whether it may be used; a disabled ingress refuses publishers.
    pub enabled: bool,
    /// The audio track to publish.
    pub audio: AudioSpec,
    /// The video track to publish.
    pub video: VideoSpec,
}

impl IngressSpec {
    /// Refuses a publisher whose stream key belongs to another kind of input.
    ///
    /// # Errors
    /// [`Blame::Mismatch`].
    pub fn expect_input(&self, input: InputKind) -> Result<(), Fault> {
        if self.input == input {
            return Ok(());
        }
        Err(Fault::new(
            Blame::Mismatch,
            format!(
                "invalid ingress type: this key belongs to a {} ingress and was used with {}",
                self.input.as_str(),
                input.as_str()
            ),
        ))
    }
}
