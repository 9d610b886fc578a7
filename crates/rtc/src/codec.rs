//! Our codecs in the engine's terms, and the clock rates of their RTP timestamps.

use model::{AudioCodec, VideoCodec};
use str0m::format::Codec;

/// Ticks of a video RTP clock in a second (RFC 6184 §8.2.1, RFC 7741 §6.1).
pub(crate) const VIDEO_CLOCK_RATE: u32 = 90_000;
/// Ticks of the RTP clock of Opus in a second (RFC 7587 §4.1).
pub(crate) const OPUS_CLOCK_RATE: u32 = 48_000;

/// Ticks of the RTP clock of G.711 in a second (RFC 3551 §4.5.14).
const G711_CLOCK_RATE: u32 = 8_000;

/// Ticks of the RTP clock of an audio codec in a second.
pub(crate) fn audio_clock_rate(codec: AudioCodec) -> u32 {
    match codec {
        AudioCodec::PcmAlaw | AudioCodec::PcmMulaw => G711_CLOCK_RATE,
        _ => OPUS_CLOCK_RATE,
    }
}

/// The engine's name of a codec; `None` for those without an RTP payload format.
pub(crate) fn engine_codec(codec: VideoCodec) -> Option<Codec> {
    Some(match codec {
        VideoCodec::H264 => Codec::H264,
        VideoCodec::H265 => Codec::H265,
        VideoCodec::Vp8 => Codec::Vp8,
        VideoCodec::Vp9 => Codec::Vp9,
        VideoCodec::Av1 => Codec::Av1,
        _ => return None,
    })
}

/// The format parameters that the engine writes for Opus when it offers redundancy (RED) with it; it takes no others then.
const ENGINE_OPUS_PARAMETERS: &str = "minptime=10;useinbandfec=1";

/// The engine's SDP with the Opus parameters that it leaves out beside [`ENGINE_OPUS_PARAMETERS`] (RFC 7587 §7.1).
pub(crate) fn with_opus_parameters(sdp: &str, stereo: bool, dtx: bool) -> String {
    let stereo = if stereo { ";stereo=1;sprop-stereo=1" } else { "" };
    let dtx = if dtx { ";usedtx=1" } else { "" };
    sdp.replacen(ENGINE_OPUS_PARAMETERS, &format!("{ENGINE_OPUS_PARAMETERS}{stereo}{dtx}"), 1)
}
