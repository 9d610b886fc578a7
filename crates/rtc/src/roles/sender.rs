//! The engine without its sockets: offers and answers, frames in, datagrams in and out, all on the caller's clock.

use crate::Error;
use crate::descriptor;
use crate::payload::Repeating;
use crate::stream::{Stream, Types};
use model::{Kind, MediaTime, Packet, VideoCodec, VideoFormat};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use str0m::change::{SdpAnswer, SdpPendingOffer};
use str0m::format::{Codec, FormatParams, PayloadParams};
use str0m::media::{Direction, Frequency, MediaKind, Mid, Pt, Simulcast, SimulcastLayer};
use str0m::net::{Protocol, Receive, TcpType, Transmit};
use str0m::rtp::{Extension, StreamTx};
use str0m::{Candidate, IceConnectionState, Input, Output, Rtc, RtcConfig};

/// Packets kept for repair, per stream: 3 s of a layer at 5 Mbit/s are 1 600, and a repair asked for later than that comes
/// too late for any viewer.
const REPAIR_PACKETS: usize = 2_000;
const REPAIR_AGE: Duration = Duration::from_secs(3);
/// How much of the last second's bytes may be repair. The engine's own limit (0.15) refuses to repair a key frame of a small
/// layer, which is a quarter of that layer's second.
const REPAIR_SHARE: f32 = 0.3;
/// The same of what is passed on: each packet once more. livekit-server (1.13.5) drops packets whose timestamps go back as their
/// numbers go on, as those of B-pictures do, asks for them, and takes them as repair.
const REPAIR_SHARE_PASSED_ON: f32 = 0.5;

/// Between sender reports. Lips and voice are together from the first report of both on; a viewer who has only one waits.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// How often to look at whether the other side has reported losses. It does so once a second, and what it says is not to get old.
const STATS_INTERVAL: Duration = Duration::from_millis(250);

/// What a report may say of one layer: more than a machine sends, and of three a thousandfold fits into 32 bits.
const MOST_KBITS: u32 = 1_000_000;

/// What the engine says of Opus when it says redundancy with it; it takes no other parameters then.
const OPUS_PARAMETERS: &str = "minptime=10;useinbandfec=1";

/// Unanswered checks before a path counts as lost: 0.25 + 0.5 + 1 + 2 + 3 × 3 s, about as long as pion waits (15 s).
const ICE_RETRANSMITS: usize = 7;

/// What an engine is made for.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// The video codecs that may be offered, the preferred one first.
    pub video: Vec<VideoFormat>,
    /// Whether the sound offered has two channels.
    pub stereo: bool,
    /// Whether the sound offered may be silent for long.
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
    /// Its RTP stream id. The only layer of a track goes without.
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

/// The tracks an offer adds.
#[derive(Clone, Debug, Default)]
pub struct Lines {
    /// A picture.
    pub video: Option<VideoLine>,
    /// Sound.
    pub audio: Option<AudioLine>,
}

/// A frame to send.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// When it is to be shown or heard.
    pub pts: MediaTime,
    /// The wall clock of `pts`: sender reports map the one to the other with it (RFC 3550 §6.4.1).
    pub at: Instant,
    /// The access unit: H.264 as Annex B, VP8 as one frame, Opus as one packet.
    pub data: &'a [u8],
    /// Loudness in dBov, of sound where known.
    pub level: Option<i8>,
}

/// What the connection tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// ICE and DTLS are up: frames are sent from here on. Comes again after an ICE restart.
    Up,
    /// No way to the other side works any more; an ICE restart may find one.
    Down,
    /// The other side asks for a key frame (PLI or FIR) of this layer.
    KeyFrameWanted {
        /// Index into [`VideoLine::layers`].
        layer: usize,
    },
    /// A layer is back after a pause that livekit-server may take for its end, see the stream tracker in `pulse`.
    LayerBack {
        /// Index into [`VideoLine::layers`].
        layer: usize,
    },
    /// The other side reports on a layer, about once a second.
    Report {
        /// Index into [`VideoLine::layers`].
        layer: usize,
        /// What was sent since the last report, repair included, in kbit/s.
        kbits: u32,
        /// How much of that is lost for good, in thousandths.
        lost: u32,
    },
    /// A way to reach us that the offer did not hold, as `candidate:` line (RFC 8839 §5.1).
    LocalCandidate(String),
    /// The other side closed the connection, or it can't go on.
    Closed,
}

