//! The engine of a received session, without its sockets: an offer is answered, datagrams and the time go in; datagrams and
//! [`Received`] come out. The receiving twin of [`crate::Engine`].
//!
//! To be passed on, packets are taken in the engine's RTP mode and leave with what [`crate::inspect`] sees in them; to be
//! decoded, the engine puts them in order and together, see [`frames`].

mod budget;
mod frames;
mod lines;

use crate::descriptor::Descriptor;
use crate::engine::Transport;
use crate::layers::Layers;
use crate::offer::Offer;
use crate::payload;
use crate::{Accept, Delivery, Error, Received, Refusal};
use budget::Budget;
use frames::Frames;
use lines::{Line, Lines};
use model::{Blame, Fault, Kind, Media, OpusFormat, Packet, PassthroughMedia, SourceTracks};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use str0m::bwe::Bitrate;
use str0m::change::SdpOffer;
use str0m::media::{KeyframeRequestKind, MediaData, Mid, Rid};
use str0m::net::{Protocol, Receive, TcpType, Transmit};
use str0m::rtp::{RtpPacket, Ssrc};
use str0m::stats::MediaIngressStats;
use str0m::{Candidate, IceConnectionState, Input, Output, Rtc};
use timing::rtp_clock::Clock;

/// Nothing at all received for so long means that the sender has vanished: it checks the way every few seconds even when it
/// has nothing to show. With what it takes to end, below the ten seconds promised.
const SILENCE: Duration = Duration::from_secs(8);
/// How long a sender may take from its offer to its first media packet's way: browsers try their candidates for up to 15 s,
/// but a way that works is found within one or two.
const CONNECT: Duration = Duration::from_secs(10);
/// Between two requests for the same key picture: a round trip around the world, and time to encode it.
const KEY_EVERY: Duration = Duration::from_millis(300);
/// Datagrams of a handshake kept until ICE is done: a first flight in small pieces.
const MAX_EARLY: usize = 8;
/// Events kept for whoever polls: media is taken at once, so more means that nobody does.
const MAX_EVENTS: usize = 512;

/// See the [module](self).
pub(crate) struct Receiver {
    rtc: Rtc,
    offer: Offer,
    lines: Lines,
    clock: Clock,
    layers: Layers,
    frames: Option<Frames>,
    /// Of a sender that obeys nothing better.
    budget: Option<Budget>,
    packets: Vec<Packet>,
    events: VecDeque<Received>,
    deadline: Instant,
    began: Instant,
    heard: Instant,
    connected: bool,
    /// ICE has found a way since anybody looked.
    ice_up: bool,
    early: Vec<(Transport, SocketAddr, SocketAddr, Vec<u8>)>,
    over: bool,
    /// Streams are named by it and their SSRC.
    name: u32,
}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receiver").field("connected", &self.connected).field("over", &self.over).finish_non_exhaustive()
    }
}

impl Receiver {
    /// Takes an offer, as one who is reached at `locals`. Gives the engine's answer, which [`Offer::finish`] completes.
    ///
    /// # Errors
    /// [`Refusal`].
    pub(crate) fn new(
        offer: Offer,
        accept: &Accept,
        ice_lite: bool,
        locals: &[(Transport, SocketAddr)],
        now: Instant,
    ) -> Result<(Self, String), Refusal> {
        let mut rtc = lines::config(&offer, accept.delivery, ice_lite).build(now);
        for &(transport, address) in locals {
            match local_candidate(transport, address) {
                Ok(c) => _ = rtc.add_local_candidate(c),
                Err(e) => tracing::debug!(%address, error = %e, "not usable as an ICE candidate"),
            }
        }
        let answer = accept_offer(&mut rtc, &offer)?;
        let lines = Lines::new(&offer);
        let layers = Layers::new(offer.video.as_ref().map_or(&[][..], |v| &v.rids));
        let frames = (accept.delivery == Delivery::Frames).then(|| Frames::new(&offer, now));
        let mut receiver = Self {
            rtc,
            lines,
            clock: Clock::new(now),
            layers,
            frames,
            budget: offer.video.as_ref().filter(|v| v.is_told_a_rate()).map(|_| Budget::new()),
            packets: Vec::new(),
            events: VecDeque::new(),
            deadline: now,
            began: now,
            heard: now,
            connected: false,
            ice_up: false,
            early: Vec::new(),
            over: false,
            name: rand::random(),
            offer,
        };
        receiver.announce();
        receiver.drain(|_, _, _, _| {}).map_err(|e| Refusal::Unacceptable(e.to_string()))?;
        Ok((receiver, answer))
    }

