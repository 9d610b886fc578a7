//! The tracks of a received session and their RTP streams.

use super::parameter_sets::ParameterSets;
use super::picture_order::PictureOrder;
use crate::codec::{VIDEO_CLOCK_RATE, audio_clock_rate};
use crate::offer::{Common, Offer};
use crate::red::ReceiveHistory;
use media::rtp_inspector::Inspector;
use model::Kind;
use std::time::{Duration, Instant};
use str0m::media::{Mid, Rid};
use str0m::rtp::Ssrc;
use timing::rtp_clock::RtpTimestamps;

/// One stream: a simulcast layer, single-layer video, or audio.
#[derive(Debug)]
pub(super) struct Stream {
    /// Its place in the offer.
    pub(super) index: usize,
    pub(super) rid: Option<Rid>,
    pub(super) timestamps: RtpTimestamps,
    pub(super) inspector: Option<Inspector>,
    pub(super) parameter_sets: ParameterSets,
    pub(super) ssrc: Option<Ssrc>,
    pub(super) key_wanted: bool,
    /// When a key frame was last requested.
    pub(super) requested: Option<Instant>,
    pub(super) order: PictureOrder,
    /// The newest sequence number, where the client is told a rate.
    pub(super) newest: Option<u64>,
    /// Of redundant audio (RED).
    pub(super) history: ReceiveHistory,
}

impl Stream {
    pub(super) fn may_request(&self, now: Instant, interval: Duration) -> bool {
        self.requested.is_none_or(|at| now >= at + interval)
    }
}

/// A media line of the offer that we take.
#[derive(Debug)]
pub(super) struct Track {
    pub(super) mid: Mid,
    /// The client retransmits what it is asked for.
    pub(super) nack: bool,
    /// It takes requests for key frames as FIR only (RFC 5104 §4.3.1), not as PLI.
    pub(super) fir_only: bool,
    pub(super) streams: Vec<Stream>,
}

#[derive(Debug)]
pub(super) struct Tracks {
    pub(super) audio: Option<Track>,
    pub(super) video: Option<Track>,
}

impl Tracks {
    pub(super) fn new(offer: &Offer) -> Self {
        let track = |common: &Common, rids: Vec<Option<&str>>, rate: u32, inspector: Option<Inspector>| Track {
            mid: Mid::from(common.mid.as_str()),
            nack: common.nack,
            fir_only: false,
            streams: rids
                .into_iter()
                .enumerate()
                .map(|(index, rid)| Stream {
                    index,
                    rid: rid.map(Rid::from),
                    timestamps: RtpTimestamps::new(rate),
                    inspector,
                    parameter_sets: ParameterSets::default(),
                    ssrc: None,
                    // A stream may begin anywhere.
                    key_wanted: inspector.is_some(),
                    requested: None,
                    order: PictureOrder::default(),
                    newest: None,
                    history: ReceiveHistory::default(),
                })
                .collect(),
        };
        // Who retransmits video does so with audio too, though hardly anybody offers it (RFC 4585 §4.2): OBS and aiortc do.
        // FFmpeg 9, which takes no requests for key frames either, does not; and of a datagram with two NACKs it reads none, so
        // that those for audio would cost it video, up to its next key frame. Where audio is redundant there is nothing to ask for.
        let nack = offer.video.as_ref().is_some_and(|v| v.common.nack && (v.pli || v.fir));
        let audio = |track: Track, red: bool| Track { nack: track.nack || (nack && !red), ..track };
        Self {
            audio: offer
                .audio
                .as_ref()
                .map(|a| audio(track(&a.common, vec![None], audio_clock_rate(a.codec), None), a.red.is_some())),
            video: offer.video.as_ref().map(|v| {
                let rids = match v.rids.as_slice() {
                    [] => vec![None],
                    rids => rids.iter().map(|r| Some(r.as_str())).collect(),
                };
                let track = track(&v.common, rids, VIDEO_CLOCK_RATE, Some(Inspector::new(v.format.codec)));
                Track { fir_only: v.fir && !v.pli, ..track }
            }),
        }
    }

    pub(super) fn of(&mut self, kind: Kind) -> Option<&mut Track> {
        match kind {
            Kind::Audio => self.audio.as_mut(),
            Kind::Video => self.video.as_mut(),
        }
    }

    pub(super) fn stream(&mut self, mid: Mid, rid: Option<Rid>) -> Option<&mut Stream> {
        let track = [&mut self.audio, &mut self.video].into_iter().flatten().find(|t| t.mid == mid)?;
        track.streams.iter_mut().find(|s| s.rid == rid)
    }

    /// Whether losses of this track are asked for (NACK, RFC 4585 §6.2.1).
    pub(super) fn sends_nack(&self, mid: Mid) -> bool {
        [&self.audio, &self.video].into_iter().flatten().any(|t| t.mid == mid && t.nack)
    }

    pub(super) fn by_ssrc(&self, ssrc: Ssrc) -> Option<(Kind, usize)> {
        let of = |track: &Option<Track>, kind| {
            let found = track.as_ref()?.streams.iter().find(|s| s.ssrc == Some(ssrc))?;
            Some((kind, found.index))
        };
        of(&self.video, Kind::Video).or_else(|| of(&self.audio, Kind::Audio))
    }

    /// A stream's first packet with this SSRC comes: its numbering begins again.
    pub(super) fn begin_stream(&mut self, ssrc: Ssrc, mid: Mid, rid: Option<Rid>) -> Option<(Kind, usize)> {
        let kind = if self.video.as_ref().is_some_and(|t| t.mid == mid) { Kind::Video } else { Kind::Audio };
        let stream = self.stream(mid, rid)?;
        if stream.ssrc.replace(ssrc).is_some() {
            stream.timestamps.restart();
            stream.history = ReceiveHistory::default();
            stream.parameter_sets = ParameterSets::default();
            stream.newest = None;
            stream.order = PictureOrder::default();
            stream.key_wanted = stream.inspector.is_some();
        }
        Some((kind, stream.index))
    }

    /// A key frame of this video stream is wanted.
    pub(super) fn want_key_frame(&mut self, index: usize) {
        if let Some(stream) = self.video.as_mut().and_then(|t| t.streams.get_mut(index)) {
            stream.key_wanted = true;
        }
    }

    /// When the next request for a key frame may go out, if one is wanted.
    pub(super) fn keyframe_request_deadline(&self, interval: Duration) -> Option<Instant> {
        // Of streams without a packet so far nothing can be requested.
        let wanted = self.video.iter().flat_map(|t| &t.streams).filter(|s| s.key_wanted);
        wanted.filter_map(|s| s.requested.map(|at| at + interval)).min()
    }
}