/// How a datagram travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// UDP.
    Udp,
    /// TCP with a length before each datagram (RFC 4571), opened by us.
    Tcp,
}

struct Line {
    mid: Mid,
    codec: Codec,
    /// The payload type the other side agreed to.
    pt: Option<Pt>,
    /// The one of redundant packets, if it agreed to that too.
    red: Option<Pt>,
    streams: Vec<Stream>,
}

/// A peer connection without sockets.
pub struct Engine {
    rtc: Rtc,
    pending: Option<SdpPendingOffer>,
    video: Option<Line>,
    audio: Option<Line>,
    /// A way to the other side works.
    ice_up: bool,
    /// Ways are being checked, at the start or after a restart.
    checking: bool,
    dtls_up: bool,
    repeating: Repeating,
    /// Whether sound is stereo, and whether silence is left out.
    sound: (bool, bool),
    /// How far frames have been ahead of the clock at most; see [`Engine::wallclock`].
    ahead: Duration,
    deadline: Instant,
    events: VecDeque<Event>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("ice_up", &self.ice_up).field("dtls_up", &self.dtls_up).finish_non_exhaustive()
    }
}

impl Engine {
    /// An engine that knows no address yet.
    pub fn new(config: &Config, now: Instant) -> Self {
        Self {
            rtc: rtc_config(config).build(now),
            pending: None,
            video: None,
            audio: None,
            ice_up: false,
            checking: false,
            dtls_up: false,
            repeating: Repeating::default(),
            sound: (config.stereo, config.dtx),
            ahead: Duration::ZERO,
            deadline: now,
            events: VecDeque::new(),
        }
    }

    /// Offers what is there and `add`, each kind once, as SDP. With `restart`, asks for new ways between the two sides
    /// (RFC 8839 §4.4.1.1.1). `None` if there is nothing to offer. An offer that waits for its answer is given up.
    pub fn offer(&mut self, add: &Lines, restart: bool) -> Option<String> {
        let mut api = self.rtc.sdp_api();
        if restart {
            api.ice_restart(true);
        }
        if let Some(line) = add.audio.as_ref().filter(|_| self.audio.is_none()) {
            let mid = api.add_media(MediaKind::Audio, Direction::SendOnly, None, Some(line.track_id.clone()), None);
            self.audio = Some(Line { mid, codec: Codec::Opus, pt: None, red: None, streams: vec![Stream::audio()] });
        }
        if let Some(line) = add.video.as_ref().filter(|_| self.video.is_none()) {
            let simulcast = simulcast(&line.layers);
            let layered = simulcast.is_some();
            let track_id = Some(line.track_id.clone());
            let mid = api.add_media(MediaKind::Video, Direction::SendOnly, None, track_id, simulcast);
            let streams = line
                .layers
                .iter()
                .enumerate()
                .map(|(rank, l)| Stream::video(&l.format, layered.then_some(l.rid), rank, line.layers.len()))
                .collect();
            let codec = codec_name(line.layers.first()?.format.codec)?;
            self.video = Some(Line { mid, codec, pt: None, red: None, streams });
        }
        let (offer, pending) = api.apply()?;
        self.pending = Some(pending);
        let (stereo, dtx) = self.sound;
        Some(with_sound(&offer.to_sdp_string(), stereo, dtx))
    }

