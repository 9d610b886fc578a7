//! The role that publishes to the SFU: it makes offers, takes frames and packets to send, and tells what the SFU asks for.

mod config;
mod rewriter;
mod stream;
mod stream_tracker;

pub use config::{AudioLine, Config, LayerLine, Lines, VideoLine};
pub use stream::Frame;

use crate::Error;
use crate::codec::{engine_codec, with_opus_parameters};
use crate::driver::{Change, Driver, Role};
use crate::red::RedundancyControl;
use config::{engine_config, rejected, simulcast};
use model::{Kind, Packet};
use std::collections::VecDeque;
use std::time::{Duration, Instant};
use str0m::Rtc;
use str0m::change::{SdpAnswer, SdpPendingOffer};
use str0m::format::{Codec, PayloadParams};
use str0m::media::{Direction, MediaKind, Mid, Pt, Rid};
use str0m::net::TcpType;
use str0m::stats::MediaEgressStats;
use stream::{Outlet, PayloadTypes, Stream};

/// What a connection that sends tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// ICE and DTLS are up: frames are sent from here on. Comes again after an ICE restart.
    Up,
    /// The path to the other side is broken; an ICE restart may find another one.
    Down,
    /// The other side asks for a key frame of this layer (PLI, RFC 4585 §6.3.1; FIR, RFC 5104 §4.3.1).
    KeyframeRequest {
        /// Index into [`VideoLine::layers`].
        layer: usize,
    },
    /// A layer goes on after a pause that livekit-server may take for its end; see `stream_tracker`.
    LayerResumed {
        /// Index into [`VideoLine::layers`].
        layer: usize,
    },
    /// The other side's receiver report on a layer (RFC 3550 §6.4.2), about once a second.
    Report {
        /// Index into [`VideoLine::layers`].
        layer: usize,
        /// What was sent since the last report, retransmissions included, in kbit/s.
        kbits: u32,
        /// How much of that is lost for good, in thousandths.
        lost: u32,
    },
    /// An address of ours that the offer did not hold, as `candidate:` line (RFC 8839 §5.1).
    LocalCandidate(String),
    /// The other side closed the connection, or it can't go on.
    Closed,
}

/// A media line of ours.
struct Track {
    mid: Mid,
    codec: Codec,
    /// The payload type the other side agreed to.
    pt: Option<Pt>,
    /// The one of redundant audio (RED), if it agreed to that too.
    red: Option<Pt>,
    streams: Vec<Stream>,
}

/// See the [module](self).
pub(crate) struct Sender {
    pending: Option<SdpPendingOffer>,
    video: Option<Track>,
    audio: Option<Track>,
    redundancy: RedundancyControl,
    stereo: bool,
    dtx: bool,
    /// How far frames have been ahead of the clock at most; see [`Sender::report_time`].
    ahead: Duration,
    events: VecDeque<Event>,
}

impl Role for Sender {
    type Event = Event;
    const TCP_TYPE: TcpType = TcpType::Active;
    /// The SFU answers a check of ours every 3 s, and reports on our media every second. Much sooner than ICE's own verdict, and
    /// longer than a check that gets lost.
    const SILENCE_TIMEOUT: Duration = Duration::from_secs(5);
    /// Whoever signals decides.
    const CONNECT_TIMEOUT: Option<Duration> = None;
    const ICE_DECIDES: bool = true;

    fn connection_changed(&mut self, change: Change) {
        self.events.push_back(match change {
            Change::Up => Event::Up,
            Change::Down => Event::Down,
            Change::Closed => Event::Closed,
            Change::LocalCandidate(line) => Event::LocalCandidate(line),
            // The SFU begins the handshake again.
            Change::HandshakeFailed | Change::ConnectTimeout => return,
        });
    }

    fn engine_event(&mut self, _: &mut Rtc, event: str0m::Event) {
        match event {
            str0m::Event::KeyframeRequest(request) => {
                if let Some((layer, _)) = self.layer(request.mid, request.rid) {
                    self.events.push_back(Event::KeyframeRequest { layer });
                }
            }
            str0m::Event::MediaEgressStats(stats) => self.egress_stats(&stats),
            _ => {}
        }
    }

    fn tick(&mut self, _: &mut Rtc, _: bool, _: Instant) {}

    fn deadline(&self) -> Option<Instant> {
        None
    }

    fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }
}

