//! What a sender offers: its tracks, and the engine's settings for them.

use crate::codec::engine_codec;
use crate::descriptor;
use model::{Kind, VideoCodec, VideoFormat};
use std::time::Duration;
use str0m::RtcConfig;
use str0m::format::FormatParams;
use str0m::media::{Frequency, Simulcast, SimulcastLayer};
use str0m::rtp::Extension;

/// Between RTCP sender reports. A viewer aligns audio and video from the first report of both on; one who has only one waits.
const SENDER_REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// How often to look at whether the other side has reported losses. It does so once a second, and its report is not to get old.
const STATS_INTERVAL: Duration = Duration::from_millis(250);

/// Unanswered checks before a path counts as lost: 0.25 + 0.5 + 1 + 2 + 3 × 3 s, about as long as pion waits (15 s).
const MAX_STUN_RETRANSMITS: usize = 7;

/// What a connection that sends is made for.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// The video codecs that may be offered, the preferred one first.
    pub video: Vec<VideoFormat>,
    /// Whether the audio offered has two channels.
    pub stereo: bool,
    /// Whether the audio offered may be silent for long (DTX, RFC 6716 §2.1.9).
    pub dtx: bool,
}

/// A video track to offer.
#[derive(Clone, Debug)]
pub struct VideoLine {
    /// The second token of the `a=msid` line.
    pub track_id: String,
    /// Its layers, lowest first, all of one codec, which is among those of [`Config::video`], or nothing is offered.
    pub layers: Vec<LayerLine>,
}

/// A layer of a video track to offer.
#[derive(Clone, Debug)]
pub struct LayerLine {
    /// Its RTP stream id (RFC 8852). The only layer of a track goes without.
    pub rid: &'static str,
    /// How it is coded.
    pub format: VideoFormat,
}

/// An Opus track to offer.
#[derive(Clone, Debug)]
pub struct AudioLine {
    /// The second token of the `a=msid` line.
    pub track_id: String,
}

/// The media lines that an offer adds.
#[derive(Clone, Debug, Default)]
pub struct Lines {
    /// Video.
    pub video: Option<VideoLine>,
    /// Audio.
    pub audio: Option<AudioLine>,
}

/// The engine's settings.
pub(super) fn engine_config(config: &Config) -> RtcConfig {
    // Only the extensions that somebody uses: no transport-cc and no abs-send-time, as we don't estimate bandwidth.
    let mut rtc = RtcConfig::new()
        .set_rtp_mode(true)
        .clear_codecs()
        .clear_extension_map()
        .set_extension(1, Extension::AudioLevel)
        .set_extension(4, Extension::RtpMid)
        .set_extension(10, Extension::RtpStreamId)
        .set_extension(11, Extension::RepairedRtpStreamId)
        .set_extension(13, Extension::VideoOrientation)
        .set_rtcp_report_interval_audio(SENDER_REPORT_INTERVAL)
        .set_rtcp_report_interval_video(SENDER_REPORT_INTERVAL)
        .set_stats_interval(Some(STATS_INTERVAL));
    if config.video.iter().any(|format| format.described) {
        rtc = rtc.set_extension(12, descriptor::extension());
    }
    rtc.set_max_stun_retransmits(MAX_STUN_RETRANSMITS);
    let codecs = rtc.codec_config();
    codecs.enable_opus(true, true);
    for format in &config.video {
        let Some(codec) = engine_codec(format.codec) else { continue };
        let (pt, rtx) = payload_types(format.codec);
        let parameters = FormatParams::parse_line(&format.parameters);
        codecs.add_config(pt.into(), Some(rtx.into()), codec, Frequency::NINETY_KHZ, None, parameters);
    }
    rtc
}

/// The payload types that a codec and its retransmissions (RTX, RFC 4588) are offered with: those that browsers use too.
fn payload_types(codec: VideoCodec) -> (u8, u8) {
    match codec {
        VideoCodec::H264 => (125, 107),
        VideoCodec::Vp9 => (98, 99),
        VideoCodec::Av1 => (45, 46),
        VideoCodec::H265 => (102, 103),
        _ => (96, 97),
    }
}

/// Simulcast (RFC 8853), where there is more than one layer.
pub(super) fn simulcast(layers: &[LayerLine]) -> Option<Simulcast> {
    (layers.len() > 1).then(|| {
        let mut simulcast = Simulcast::new();
        for layer in layers {
            simulcast.add_send_layer(SimulcastLayer::new(layer.rid));
        }
        simulcast
    })
}

/// The kind of track that an answer rejects (port 0, RFC 3264 §6). livekit-server writes such a line without its attributes, and
/// the engine would find it damaged.
pub(super) fn rejected(answer: &str) -> Option<Kind> {
    let has = |kind| answer.lines().any(|line| line.starts_with(kind));
    match (has("m=video 0 "), has("m=audio 0 ")) {
        (true, _) => Some(Kind::Video),
        (_, true) => Some(Kind::Audio),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejected_line_is_no_common_codec() {
        let lines = "v=0\r\ns=-\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\nm=video 0 UDP/TLS/RTP/SAVPF 0\r\n";
        assert_eq!(rejected(lines), Some(Kind::Video));
        assert_eq!(rejected(&lines.replace("m=video 0", "m=video 9")), None);
    }
}