    /// Takes the answer to the newest offer.
    pub fn answer(&mut self, sdp: &str) -> Result<(), Error> {
        let pending = self.pending.take().ok_or(Error::UnexpectedAnswer)?;
        if let Some(kind) = refused(sdp) {
            return Err(Error::NoCommonCodec(kind));
        }
        let answer = SdpAnswer::from_sdp_string(sdp).map_err(|e| Error::Answer(e.into()))?;
        self.rtc.sdp_api().accept_answer(pending, answer).map_err(|e| Error::Answer(e.into()))?;
        for line in [&mut self.video, &mut self.audio].into_iter().flatten().filter(|l| l.pt.is_none()) {
            line.agreed(&mut self.rtc)?;
        }
        Ok(())
    }

    /// Adds an address of ours; true if it is new.
    pub fn add_local(&mut self, transport: Transport, address: SocketAddr) -> bool {
        match local_candidate(transport, address) {
            Ok(c) => {
                let Some(line) = self.rtc.add_local_candidate(c).map(Candidate::to_sdp_string) else { return false };
                self.events.push_back(Event::LocalCandidate(line));
                true
            }
            Err(e) => {
                tracing::debug!(%address, error = %e, "not usable as an ICE candidate");
                false
            }
        }
    }

    /// Takes an address of ours back.
    pub fn remove_local(&mut self, transport: Transport, address: SocketAddr) {
        if let Ok(c) = local_candidate(transport, address) {
            self.rtc.direct_api().invalidate_candidate(&c);
        }
    }

    /// Adds a way to reach the other side, from a `candidate:` line. Returns how and where, unless it is of no use to us.
    pub fn add_remote(&mut self, line: &str) -> Option<(Transport, SocketAddr)> {
        let candidate = Candidate::from_sdp_string(line)
            .inspect_err(|e| tracing::debug!(line, error = %e, "skipping a remote candidate"))
            .ok()?;
        let transport = match candidate.proto() {
            Protocol::Udp => Transport::Udp,
            Protocol::Tcp if candidate.tcptype() != Some(TcpType::Active) => Transport::Tcp,
            _ => return None,
        };
        let address = candidate.addr();
        self.rtc.add_remote_candidate(candidate);
        Some((transport, address))
    }

    /// Whether frames can be sent.
    pub fn is_up(&self) -> bool {
        self.ice_up && self.dtls_up
    }

    /// Whether frames of this kind can be sent: its track is agreed on, too.
    pub fn takes(&self, kind: Kind) -> bool {
        let line = match kind {
            Kind::Video => &self.video,
            Kind::Audio => &self.audio,
        };
        self.is_up() && line.as_ref().is_some_and(|l| l.pt.is_some())
    }

    /// Queues a frame's packets for [`Engine::drain`]. Does nothing while the connection is not up, or for a track or a
    /// layer that was not offered.
    pub fn write(&mut self, kind: Kind, layer: usize, frame: &Frame<'_>, now: Instant) {
        if !self.is_up() {
            return;
        }
        let wallclock = self.wallclock(frame.at, now);
        let line = match kind {
            Kind::Video => &mut self.video,
            Kind::Audio => &mut self.audio,
        };
        let Some(line) = line else { return };
        let Some(types) = line.types(&self.repeating, now) else { return };
        let Some(stream) = line.streams.get_mut(layer) else { return };
        let mut direct = self.rtc.direct_api();
        if let Some(tx) = direct.stream_tx_by_mid(line.mid, stream.rid) {
            if std::mem::replace(&mut stream.passed_on, false) {
                repair(tx, stream);
            }
            let packets = stream.write(tx, types, wallclock, frame);
            self.count(kind, layer, packets, now);
        }
    }

