//! Coded media with its time: what sources deliver to a session, and what encoders return.

use crate::{AudioCodec, Kind, MediaTime, VideoCodec};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// One access unit: the bytes of one coded picture, or one packet of coded audio.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// Which track it belongs to.
    pub kind: Kind,
    /// Presentation time.
    pub pts: MediaTime,
    /// Decoding time; differs from `pts` only where pictures are reordered.
    pub dts: MediaTime,
    /// Whether it is a key frame. Always true for audio.
    pub key: bool,
    /// The coded bytes. H.264 and H.265: length-prefixed NAL units as in MP4 (the size of the prefix is in the codec's
    /// configuration record); AV1: low-overhead OBUs; all others as the codec defines one packet.
    pub data: Bytes,
}

/// How the video track that follows is coded. Sent before its first frame and again whenever it changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VideoConfig {
    /// The codec.
    pub codec: VideoCodec,
    /// The decoder configuration record: avcC (ISO 14496-15 §5.3.3), hvcC (§8.3.3), av1C, vpcC; empty where there is none.
    pub record: Bytes,
    /// Width and height in pixels, if the container or the record names them.
    pub size: Option<(u32, u32)>,
    /// How decoded pictures are to be turned.
    pub rotation: Rotation,
    /// The colours that the container names, for streams that do not name them themselves (VP9).
    pub colours: Colours,
    /// The pixel aspect ratio, width to height, if the container names one.
    pub pixel_aspect: Option<(u32, u32)>,
    /// The luminance of the brightest pixel in cd/m² (nits), if the container names it (mastering display, MaxCLL).
    pub max_luminance: Option<u16>,
}

impl VideoConfig {
    /// A configuration of which only codec, record and size are known: no rotation, and colours and pixel aspect ratio as the
    /// stream itself says.
    pub fn new(codec: VideoCodec, record: Bytes, size: Option<(u32, u32)>) -> Self {
        Self {
            codec,
            record,
            size,
            rotation: Rotation::None,
            colours: Colours::Unspecified,
            pixel_aspect: None,
            max_luminance: None,
        }
    }
}

/// Colours beyond BT.709.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Colours {
    /// The container names none, or BT.709.
    #[default]
    Unspecified,
    /// BT.2020.
    Wide,
    /// BT.2100 with the perceptual quantizer (SMPTE ST 2084).
    Pq,
    /// BT.2100 with hybrid log-gamma (ARIB STD-B67).
    Hlg,
}

/// By how much decoded pictures are to be turned clockwise before they are shown. Phones film lying on their side and say so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rotation {
    /// Not at all.
    #[default]
    None,
    /// By a quarter turn.
    Clockwise90,
    /// By half a turn.
    Clockwise180,
    /// By three quarters of a turn.
    Clockwise270,
}

/// How the audio track that follows is coded. Sent before its first frame and again whenever it changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AudioConfig {
    /// The codec.
    pub codec: AudioCodec,
    /// AAC: AudioSpecificConfig (ISO 14496-3 §1.6.2.1); Opus: `OpusHead`; FLAC: STREAMINFO; Vorbis: the three header packets,
    /// laced as in Matroska's CodecPrivate; empty where there is none.
    pub record: Bytes,
    /// Samples a second, if known without decoding.
    pub sample_rate: Option<u32>,
    /// Channels, if known without decoding.
    pub channels: Option<u8>,
}

/// The tracks that a source announces before they come (FLV's onMetaData, an SDP offer).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceTracks {
    /// A video track is announced.
    pub video: bool,
    /// An audio track is announced.
    pub audio: bool,
}

/// What flows from a source into a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Media {
    /// The tracks to expect. May come again; the newest counts.
    Announced(SourceTracks),
    /// The frames that follow on the video track are coded like this.
    VideoConfig(VideoConfig),
    /// The frames that follow on the audio track are coded like this.
    AudioConfig(AudioConfig),
    /// An access unit.
    Frame(Frame),
    /// Media of this kind comes, but no decoder takes it; the text is for the publisher. A later configuration of this kind
    /// replaces this.
    Unusable(Kind, String),
}
