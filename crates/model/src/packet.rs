//! Media that is passed on as it comes: RTP packets and what they are coded as.

use crate::{EncodedVideo, Kind, Layer, VideoCodec};
use std::sync::Arc;
use std::time::Instant;

/// How a video track is coded, as session descriptions say it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VideoFormat {
    /// The codec.
    pub codec: VideoCodec,
    /// Its format parameters (`a=fmtp`), such as the H.264 profile; may be empty.
    pub parameters: String,
    /// Its packets go with dependency descriptors, see [`Packet::descriptor`].
    pub described: bool,
}

/// Constrained baseline, level 3.1, packetization mode 1: what SFU and browsers all take; nobody holds a stream to the level.
const H264_PARAMETERS: &str = "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f";

impl From<EncodedVideo> for VideoFormat {
    fn from(video: EncodedVideo) -> Self {
        match video {
            EncodedVideo::H264 => {
                Self { codec: VideoCodec::H264, parameters: H264_PARAMETERS.into(), described: false }
            }
            EncodedVideo::Vp8 => Self { codec: VideoCodec::Vp8, parameters: String::new(), described: false },
        }
    }
}

/// How an Opus track that is passed on is coded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpusFormat {
    /// Two channels.
    pub stereo: bool,
    /// Silence is sent as next to nothing.
    pub dtx: bool,
}

/// What is passed on, and what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Passed {
    /// Video will be coded like this; how large it is must be seen yet.
    Expected(VideoFormat),
    /// Video is coded like this and has these layers, lowest first. Comes again when sizes change.
    Video(VideoFormat, Vec<Layer>),
    /// Sound is coded like this.
    Audio(OpusFormat),
    /// Packets, in the order they came.
    Packets(Vec<Packet>),
}

/// An RTP packet without the numbers that belong to its connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Which track it belongs to.
    pub kind: Kind,
    /// The layer, lowest is 0.
    pub layer: usize,
    /// Names the source's stream: sequence numbers and timestamps of another stream have nothing to do with these.
    pub stream: u64,
    /// Its number in the stream, without wrap-arounds. Gaps are packets that are lost or come later.
    pub sequence: u64,
    /// The RTP timestamp.
    pub timestamp: u32,
    /// When the source took what is in it, by our clock.
    pub at: Instant,
    /// The marker bit.
    pub marker: bool,
    /// Decoding can start here: the first packet of a key picture, or any packet of sound.
    pub key: bool,
    /// Loudness in dBov, of sound where the source tells.
    pub level: Option<i8>,
    /// How to turn the picture, where the source tells (3GPP TS 26.114 §7.4.5).
    pub orientation: Option<u8>,
    /// Which layer of the picture it belongs to and what that builds on, where the source tells (the dependency descriptor of
    /// "RTP Payload Format for AV1", appendix A).
    pub descriptor: Option<Arc<[u8]>>,
    /// What is to go before it in a packet of its own, as the source left it out: parameter sets of a key picture.
    pub before: Option<Arc<[u8]>>,
    /// What is coded.
    pub payload: Arc<[u8]>,
}