/// What to send, and with which stream.
#[derive(Clone, Copy)]
struct Target {
    kind: Kind,
    layer: usize,
    /// The wall clock of the media.
    at: Instant,
    /// It is passed through, not made of a frame.
    passthrough: bool,
}

impl Driver<Sender> {
    /// A connection that knows no address yet.
    pub(crate) fn sender(config: &Config, now: Instant) -> Self {
        let role = Sender {
            pending: None,
            video: None,
            audio: None,
            redundancy: RedundancyControl::default(),
            stereo: config.stereo,
            dtx: config.dtx,
            ahead: Duration::ZERO,
            events: VecDeque::new(),
        };
        Self::new(engine_config(config).build(now), role, now)
    }

    /// Offers what is there and `add`, each kind once, as SDP. With `restart`, restarts ICE (RFC 8839 §4.4.1.1.1). `None` if
    /// there is nothing to offer. An offer that waits for its answer is given up.
    pub(crate) fn offer(&mut self, add: &Lines, restart: bool) -> Option<String> {
        let (role, rtc) = self.parts();
        let mut api = rtc.sdp_api();
        if restart {
            api.ice_restart(true);
        }
        if let Some(line) = add.audio.as_ref().filter(|_| role.audio.is_none()) {
            let mid = api.add_media(MediaKind::Audio, Direction::SendOnly, None, Some(line.track_id.clone()), None);
            role.audio = Some(Track { mid, codec: Codec::Opus, pt: None, red: None, streams: vec![Stream::audio()] });
        }
        if let Some(line) = add.video.as_ref().filter(|_| role.video.is_none()) {
            let codec = engine_codec(line.layers.first()?.format.codec)?;
            let simulcast = simulcast(&line.layers);
            let layered = simulcast.is_some();
            let track_id = Some(line.track_id.clone());
            let mid = api.add_media(MediaKind::Video, Direction::SendOnly, None, track_id, simulcast);
            let stream = |(rank, layer): (usize, &LayerLine)| {
                Stream::video(&layer.format, layered.then_some(layer.rid), rank, line.layers.len())
            };
            let streams = line.layers.iter().enumerate().map(stream).collect();
            role.video = Some(Track { mid, codec, pt: None, red: None, streams });
        }
        let (offer, pending) = api.apply()?;
        role.pending = Some(pending);
        Some(with_opus_parameters(&offer.to_sdp_string(), role.stereo, role.dtx))
    }

    /// Takes the answer to the newest offer.
    ///
    /// # Errors
    /// [`Error::UnexpectedAnswer`], [`Error::NoCommonCodec`], [`Error::Answer`].
    pub(crate) fn answer(&mut self, sdp: &str, now: Instant) -> Result<(), Error> {
        let (role, rtc) = self.parts();
        let pending = role.pending.take().ok_or(Error::UnexpectedAnswer)?;
        if let Some(kind) = rejected(sdp) {
            return Err(Error::NoCommonCodec(kind));
        }
        let answer = SdpAnswer::from_sdp_string(sdp).map_err(|e| Error::Answer(e.into()))?;
        rtc.sdp_api().accept_answer(pending, answer).map_err(|e| Error::Answer(e.into()))?;
        for track in [&mut role.video, &mut role.audio].into_iter().flatten().filter(|t| t.pt.is_none()) {
            track.agreed(rtc)?;
        }
        self.reset_silence(now);
        Ok(())
    }

    /// Whether frames of this kind can be sent: the connection is up and the track is agreed on.
    pub(crate) fn takes(&self, kind: Kind) -> bool {
        let role = self.role();
        let track = match kind {
            Kind::Video => &role.video,
            Kind::Audio => &role.audio,
        };
        self.is_up() && track.as_ref().is_some_and(|t| t.pt.is_some())
    }

    /// Queues a frame's packets, which leave as time passes. Does nothing while the connection is not up, or for a track or a
    /// layer that was not offered.
    pub(crate) fn write(&mut self, kind: Kind, layer: usize, frame: &Frame<'_>, now: Instant) {
        let target = Target { kind, layer, at: frame.at, passthrough: false };
        self.send(target, now, |stream, outlet| stream.write(outlet, frame));
    }

    /// Queues a packet that is passed through, as [`Driver::write`] does a frame. `fresh`: others of its stream were left out
    /// before it, which shall leave no gap.
    pub(crate) fn forward(&mut self, packet: &Packet, fresh: bool, now: Instant) {
        let target = Target { kind: packet.kind, layer: packet.layer, at: packet.at, passthrough: true };
        self.send(target, now, |stream, outlet| stream.forward(outlet, packet, fresh));
    }

