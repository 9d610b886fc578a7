//! The media lines of a received session and their streams, and the engine's settings for them.

use crate::Delivery;
use crate::descriptor;
use crate::dtls;
use crate::engine::codec_name;
use crate::offer::{Common, Offer, Video};
use crate::payload::{Heard, Sets};
use media::rtp_inspector::Inspector;
use model::Kind;
use std::time::{Duration, Instant};
use str0m::RtcConfig;
use str0m::format::{Codec, FormatParams};
use str0m::media::{Frequency, Mid, Rid};
use str0m::rtp::{Extension, Ssrc};
use timing::rtp_clock::Ticks;

/// Ticks of a video RTP clock in a second, and of Opus'.
const VIDEO_RATE: u32 = 90_000;
const AUDIO_RATE: u32 = 48_000;
/// How long sound waits for a packet that is missing: two retransmissions over 60 ms, and a viewer's jitter buffer hides less.
const SOUND_WAIT: Duration = Duration::from_millis(150);
/// The first wait for an answer to a check, doubled each time. Our first one always goes unheard: the client has our answer only
/// after it. ICE's own pace (RFC 8445 §14.2); the engine's 250 ms were what a viewer waited longer for the first picture.
const ICE_FIRST_WAIT: Duration = Duration::from_millis(50);
/// Unanswered checks before a path counts as lost: with that wait, 12 s, so longer than a session may take to connect.
const ICE_RETRANSMITS: usize = 9;

/// How often a sender is told how much it may send, if it is (draft-alvestrand-rmcat-remb §2: once a second, as a rule).
const RATE_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Stream {
    pub(super) index: usize,
    pub(super) rid: Option<Rid>,
    pub(super) ticks: Ticks,
    pub(super) inspector: Option<Inspector>,
    pub(super) sets: Sets,
    pub(super) ssrc: Option<Ssrc>,
    pub(super) key_wanted: bool,
    pub(super) asked: Option<Instant>,
    /// What has come of it in all, and its newest packet, where the sender is told a rate.
    pub(super) bytes: u64,
    pub(super) newest: Option<u64>,
    /// Of sound that comes with redundancy.
    pub(super) heard: Heard,
}

impl Stream {
    pub(super) fn may_ask(&self, now: Instant, every: Duration) -> bool {
        self.asked.is_none_or(|at| now >= at + every)
    }
}

#[derive(Debug)]
pub(super) struct Line {
    pub(super) mid: Mid,
    pub(super) nack: bool,
    pub(super) fir_only: bool,
    pub(super) streams: Vec<Stream>,
}

#[derive(Debug)]
pub(super) struct Lines {
    pub(super) audio: Option<Line>,
    pub(super) video: Option<Line>,
}

impl Lines {
    pub(super) fn new(offer: &Offer) -> Self {
        let line = |common: &Common, rids: Vec<Option<&str>>, rate: u32, inspector: Option<Inspector>| Line {
            mid: Mid::from(common.mid.as_str()),
            nack: common.nack,
            fir_only: false,
            streams: rids
                .into_iter()
                .enumerate()
                .map(|(index, rid)| Stream {
                    index,
                    rid: rid.map(Rid::from),
                    ticks: Ticks::new(rate),
                    inspector,
                    sets: Sets::default(),
                    ssrc: None,
                    // A stream may begin anywhere.
                    key_wanted: inspector.is_some(),
                    asked: None,
                    bytes: 0,
                    newest: None,
                    heard: Heard::default(),
                })
                .collect(),
        };
        // Who sends pictures again when asked to does so with sound too, though hardly anybody offers it (RFC 4585 §4.2): OBS and
        // aiortc do. FFmpeg 9, which takes no requests for key pictures either, does not; and of a datagram with two requests it
        // reads none, so that those for sound would cost it pictures, up to its next key picture. Where sound is redundant there
        // is nothing to ask for.
        let nack = offer.video.as_ref().is_some_and(|v| v.common.nack && (v.pli || v.fir));
        let sound = |line: Line, red: bool| Line { nack: line.nack || (nack && !red), ..line };
        Self {
            audio: offer.audio.as_ref().map(|a| sound(line(&a.common, vec![None], AUDIO_RATE, None), a.red.is_some())),
            video: offer.video.as_ref().map(|v| {
                let rids = match v.rids.as_slice() {
                    [] => vec![None],
                    rids => rids.iter().map(|r| Some(r.as_str())).collect(),
                };
                let line = line(&v.common, rids, VIDEO_RATE, Some(Inspector::new(v.format.codec)));
                Line { fir_only: v.fir && !v.pli, ..line }
            }),
        }
    }

