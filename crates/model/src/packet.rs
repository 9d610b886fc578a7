//! Passthrough media: RTP packets that go into the room as they came, and how they are coded.

use crate::{EncodedVideo, Kind, Layer, VideoCodec};
use std::sync::Arc;
use std::time::Instant;

/// How a video track is coded, as in a session description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VideoFormat {
    /// The codec.
    pub codec: VideoCodec,
    /// Its format parameters (`a=fmtp`), such as the H.264 profile; may be empty.
    pub parameters: String,
    /// Whether its packets carry dependency descriptors, see [`Packet::descriptor`].
    pub described: bool,
}

/// Constrained baseline, level 3.1, packetization mode 1: what the SFU and all browsers take. Nobody holds a stream to the level.
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

/// How a passthrough Opus track is coded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpusFormat {
    /// Two channels.
    pub stereo: bool,
    /// Discontinuous transmission: silence is sent as next to nothing.
    pub dtx: bool,
}

/// What a source delivers for passthrough, in the order it comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PassthroughMedia {
    /// Video of this format will come; its size is not known yet.
    Expected(VideoFormat),
    /// Video has this format and these layers, lowest first. Comes again when sizes change.
    Video(VideoFormat, Vec<Layer>),
    /// Audio has this format.
    Audio(OpusFormat),
    /// Packets, in the order they came.
    Packets(Vec<Packet>),
    /// Pictures come in another order than they are to be shown in (B-frames), which no WebRTC viewer expects. Comes again, once a
    /// second at most, as long as they do.
    Reordered,
}

/// An RTP packet without the fields that belong to its connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// The track it belongs to.
    pub kind: Kind,
    /// The index of its layer; the lowest is 0.
    pub layer: usize,
    /// Identifies the source's RTP stream. Sequence numbers and timestamps of different streams are unrelated.
    pub stream: u64,
    /// The sequence number in its stream, extended beyond 16 bits. Gaps are packets that are lost or come later.
    pub sequence: u64,
    /// The RTP timestamp.
    pub timestamp: u32,
    /// The capture time, on this machine's clock.
    pub at: Instant,
    /// The marker bit.
    pub marker: bool,
    /// Whether decoding can start here: the first packet of a key frame, or any packet of audio.
    pub key: bool,
    /// Audio level in dBov, where the source sends it (RFC 6464).
    pub level: Option<i8>,
    /// The rotation of the picture, where the source sends it (coordination of video orientation, 3GPP TS 26.114 §7.4.5).
    pub orientation: Option<u8>,
    /// The layer of the frame and the frames it depends on, where the source sends it (the dependency descriptor of "RTP
    /// Payload Format for AV1", appendix A).
    pub descriptor: Option<Arc<[u8]>>,
    /// The payload of a packet to send before this one: parameter sets that the source left out of a key frame.
    pub before: Option<Arc<[u8]>>,
    /// The payload.
    pub payload: Arc<[u8]>,
}
