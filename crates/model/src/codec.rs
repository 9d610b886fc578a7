//! Codecs, and their names in session descriptions and in the control plane.

use serde::{Deserialize, Serialize};

/// Audio or video.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Kind {
    Audio,
    Video,
}

impl Kind {
    /// "audio" or "video".
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Audio => "audio",
            Kind::Video => "video",
        }
    }
}

/// A video codec that a source may bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs)]
#[non_exhaustive]
pub enum VideoCodec {
    H264,
    H265,
    Vp8,
    Vp9,
    Av1,
    /// Sorenson Spark, FLV codec id 2.
    Flv1,
    /// FLV codec id 3.
    ScreenVideo,
    /// On2 VP6, FLV codec id 4.
    Vp6,
    /// On2 VP6 with alpha, FLV codec id 5.
    Vp6Alpha,
    /// FLV codec id 6.
    ScreenVideo2,
    /// MPEG-1 and MPEG-2 video (ISO 11172-2, 13818-2).
    Mpeg2,
    /// MPEG-4 Part 2 (ISO 14496-2).
    Mpeg4,
}

impl VideoCodec {
    /// The codecs with an RTP payload format that LiveKit takes.
    pub const OVER_RTP: [Self; 5] = [Self::H264, Self::H265, Self::Vp8, Self::Vp9, Self::Av1];

    /// The encoding name in session descriptions (`a=rtpmap`); empty for codecs outside [`VideoCodec::OVER_RTP`].
    pub fn rtp_name(self) -> &'static str {
        match self {
            Self::H264 => "H264",
            Self::H265 => "H265",
            Self::Vp8 => "VP8",
            Self::Vp9 => "VP9",
            Self::Av1 => "AV1",
            _ => "",
        }
    }

    /// The `mime_type` of `livekit.InputVideoState`, like the Go ingress reports it (measured: "video/H264", else GStreamer's name).
    pub fn mime(self) -> &'static str {
        match self {
            Self::H264 => "video/H264",
            Self::H265 => "video/x-h265",
            Self::Vp8 => "video/x-vp8",
            Self::Vp9 => "video/x-vp9",
            Self::Av1 => "video/x-av1",
            Self::Flv1 => "video/x-flash-video",
            Self::ScreenVideo | Self::ScreenVideo2 => "video/x-flash-screen",
            Self::Vp6 => "video/x-vp6-flash",
            Self::Vp6Alpha => "video/x-vp6-alpha",
            Self::Mpeg2 | Self::Mpeg4 => "video/mpeg",
        }
    }
}

/// An audio codec that a source may bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs)]
#[non_exhaustive]
pub enum AudioCodec {
    Aac,
    /// AAC in LOAS or LATM (ISO 14496-3 §1.7), which carry the configuration in the stream.
    AacLatm,
    Mp3,
    Opus,
    Ac3,
    Eac3,
    Flac,
    Speex,
    /// Nellymoser Asao.
    Nellymoser,
    /// ADPCM as in FLV and SWF.
    AdpcmSwf,
    PcmU8,
    PcmS16Le,
    PcmAlaw,
    PcmMulaw,
    /// MPEG-1 and MPEG-2 audio, layers 1 and 2.
    Mp2,
    Vorbis,
}

impl AudioCodec {
    /// The `mime_type` of `livekit.InputAudioState`, like the Go ingress reports it.
    pub fn mime(self) -> &'static str {
        match self {
            Self::Aac | Self::AacLatm => "audio/aac",
            Self::Mp3 | Self::Mp2 => "audio/mpeg",
            Self::Opus => "audio/opus",
            Self::Ac3 => "audio/x-ac3",
            Self::Eac3 => "audio/x-eac3",
            Self::Flac => "audio/x-flac",
            Self::Speex => "audio/x-speex",
            Self::Nellymoser => "audio/x-nellymoser",
            Self::AdpcmSwf => "audio/x-adpcm",
            Self::PcmU8 | Self::PcmS16Le => "audio/x-raw",
            Self::PcmAlaw => "audio/x-alaw",
            Self::PcmMulaw => "audio/x-mulaw",
            Self::Vorbis => "audio/x-vorbis",
        }
    }
}