    pub(super) fn of(&mut self, kind: Kind) -> Option<&mut Line> {
        match kind {
            Kind::Audio => self.audio.as_mut(),
            Kind::Video => self.video.as_mut(),
        }
    }

    pub(super) fn stream(&mut self, mid: Mid, rid: Option<Rid>) -> Option<&mut Stream> {
        let line = [&mut self.audio, &mut self.video].into_iter().flatten().find(|l| l.mid == mid)?;
        line.streams.iter_mut().find(|s| s.rid == rid)
    }

    /// Whether the sender of this line sends again what is lost.
    pub(super) fn asks(&self, mid: Mid) -> bool {
        [&self.audio, &self.video].into_iter().flatten().any(|l| l.mid == mid && l.nack)
    }

    pub(super) fn by_ssrc(&self, ssrc: Ssrc) -> Option<(Kind, usize)> {
        let of = |line: &Option<Line>, kind| {
            let found = line.as_ref()?.streams.iter().find(|s| s.ssrc == Some(ssrc))?;
            Some((kind, found.index))
        };
        of(&self.video, Kind::Video).or_else(|| of(&self.audio, Kind::Audio))
    }

    /// A stream shows itself under this SSRC.
    pub(super) fn begins(&mut self, ssrc: Ssrc, mid: Mid, rid: Option<Rid>) -> Option<(Kind, usize)> {
        let kind = if self.video.as_ref().is_some_and(|l| l.mid == mid) { Kind::Video } else { Kind::Audio };
        let stream = self.stream(mid, rid)?;
        if stream.ssrc.replace(ssrc).is_some() {
            stream.ticks.restart();
            stream.heard = Heard::default();
            stream.sets = Sets::default();
            stream.newest = None;
            stream.key_wanted = stream.inspector.is_some();
        }
        Some((kind, stream.index))
    }

    /// When the next request for a key picture may go out, if one is wanted.
    pub(super) fn key_deadline(&self, every: Duration) -> Option<Instant> {
        // Streams that never showed themselves can't be asked.
        let wanted = self.video.iter().flat_map(|l| &l.streams).filter(|s| s.key_wanted);
        wanted.filter_map(|s| s.asked.map(|at| at + every)).min()
    }
}

/// The engine's settings: exactly what was chosen of the offer, by the offer's own numbers.
pub(super) fn config(offer: &Offer, delivery: Delivery, ice_lite: bool) -> RtcConfig {
    let mut rtc = RtcConfig::new()
        .set_crypto_provider(dtls::provider())
        .set_rtp_mode(delivery == Delivery::Packets)
        .set_ice_lite(ice_lite)
        .clear_codecs()
        .clear_extension_map()
        .set_reordering_timeout_audio(Some(SOUND_WAIT));
    if offer.video.as_ref().is_some_and(Video::is_told_a_rate) {
        rtc = rtc.set_stats_interval(Some(RATE_EVERY));
    }
    rtc.set_max_stun_retransmits(ICE_RETRANSMITS);
    rtc.set_initial_stun_rto(ICE_FIRST_WAIT);
    let commons = [offer.audio.as_ref().map(|a| &a.common), offer.video.as_ref().map(|v| &v.common)];
    for (id, uri) in commons.into_iter().flatten().flat_map(|c| &c.extensions) {
        if rtc.extension_map().lookup(*id).is_none() {
            rtc = rtc.set_extension(*id, extension(uri));
        }
    }
    let codecs = rtc.codec_config();
    if let Some(audio) = &offer.audio {
        let parameters = FormatParams {
            min_p_time: Some(10),
            use_inband_fec: Some(true),
            stereo: audio.stereo.then_some(true),
            sprop_stereo: audio.stereo.then_some(true),
            use_dtx: audio.dtx.then_some(true),
            ..Default::default()
        };
        if audio.red.is_some() {
            // By the numbers of browsers; those of the offer take their place.
            codecs.enable_opus(true, true);
        } else {
            let rate = Frequency::FORTY_EIGHT_KHZ;
            codecs.add_config(audio.common.pt.into(), None, Codec::Opus, rate, Some(2), parameters);
        }
    }
    if let Some(video) = &offer.video
        && let Some(codec) = codec_name(video.format.codec)
    {
        let parameters = FormatParams::parse_line(&video.format.parameters);
        let rtx = video.rtx.map(Into::into);
        codecs.add_config(video.common.pt.into(), rtx, codec, Frequency::NINETY_KHZ, None, parameters);
    }
    rtc
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
