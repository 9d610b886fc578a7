//! What a source delivers, and what an encoder gives back: access units with their time.

use crate::{AudioCodec, Kind, MediaTime, VideoCodec};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// One access unit: all bytes of one picture, or one packet of coded sound.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// Which track it belongs to.
    pub kind: Kind,
    /// When it is to be shown or heard.
    pub pts: MediaTime,
    /// When it is to be decoded; differs from `pts` only where pictures are reordered.
    pub dts: MediaTime,
    /// Whether decoding can start here. Always true for sound.
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
    /// Width and height in pixels, if the container or the record tells.
    pub size: Option<(u32, u32)>,
    /// How decoded pictures are to be turned to stand upright.
    pub turn: Turn,
    /// How the container says that colours are coded, for streams that don't say it themselves (VP9).
    pub colours: Colours,
    /// How much wider than high a pixel is shown, as a fraction, if the container says so.
    pub pixel_aspect: Option<(u32, u32)>,
    /// Nits of the brightest that is in its pictures, if what they came in says so (mastering display, MaxCLL).
    pub peak: Option<u16>,
}

impl VideoConfig {
    /// What most sources know: nothing is to be turned, and the stream itself tells its colours and the shape of its pixels.
    pub fn new(codec: VideoCodec, record: Bytes, size: Option<(u32, u32)>) -> Self {
        Self { codec, record, size, turn: Turn::Upright, colours: Colours::Unsaid, pixel_aspect: None, peak: None }
    }
}

/// Colours of more than BT.709 has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Colours {
    /// Nothing is said of such.
    #[default]
    Unsaid,
    /// BT.2020.
    Wide,
    /// BT.2100 with the perceptual quantizer (SMPTE ST 2084).
    Pq,
    /// BT.2100 with hybrid log-gamma (ARIB STD-B67).
    Hlg,
}

/// A turn, clockwise: phones film lying on their side and say so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Turn {
    /// None.
    #[default]
    Upright,
    /// By a quarter.
    Quarter,
    /// By half.
    Half,
    /// By three quarters.
    ThreeQuarters,
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

/// Which tracks a source says it will send, where it says so before they come (FLV's onMetaData, an SDP offer).
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
    /// What to expect. May come again; the newest counts.
    Announced(SourceTracks),
    /// The frames that follow on the video track are coded like this.
    VideoConfig(VideoConfig),
    /// The frames that follow on the audio track are coded like this.
    AudioConfig(AudioConfig),
    /// An access unit.
    Frame(Frame),
    /// Media of this kind comes, but no decoder knows it; the words are for the publisher. A configuration of this kind that
    /// follows is a new chance.
    Unusable(Kind, String),
}