    /// Queues a packet that is passed on, as [`Engine::write`] does a frame. `fresh`: others of its stream were left out before
    /// it, which shall leave no gap.
    pub fn forward(&mut self, packet: &Packet, fresh: bool, now: Instant) {
        if !self.is_up() {
            return;
        }
        let wallclock = self.wallclock(packet.at, now);
        let line = match packet.kind {
            Kind::Video => &mut self.video,
            Kind::Audio => &mut self.audio,
        };
        let Some(line) = line else { return };
        let Some(types) = line.types(&self.repeating, now) else { return };
        let Some(stream) = line.streams.get_mut(packet.layer) else { return };
        let mut direct = self.rtc.direct_api();
        if let Some(tx) = direct.stream_tx_by_mid(line.mid, stream.rid) {
            if !std::mem::replace(&mut stream.passed_on, true) {
                repair(tx, stream);
            }
            let packets = stream.forward(tx, types, wallclock, packet, fresh);
            self.count(packet.kind, packet.layer, packets, now);
        }
    }

    fn count(&mut self, kind: Kind, layer: usize, packets: usize, now: Instant) {
        let Some(line) = self.video.as_mut().filter(|_| kind == Kind::Video) else { return };
        let pulse = line.streams.get_mut(layer).and_then(|s| s.pulse.as_mut());
        if pulse.is_some_and(|p| p.count(packets, now)) {
            self.events.push_back(Event::LayerBack { layer });
        }
    }

    /// Nobody wants this layer for now, of which the other side knows.
    pub fn rest(&mut self, layer: usize) {
        let line = self.video.as_mut();
        if let Some(pulse) = line.and_then(|l| l.streams.get_mut(layer)).and_then(|s| s.pulse.as_mut()) {
            pulse.rest();
        }
    }

    /// Nothing that was sent of this layer is sent again, whoever asks: there is no room for it.
    pub fn forget(&mut self, layer: usize) {
        let Some(line) = &self.video else { return };
        let Some(stream) = line.streams.get(layer) else { return };
        if let Some(tx) = self.rtc.direct_api().stream_tx_by_mid(line.mid, stream.rid) {
            repair(tx, stream);
        }
    }

    /// The wall clock to report for a frame. Sender reports extrapolate from the newest frame to now, and the engine reports
    /// nonsense if that frame lies in the future (its RTP time is then 0). So when frames run ahead of the clock, the whole
    /// session's reports are moved back by as much, for all streams alike: what belongs together stays together.
    fn wallclock(&mut self, at: Instant, now: Instant) -> Instant {
        self.ahead = self.ahead.max(at.saturating_duration_since(now));
        at.checked_sub(self.ahead).unwrap_or(at)
    }

    /// Takes a datagram. What does not belong to this connection, or can't be read, is dropped: anybody can send to us.
    pub fn receive(&mut self, transport: Transport, from: SocketAddr, to: SocketAddr, data: &[u8], now: Instant) {
        let proto = match transport {
            Transport::Udp => Protocol::Udp,
            Transport::Tcp => Protocol::Tcp,
        };
        let Ok(receive) = Receive::new(proto, from, to, data) else { return };
        let input = Input::Receive(now, receive);
        if !self.rtc.accepts(&input) {
            return;
        }
        if let Err(e) = self.rtc.handle_input(input) {
            tracing::debug!(%from, error = %e, "a datagram that the engine refuses");
        }
    }

    /// Lets time pass. Call it once [`Engine::deadline`] is reached, and after [`Engine::write`].
    pub fn tick(&mut self, now: Instant) -> Result<(), Error> {
        self.rtc.handle_input(Input::Timeout(now)).map_err(|e| Error::Engine(e.into()))
    }

    /// Hands out what is to be sent. Call it after every other call.
    pub fn drain(&mut self, mut send: impl FnMut(Transport, SocketAddr, SocketAddr, &[u8])) -> Result<(), Error> {
        loop {
            match self.rtc.poll_output().map_err(|e| Error::Engine(e.into()))? {
                Output::Timeout(at) => {
                    self.deadline = at;
                    return Ok(());
                }
                Output::Transmit(Transmit { proto, source, destination, contents }) => {
                    let transport = if proto == Protocol::Tcp { Transport::Tcp } else { Transport::Udp };
                    send(transport, source, destination, &contents);
                }
                Output::Event(event) => self.note(event),
            }
        }
    }

