//! The engine's settings: exactly what was chosen of the offer, by the offer's own numbers.

use crate::codec::engine_codec;
use crate::offer::{Audio, Delivery, Offer, Video};
use crate::{descriptor, dtls};
use model::AudioCodec;
use std::time::Duration;
use str0m::RtcConfig;
use str0m::format::{Codec, FormatParams};
use str0m::media::Frequency;
use str0m::rtp::Extension;

/// How long audio waits for a packet that is missing: two retransmissions over 60 ms, and a viewer's jitter buffer conceals less.
const AUDIO_REORDERING_TIMEOUT: Duration = Duration::from_millis(150);
/// The first wait for an answer to a check, doubled each time. Our first one always goes unanswered: the client has our answer only
/// after it. ICE's own pacing (RFC 8445 §14.2); with the engine's 250 ms a viewer waited that much longer for the first frame.
const INITIAL_STUN_RTO: Duration = Duration::from_millis(50);
/// Unanswered checks before a path counts as lost: with that wait, 12 s, so longer than a session may take to connect.
const MAX_STUN_RETRANSMITS: usize = 9;
/// How often a client is told how much it may send, if it is (draft-alvestrand-rmcat-remb §2: once a second, as a rule).
const REMB_INTERVAL: Duration = Duration::from_secs(1);

pub(super) fn engine_config(offer: &Offer, delivery: Delivery, ice_lite: bool) -> RtcConfig {
    let mut rtc = RtcConfig::new()
        .set_crypto_provider(dtls::provider())
        .set_rtp_mode(delivery == Delivery::Packets)
        .set_ice_lite(ice_lite)
        .clear_codecs()
        .clear_extension_map()
        .set_reordering_timeout_audio(Some(AUDIO_REORDERING_TIMEOUT));
    if offer.video.as_ref().is_some_and(Video::needs_remb) {
        rtc = rtc.set_stats_interval(Some(REMB_INTERVAL));
    }
    rtc.set_max_stun_retransmits(MAX_STUN_RETRANSMITS);
    rtc.set_initial_stun_rto(INITIAL_STUN_RTO);
    let commons = [offer.audio.as_ref().map(|a| &a.common), offer.video.as_ref().map(|v| &v.common)];
    for (id, uri) in commons.into_iter().flatten().flat_map(|c| &c.extensions) {
        if rtc.extension_map().lookup(*id).is_none() {
            rtc = rtc.set_extension(*id, extension(uri));
        }
    }
    if let Some(audio) = &offer.audio {
        add_audio(&mut rtc, audio);
    }
    if let Some(video) = &offer.video {
        add_video(&mut rtc, video);
    }
    rtc
}

fn add_audio(rtc: &mut RtcConfig, audio: &Audio) {
    let codecs = rtc.codec_config();
    if audio.red.is_some() {
        // By the payload types of browsers; those of the offer take their place.
        codecs.enable_opus(true, true);
        return;
    }
    if let Some(g711) = g711(audio.codec) {
        codecs.add_config(audio.common.pt.into(), None, g711, Frequency::EIGHT_KHZ, None, FormatParams::default());
        return;
    }
    let parameters = FormatParams {
        min_p_time: Some(10),
        use_inband_fec: Some(true),
        stereo: audio.stereo.then_some(true),
        sprop_stereo: audio.stereo.then_some(true),
        use_dtx: audio.dtx.then_some(true),
        ..Default::default()
    };
    let rate = Frequency::FORTY_EIGHT_KHZ;
    codecs.add_config(audio.common.pt.into(), None, Codec::Opus, rate, Some(2), parameters);
}

/// The engine's name of the two codecs of G.711.
fn g711(codec: AudioCodec) -> Option<Codec> {
    match codec {
        AudioCodec::PcmMulaw => Some(Codec::PCMU),
        AudioCodec::PcmAlaw => Some(Codec::PCMA),
        _ => None,
    }
}

fn add_video(rtc: &mut RtcConfig, video: &Video) {
    let Some(codec) = engine_codec(video.format.codec) else { return };
    let parameters = FormatParams::parse_line(&video.format.parameters);
    let rtx = video.rtx.map(Into::into);
    rtc.codec_config().add_config(video.common.pt.into(), rtx, codec, Frequency::NINETY_KHZ, None, parameters);
}

fn extension(uri: &str) -> Extension {
    match uri {
        "urn:ietf:params:rtp-hdrext:sdes:mid" => Extension::RtpMid,
        "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id" => Extension::RtpStreamId,
        "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id" => Extension::RepairedRtpStreamId,
        "urn:ietf:params:rtp-hdrext:ssrc-audio-level" => Extension::AudioLevel,
        "urn:3gpp:video-orientation" => Extension::VideoOrientation,
        descriptor::URI => descriptor::extension(),
        _ => Extension::TransportSequenceNumber,
    }
}