    /// What the offer already tells.
    fn announce(&mut self) {
        self.tell(Received::Media(Media::Announced(self.tracks())));
        if let (Some(video), None) = (&self.offer.video, &self.frames) {
            self.tell(Received::Passthrough(PassthroughMedia::Expected(video.format.clone())));
        }
        if let Some(audio) = &self.offer.audio {
            let format = OpusFormat { stereo: audio.stereo, dtx: audio.dtx };
            match &self.frames {
                Some(frames) => self.tell(Received::Media(Media::AudioConfig(frames.audio_config(format)))),
                None => self.tell(Received::Passthrough(PassthroughMedia::Audio(format))),
            }
        }
    }

    /// What the offer sends.
    pub(crate) fn tracks(&self) -> SourceTracks {
        SourceTracks { video: self.offer.video.is_some(), audio: self.offer.audio.is_some() }
    }

    /// Our ICE user fragment and password.
    pub(crate) fn credentials(&mut self) -> (String, String) {
        let creds = self.rtc.direct_api().local_ice_credentials();
        (creds.ufrag, creds.pass)
    }

    pub(crate) fn offer(&self) -> &Offer {
        &self.offer
    }

    /// Takes more ways to the sender.
    pub(crate) fn trickle(&mut self, candidates: &[String]) {
        for line in candidates {
            if let Ok(c) = Candidate::from_sdp_string(line) {
                self.rtc.add_remote_candidate(c);
            }
        }
    }

    /// Starts ICE anew, with the sender's new credentials.
    ///
    /// # Errors
    /// [`Refusal::Unreadable`].
    pub(crate) fn restart(
        &mut self,
        ufrag: String,
        pwd: String,
        candidates: Vec<String>,
        now: Instant,
    ) -> Result<(), Refusal> {
        let before = std::mem::replace(&mut self.offer.ufrag, ufrag);
        self.offer.pwd = pwd;
        self.offer.candidates = candidates;
        if before == self.offer.ufrag {
            return Err(Refusal::Unreadable("the restart brings the credentials that run already".into()));
        }
        accept_offer(&mut self.rtc, &self.offer)?;
        self.heard = now;
        Ok(())
    }

    /// Whether ICE and DTLS are up.
    pub(crate) fn connected(&self) -> bool {
        self.connected
    }

    /// Asks for a key picture of the layer with this rank.
    pub(crate) fn want_key(&mut self, rank: usize) {
        if let (Some(index), Some(video)) = (self.layers.at_rank(rank), &mut self.lines.video)
            && let Some(stream) = video.streams.get_mut(index)
        {
            stream.key_wanted = true;
        }
    }

    /// Takes a datagram; false if it does not belong here, or can't be read: anybody can send to us.
    pub(crate) fn receive(
        &mut self,
        transport: Transport,
        from: SocketAddr,
        to: SocketAddr,
        data: &[u8],
        now: Instant,
    ) -> bool {
        let proto = match transport {
            Transport::Udp => Protocol::Udp,
            Transport::Tcp => Protocol::Tcp,
        };
        let Ok(receive) = Receive::new(proto, from, to, data) else { return false };
        let input = Input::Receive(now, receive);
        if !self.rtc.accepts(&input) {
            self.keep_early(transport, from, to, data);
            return false;
        }
        self.heard = now;
        if let Err(e) = self.rtc.handle_input(input) {
            tracing::debug!(%from, error = %e, "a datagram that the engine refuses");
            if !self.connected && is_dtls(data) {
                self.end(Received::Lost(no_keys()));
            }
        }
        true
    }

    /// Keeps what begins the handshake before ICE has come to an end on our side: its sender would wait a second before it says
    /// it again.
    fn keep_early(&mut self, transport: Transport, from: SocketAddr, to: SocketAddr, data: &[u8]) {
        if !self.connected && is_dtls(data) && self.early.len() < MAX_EARLY {
            self.early.push((transport, from, to, data.to_vec()));
        }
    }

    /// Takes what came early, now that ICE knows where it comes from.
    fn take_early(&mut self, now: Instant) {
        if std::mem::take(&mut self.ice_up) {
            for (transport, from, to, data) in std::mem::take(&mut self.early) {
                self.receive(transport, from, to, &data, now);
            }
        }
    }

    /// Lets time pass. Call it once [`Receiver::deadline`] is reached.
    ///
    /// # Errors
    /// [`Error::Engine`] if it is of no more use.
    pub(crate) fn tick(&mut self, now: Instant) -> Result<(), Error> {
        if !self.connected && now >= self.began + CONNECT {
            self.end(Received::Lost(no_way()));
        } else if self.connected && now >= self.heard + SILENCE {
            self.end(Received::Lost(vanished()));
        }
        self.settle(now);
        self.take_early(now);
        self.ask_for_keys(now);
        self.rtc.handle_input(Input::Timeout(now)).map_err(|e| Error::Engine(e.into()))
    }

