//! What an ingress is asked to do, after validation: only possible values exist here.

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

    /// Whether the ingress can be used again after a session (so that it ends INACTIVE, not COMPLETE).
    pub fn reusable(self) -> bool {
        self != Self::Url
    }
}

/// What a published track shows or sounds.
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
    /// What it is.
    pub source: TrackSource,
    /// How to encode it.
    pub encoding: AudioEncoding,
}

/// The video track to publish.
#[derive(Clone, Debug, PartialEq)]
pub struct VideoSpec {
    /// The track's name in the room; may be empty.
    pub name: String,
    /// What it is.
    pub source: TrackSource,
    /// How to encode it, before fitting to the source.
    pub encoding: VideoEncoding,
}

/// A valid ingress.
#[derive(Clone, Debug, PartialEq)]
pub struct IngressSpec {
    /// Its id.
    pub ingress_id: IngressId,
    /// Its name, for logs.
    pub name: String,
    /// The key a publisher shows; empty for URL inputs.
    pub stream_key: Secret,
    /// The address to pull from; empty for RTMP and WHIP. May hold credentials, hence a secret.
    pub url: Secret,
    /// How media comes in.
    pub input: InputKind,
    /// The room to join.
    pub room: String,
    /// Who joins.
    pub identity: String,
    /// The participant's name; may be empty.
    pub participant_name: String,
    /// The participant's metadata; may be empty.
    pub metadata: String,
    /// Whether media is transcoded; if not, it is passed on as it comes.
    pub transcode: bool,
    /// Whether it may be used at all.
    pub enabled: bool,
    /// The audio track.
    pub audio: AudioSpec,
    /// The video track.
    pub video: VideoSpec,
}

impl IngressSpec {
    /// Refuses a publisher that uses the key of another kind of input.
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