    fn send(&mut self, target: Target, now: Instant, write: impl FnOnce(&mut Stream, Outlet<'_>) -> usize) {
        if !self.is_up() {
            return;
        }
        let (role, rtc) = self.parts();
        let wallclock = role.report_time(target.at, now);
        let track = match target.kind {
            Kind::Video => &mut role.video,
            Kind::Audio => &mut role.audio,
        };
        let Some(track) = track else { return };
        let Some(types) = track.payload_types(&role.redundancy, now) else { return };
        let Some(stream) = track.streams.get_mut(target.layer) else { return };
        let mut direct = rtc.direct_api();
        let Some(tx) = direct.stream_tx_by_mid(track.mid, stream.rid) else { return };
        stream.set_passthrough(tx, target.passthrough);
        let packets = write(stream, Outlet { tx, types, wallclock });
        if stream.count(packets, now) {
            role.events.push_back(Event::LayerResumed { layer: target.layer });
        }
    }

    /// Nobody watches this layer for now, and the SFU knows: a pause of it is no sign of its end.
    pub(crate) fn pause_layer(&mut self, layer: usize) {
        let (role, _) = self.parts();
        if let Some(stream) = role.video.as_mut().and_then(|t| t.streams.get_mut(layer)) {
            stream.pause();
        }
    }

    /// Drops what was sent of this layer, so that it is not sent again whoever asks: the uplink has no capacity for it.
    pub(crate) fn drop_retransmissions(&mut self, layer: usize) {
        let (role, rtc) = self.parts();
        let Some(track) = &role.video else { return };
        let Some(stream) = track.streams.get(layer) else { return };
        if let Some(tx) = rtc.direct_api().stream_tx_by_mid(track.mid, stream.rid) {
            stream.clear_retransmissions(tx);
        }
    }
}

impl Sender {
    /// The wall clock to report for a frame. Sender reports extrapolate from the newest frame to now, and the engine reports
    /// nonsense if that frame lies in the future (its RTP time is then 0). So when frames run ahead of the clock, the whole
    /// session's reports are moved back by as much, for all streams alike, and streams stay aligned.
    fn report_time(&mut self, at: Instant, now: Instant) -> Instant {
        self.ahead = self.ahead.max(at.saturating_duration_since(now));
        at.checked_sub(self.ahead).unwrap_or(at)
    }

    /// The video layer that the engine means by these.
    fn layer(&mut self, mid: Mid, rid: Option<Rid>) -> Option<(usize, &mut Stream)> {
        let track = self.video.as_mut().filter(|t| t.mid == mid)?;
        track.streams.iter_mut().enumerate().find(|(_, stream)| stream.rid == rid)
    }

    fn egress_stats(&mut self, stats: &MediaEgressStats) {
        if let Some(loss) = stats.loss {
            self.redundancy.report(loss, stats.timestamp);
        }
        let Some((layer, stream)) = self.layer(stats.mid, stats.rid) else { return };
        if let Some((kbits, lost)) = stream.report(stats.bytes, stats.loss, stats.timestamp) {
            self.events.push_back(Event::Report { layer, kbits, lost });
        }
    }
}

impl Track {
    /// What its packets are sent as from now on, once that is agreed on.
    fn payload_types(&self, redundancy: &RedundancyControl, now: Instant) -> Option<PayloadTypes> {
        Some(PayloadTypes { plain: self.pt?, red: self.red.map(|red| (red, redundancy.level(now))) })
    }

    /// Finds what was agreed on: the payload types, and the streams, whose retransmission is set here as they exist only now.
    fn agreed(&mut self, rtc: &mut Rtc) -> Result<(), Error> {
        let agreed = rtc.media(self.mid).map(|m| m.remote_pts().to_vec()).unwrap_or_default();
        let params = rtc.codec_config().params();
        let found =
            agreed.into_iter().find_map(|pt| params.iter().find(|p| p.pt() == pt && p.spec().codec == self.codec));
        (self.pt, self.red) = (found.map(PayloadParams::pt), found.and_then(PayloadParams::red));
        if self.pt.is_none() {
            return Err(Error::NoCommonCodec(if self.codec == Codec::Opus { Kind::Audio } else { Kind::Video }));
        }
        let mut direct = rtc.direct_api();
        for stream in &self.streams {
            if let Some(tx) = direct.stream_tx_by_mid(self.mid, stream.rid) {
                stream.clear_retransmissions(tx);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