    /// Hands out what is to be sent, and takes in what has happened. Call it after every other call.
    ///
    /// # Errors
    /// [`Error::Engine`] if it is of no more use.
    pub(crate) fn drain(
        &mut self,
        mut send: impl FnMut(Transport, SocketAddr, SocketAddr, &[u8]),
    ) -> Result<(), Error> {
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

    /// When [`Receiver::tick`] is due.
    pub(crate) fn deadline(&self) -> Instant {
        let silence = if self.connected { self.heard + SILENCE } else { self.began + CONNECT };
        let frames = self.frames.as_ref().and_then(|f| f.deadline());
        let keys = self.lines.key_deadline(KEY_EVERY);
        [self.layers.deadline(), frames, keys].into_iter().flatten().fold(self.deadline.min(silence), Instant::min)
    }

    /// What has happened.
    pub(crate) fn event(&mut self) -> Option<Received> {
        if let Some(event) = self.events.pop_front() {
            return Some(event);
        }
        if self.packets.is_empty() || self.over {
            return None;
        }
        Some(Received::Passthrough(PassthroughMedia::Packets(std::mem::take(&mut self.packets))))
    }

    /// Ends it by our own wish; [`Receiver::drain`] hands the goodbye out.
    pub(crate) fn close(&mut self) {
        if let Err(e) = self.rtc.close() {
            tracing::debug!(error = %e, "closing without goodbye");
        }
        self.end(Received::Finished);
    }

    fn end(&mut self, how: Received) {
        if !std::mem::replace(&mut self.over, true) {
            self.packets.clear();
            self.events.push_back(how);
        }
    }

    fn tell(&mut self, received: Received) {
        if !self.over && self.events.len() < MAX_EVENTS {
            self.events.push_back(received);
        }
    }

    fn note(&mut self, event: str0m::Event) {
        match event {
            str0m::Event::Connected => {
                self.connected = true;
                self.events.push_back(Received::Connected);
            }
            str0m::Event::IceConnectionStateChange(IceConnectionState::Connected | IceConnectionState::Completed) => {
                self.ice_up = true;
            }
            str0m::Event::IceConnectionStateChange(IceConnectionState::Disconnected) if !self.connected => {
                tracing::debug!("no way to the sender so far");
            }
            str0m::Event::RtpPacket(packet) => self.on_packet(packet),
            str0m::Event::MediaData(data) => self.on_data(data),
            str0m::Event::SenderFeedback(report) => {
                let wall = report.sender_info.ntp_time.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
                // As on the wire: the engine's own extension of it is another than ours.
                let timestamp = report.sender_info.rtp_time.numer() as u32;
                if let Some(stream) = self.lines.stream(report.mid, report.rid) {
                    self.clock.report(&mut stream.ticks, timestamp, wall, report.received_at);
                }
            }
            str0m::Event::MediaIngressStats(stats) => self.tell_rate(&stats),
            str0m::Event::Closed => self.end(Received::Finished),
            _ => {}
        }
    }

    /// Tells the sender how much it may send, after each of the engine's looks at what comes.
    fn tell_rate(&mut self, stats: &MediaIngressStats) {
        let (Some(budget), Some(video)) = (&mut self.budget, &mut self.lines.video) else { return };
        // Of several layers it is all of them together that the line carries; they are looked at one after the other.
        let place = video.streams.iter().position(|s| s.rid == stats.rid).filter(|_| stats.mid == video.mid);
        let Some(place) = place else { return };
        video.streams[place].bytes = stats.bytes;
        if place + 1 < video.streams.len() {
            return;
        }
        let bytes = video.streams.iter().map(|s| s.bytes).sum();
        let rate = budget.report(bytes, stats.loss.unwrap_or(0.0), stats.timestamp);
        let told = video.streams.iter().find_map(|s| s.ssrc.map(|_| s.rid));
        let mut direct = self.rtc.direct_api();
        if let Some(rx) = told.and_then(|rid| direct.stream_rx_by_mid(video.mid, rid)) {
            rx.request_remb(Bitrate::from(rate));
        }
    }

    fn on_packet(&mut self, packet: RtpPacket) {
        let now = packet.timestamp;
        let Some((kind, index)) = self.find(packet.header.ssrc) else { return };
        let Some(line) = self.lines.of(kind) else { return };
        let stream = &mut line.streams[index];
        let timestamp = packet.header.timestamp;
        let at = self.clock.at(&mut stream.ticks, timestamp, now);
        if let (Some(budget), Kind::Video) = (&mut self.budget, kind) {
            let before = stream.newest.map_or(*packet.seq_no, |n| n + 1);
            if *packet.seq_no >= before {
                budget.packet((*packet.seq_no - before).min(MAX_EVENTS as u64));
                stream.newest = Some(*packet.seq_no);
            }
            budget.came(now.saturating_duration_since(at));
        }
        let (mut key, mut before) = (true, None);
        if let Some(video) = self.offer.video.as_ref().filter(|_| kind == Kind::Video) {
            before = stream.sets.look(video.format.codec, &packet.payload, timestamp);
        }
        if let Some(inspector) = &mut stream.inspector {
            let seen = inspector.look(&packet.payload, timestamp);
            key = seen.key;
            if key {
                stream.key_wanted = false;
            }
            if let Some(size) = seen.size {
                self.layers.sized(index, size, now);
            }
        }
        self.settle(now);
        let layer = if kind == Kind::Video { self.layers.rank(index) } else { Some(0) };
        // Media that nobody takes any more is not kept either.
        let (Some(layer), false) = (layer, self.over || self.packets.len() >= MAX_EVENTS) else { return };
        let is_red = kind == Kind::Audio && *packet.header.payload_type != self.plain_sound();
        let passed = Packet {
            kind,
            layer,
            stream: u64::from(self.name) << 32 | u64::from(*packet.header.ssrc),
            sequence: *packet.seq_no,
            timestamp,
            at,
            marker: packet.header.marker,
            key,
            level: packet.header.ext_vals.audio_level,
            orientation: packet.header.ext_vals.video_orientation.map(|o| o as u8),
            descriptor: packet.header.ext_vals.user_values.get::<Descriptor>().map(|d| d.0.clone()),
            before,
            payload: packet.payload,
        };
        if is_red {
            self.unwrap(&passed, now);
        } else if kind == Kind::Video || self.is_new(&passed) {
            self.packets.push(passed);
        }
    }

    /// The payload type of Opus as such.
    fn plain_sound(&self) -> u8 {
        self.offer.audio.as_ref().map_or(0, |a| a.common.pt)
    }

    /// Whether a packet of sound has not come before, be it within another.
    fn is_new(&mut self, packet: &Packet) -> bool {
        let redundant = self.offer.audio.as_ref().is_some_and(|a| a.red.is_some());
        let stream = self.lines.audio.as_mut().and_then(|l| l.streams.first_mut());
        !redundant || stream.is_some_and(|s| s.heard.take(packet.sequence, packet.timestamp))
    }

    /// Takes a redundant packet of sound (RFC 2198) apart: what it repeats goes first, where it did not come by itself.
    fn unwrap(&mut self, packet: &Packet, now: Instant) {
        let plain = self.plain_sound();
        let Some((repeated, own)) = payload::blocks(&packet.payload, plain) else { return };
        if !self.is_new(packet) {
            return;
        }
        for (i, (offset, block)) in repeated.iter().enumerate() {
            let timestamp = packet.timestamp.wrapping_sub(*offset);
            let Some(stream) = self.lines.audio.as_mut().and_then(|l| l.streams.first_mut()) else { return };
            let Some(sequence) = stream.heard.missing(packet.sequence, repeated.len() - i, timestamp) else { continue };
            if stream.heard.take(sequence, timestamp) {
                let at = self.clock.at(&mut stream.ticks, timestamp, now);
                let payload = (*block).into();
                let again = Packet { sequence, timestamp, at, marker: false, level: None, payload, ..packet.clone() };
                self.packets.push(again);
            }
        }
        if !own.is_empty() {
            self.packets.push(Packet { payload: own.into(), ..packet.clone() });
        }
    }

    /// Which stream an SSRC is; a new one starts its stream's numbering anew.
    fn find(&mut self, ssrc: Ssrc) -> Option<(Kind, usize)> {
        if let Some(found) = self.lines.by_ssrc(ssrc) {
            return Some(found);
        }
        let mut direct = self.rtc.direct_api();
        let rx = direct.stream_rx(&ssrc)?;
        let (mid, rid) = (rx.mid(), rx.rid());
        let found = self.lines.begins(ssrc, mid, rid)?;
        if self.lines.of(found.0).is_some_and(|l| l.nack) {
            rx.suppress_nack(false);
        }
        Some(found)
    }

    /// Lets a stream's losses be asked for. The engine asks only senders with a retransmission stream for what is lost; others
    /// send it again as it was.
    fn ask_for_losses(&mut self, mid: Mid, rid: Option<Rid>) {
        let Some(stream) = self.lines.stream(mid, rid).filter(|s| s.ssrc.is_none()) else { return };
        let Some(rx) = self.rtc.direct_api().stream_rx_by_mid(mid, rid).map(|rx| {
            rx.suppress_nack(false);
            rx.ssrc()
        }) else {
            return;
        };
        stream.ssrc = Some(rx);
    }

    fn settle(&mut self, now: Instant) {
        let Some(layers) = self.layers.settle(now) else { return };
        tracing::debug!(?layers, "layers of the source");
        if let Some(video) = &self.offer.video
            && self.frames.is_none()
        {
            let format = video.format.clone();
            self.tell(Received::Passthrough(PassthroughMedia::Video(format, layers)));
        }
    }

    fn on_data(&mut self, data: MediaData) {
        if self.lines.asks(data.mid) {
            self.ask_for_losses(data.mid, data.rid);
        }
        let Some(frames) = &mut self.frames else { return };
        let Some(stream) = self.lines.stream(data.mid, data.rid) else { return };
        let at = self.clock.at(&mut stream.ticks, data.time.numer() as u32, data.network_time);
        let index = stream.index;
        if self.offer.audio.as_ref().is_some_and(|a| a.common.mid == data.mid.to_string()) {
            let sound = Media::Frame(frames.sound(&data, at));
            self.tell(Received::Media(sound));
            return;
        }
        if data.is_keyframe() {
            stream.key_wanted = false;
        }
        if let Some(budget) = &mut self.budget {
            budget.came(data.network_time.saturating_duration_since(at));
        }
        let outcome = frames.picture(index, &data, at);
        stream.key_wanted |= outcome.key_wanted;
        for media in outcome.media {
            self.tell(Received::Media(media));
        }
    }

    fn ask_for_keys(&mut self, now: Instant) {
        if !self.connected {
            return;
        }
        let Some(frames_wish) = self.frames.as_mut().map(|f| f.wants_key(now)) else { return self.send_requests(now) };
        if let (Some(video), Some(index)) = (&mut self.lines.video, frames_wish)
            && let Some(stream) = video.streams.get_mut(index)
        {
            stream.key_wanted = true;
        }
        self.send_requests(now);
    }

    fn send_requests(&mut self, now: Instant) {
        let Some(video) = &mut self.lines.video else { return };
        let Line { mid, streams, fir_only, .. } = video;
        for stream in streams.iter_mut().filter(|s| s.key_wanted && s.may_ask(now, KEY_EVERY)) {
            if let Some(rx) = self.rtc.direct_api().stream_rx_by_mid(*mid, stream.rid) {
                rx.request_keyframe(if *fir_only { KeyframeRequestKind::Fir } else { KeyframeRequestKind::Pli });
                stream.asked = Some(now);
            }
        }
    }
}

fn accept_offer(rtc: &mut Rtc, offer: &Offer) -> Result<String, Refusal> {
    // Our own writing: what goes wrong here is a part that only the engine could judge.
    let unreadable = |e: &dyn std::fmt::Display| Refusal::Unreadable(e.to_string());
    let sdp = SdpOffer::from_sdp_string(&offer.write()).map_err(|e| unreadable(&e))?;
    Ok(rtc.sdp_api().accept_offer(sdp).map_err(|e| unreadable(&e))?.to_sdp_string())
}

pub(crate) fn local_candidate(transport: Transport, address: SocketAddr) -> Result<Candidate, impl std::fmt::Display> {
    match transport {
        Transport::Udp => Candidate::host(address, "udp"),
        Transport::Tcp => Candidate::builder().tcp().host(address).tcptype(TcpType::Passive).build(),
    }
}

fn no_way() -> Fault {
    let text = format!(
        "no media connection with the WHIP client within {} s; can it reach this server's UDP or TCP media port?",
        CONNECT.as_secs()
    );
    Fault::transient(Blame::Source, text)
}

fn no_keys() -> Fault {
    let text = "the WHIP client and this server found no encryption in common (DTLS); its certificate may not be the offer's, or longer \
         than 2,000 bytes";
    Fault::transient(Blame::Source, text)
}

/// RFC 7983 §7.
fn is_dtls(data: &[u8]) -> bool {
    data.first().is_some_and(|b| (20..=63).contains(b))
}

fn vanished() -> Fault {
    let text = format!("the WHIP client has vanished: nothing came from it for {} s", SILENCE.as_secs());
    Fault::transient(Blame::Source, text)
}

#[cfg(test)]
mod tests;