    /// When [`Engine::tick`] is due, as of the last [`Engine::drain`].
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// What has happened.
    pub fn event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Tells that the way is broken, when that is known from elsewhere.
    pub fn lost(&mut self) {
        self.ice_up = false;
        self.checking = true;
        self.events.push_back(Event::Down);
    }

    /// Says goodbye (RTCP BYE, DTLS close_notify); [`Engine::drain`] hands it out.
    pub fn close(&mut self) {
        if let Err(e) = self.rtc.close() {
            tracing::debug!(error = %e, "closing without goodbye");
        }
    }

    fn note(&mut self, event: str0m::Event) {
        match event {
            str0m::Event::Connected => {
                self.dtls_up = true;
                self.tell_up();
            }
            str0m::Event::IceConnectionStateChange(state) => self.note_ice(state),
            str0m::Event::KeyframeRequest(wish) => {
                let line = self.video.as_ref().filter(|l| l.mid == wish.mid);
                if let Some(layer) = line.and_then(|l| l.streams.iter().position(|s| s.rid == wish.rid)) {
                    self.events.push_back(Event::KeyFrameWanted { layer });
                }
            }
            str0m::Event::MediaEgressStats(stats) => {
                if let Some(loss) = stats.loss {
                    self.repeating.note(loss, stats.timestamp);
                    self.report(&stats, loss);
                } else if let Some((bytes, at)) = self.reported(&stats)
                    && *bytes == stats.bytes
                {
                    // A time in which nothing was sent is none to reckon a rate by.
                    *at = stats.timestamp;
                }
            }
            str0m::Event::Closed => self.events.push_back(Event::Closed),
            _ => {}
        }
    }

    /// Of the layer that these are of: how much of it had been sent when the other side last reported, and when that was.
    fn reported(&mut self, stats: &str0m::stats::MediaEgressStats) -> Option<&mut (u64, Instant)> {
        let line = self.video.as_mut().filter(|l| l.mid == stats.mid)?;
        line.streams.iter_mut().find(|s| s.rid == stats.rid)?.reported.as_mut()
    }

    fn report(&mut self, stats: &str0m::stats::MediaEgressStats, loss: f32) {
        let Some(line) = self.video.as_mut().filter(|l| l.mid == stats.mid) else { return };
        let Some(layer) = line.streams.iter().position(|s| s.rid == stats.rid) else { return };
        let before = line.streams[layer].reported.replace((stats.bytes, stats.timestamp));
        if let Some((bytes, at)) = before {
            let ms = stats.timestamp.saturating_duration_since(at).as_millis().max(1);
            let kbits = u128::from(stats.bytes.saturating_sub(bytes)) * 8 / ms;
            let (kbits, lost) =
                (u32::try_from(kbits).unwrap_or(MOST_KBITS).min(MOST_KBITS), (loss.clamp(0.0, 1.0) * 1000.0) as u32);
            self.events.push_back(Event::Report { layer, kbits, lost });
        }
    }

    fn note_ice(&mut self, state: IceConnectionState) {
        match state {
            IceConnectionState::Connected | IceConnectionState::Completed => {
                self.ice_up = true;
                if std::mem::replace(&mut self.checking, false) {
                    self.tell_up();
                }
            }
            // Before the first time it only means that nothing known so far leads there; more may come, and TCP is to come.
            IceConnectionState::Disconnected if self.ice_up => self.lost(),
            IceConnectionState::Disconnected => self.checking = true,
            // A restart: the old way serves until a new one is found.
            IceConnectionState::New | IceConnectionState::Checking => self.checking = true,
        }
    }

    fn tell_up(&mut self) {
        if self.is_up() {
            self.events.push_back(Event::Up);
        }
    }
}

impl Line {
    /// What its packets are sent as from now on, once that is agreed on.
    fn types(&self, repeating: &Repeating, now: Instant) -> Option<Types> {
        Some(Types { plain: self.pt?, red: self.red.map(|red| (red, repeating.count(now))) })
    }

    /// Finds what was agreed on: the payload type, and the streams, whose repair is set here as they exist only now.
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
                repair(tx, stream);
            }
        }
        Ok(())
    }
}

/// What is sent from now on can be sent again, and nothing that was sent before.
fn repair(tx: &mut StreamTx, stream: &Stream) {
    let share = if stream.passed_on { REPAIR_SHARE_PASSED_ON } else { REPAIR_SHARE };
    tx.set_rtx_cache(REPAIR_PACKETS, REPAIR_AGE, Some(share));
}

fn rtc_config(config: &Config) -> RtcConfig {
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
        .set_rtcp_report_interval_audio(REPORT_INTERVAL)
        .set_rtcp_report_interval_video(REPORT_INTERVAL)
        .set_stats_interval(Some(STATS_INTERVAL));
    if config.video.iter().any(|format| format.described) {
        rtc = rtc.set_extension(12, descriptor::extension());
    }
    rtc.set_max_stun_retransmits(ICE_RETRANSMITS);
    let codecs = rtc.codec_config();
    codecs.enable_opus(true, true);
    for format in &config.video {
        let Some(codec) = codec_name(format.codec) else { continue };
        let (pt, rtx) = payload_types(format.codec);
        let parameters = FormatParams::parse_line(&format.parameters);
        codecs.add_config(pt.into(), Some(rtx.into()), codec, Frequency::NINETY_KHZ, None, parameters);
    }
    rtc
}

/// The track that an answer leaves out (port 0, RFC 3264 §6). LiveKit's server writes such a line without the rest, and the engine
/// would find it damaged.
fn refused(answer: &str) -> Option<Kind> {
    let has = |kind| answer.lines().any(|line| line.starts_with(kind));
    match (has("m=video 0 "), has("m=audio 0 ")) {
        (true, _) => Some(Kind::Video),
        (_, true) => Some(Kind::Audio),
        _ => None,
    }
}

/// An offer or answer of the engine's with what is to be said of this sound beside [`OPUS_PARAMETERS`] (RFC 7587 §7.1).
pub(crate) fn with_sound(sdp: &str, stereo: bool, dtx: bool) -> String {
    let stereo = if stereo { ";stereo=1;sprop-stereo=1" } else { "" };
    let dtx = if dtx { ";usedtx=1" } else { "" };
    sdp.replacen(OPUS_PARAMETERS, &format!("{OPUS_PARAMETERS}{stereo}{dtx}"), 1)
}

fn local_candidate(transport: Transport, address: SocketAddr) -> Result<Candidate, impl std::fmt::Display> {
    match transport {
        Transport::Udp => Candidate::host(address, "udp"),
        Transport::Tcp => Candidate::builder().tcp().host(address).tcptype(TcpType::Active).build(),
    }
}

/// The engine's name of a codec; `None` for those that RTP does not carry.
pub(crate) fn codec_name(codec: VideoCodec) -> Option<Codec> {
    Some(match codec {
        VideoCodec::H264 => Codec::H264,
        VideoCodec::H265 => Codec::H265,
        VideoCodec::Vp8 => Codec::Vp8,
        VideoCodec::Vp9 => Codec::Vp9,
        VideoCodec::Av1 => Codec::Av1,
        _ => return None,
    })
}

/// The payload types that a codec and its retransmissions are offered with: those that browsers use too.
fn payload_types(codec: VideoCodec) -> (u8, u8) {
    match codec {
        VideoCodec::H264 => (125, 107),
        VideoCodec::Vp9 => (98, 99),
        VideoCodec::Av1 => (45, 46),
        VideoCodec::H265 => (102, 103),
        _ => (96, 97),
    }
}

/// RFC 8853: only where there is more than one layer.
fn simulcast(layers: &[LayerLine]) -> Option<Simulcast> {
    (layers.len() > 1).then(|| {
        let mut simulcast = Simulcast::new();
        for layer in layers {
            simulcast.add_send_layer(SimulcastLayer::new(layer.rid));
        }
        simulcast
    })
}

#[cfg(test)]
mod tests;
