//! The role that receives from a WHIP client: it answers an offer, tells what media comes, and asks for what is missing.
//!
//! For passthrough, packets are taken in the engine's RTP mode and leave with what [`media::rtp_inspector`] sees in them
//! ([`packets`]). For decoding, the engine puts them in order and together to frames ([`frames`]).

mod config;
mod frames;
mod layers;
mod packets;
mod parameter_sets;
mod picture_order;
mod remb;
mod tracks;
mod unmarked;

use crate::Refusal;
use crate::driver::{Change, Driver, Role};
use crate::offer::{Accept, Delivery, Offer};
use crate::transport::Transport;
use frames::Frames;
use layers::Layers;
use model::{Blame, Fault, Media, OpusFormat, Packet, PassthroughMedia, SourceTracks};
use remb::RateEstimate;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use str0m::Rtc;
use str0m::bwe::Bitrate;
use str0m::change::SdpOffer;
use str0m::media::{KeyframeRequestKind, MediaData, Mid, Rid, SenderFeedback};
use str0m::net::TcpType;
use str0m::stats::MediaIngressStats;
use timing::rtp_clock::SenderClock;
use tracks::{Track, Tracks};
use unmarked::Heard;

/// Nothing received for so long means that the client has vanished: it checks the path every few seconds even when it has no
/// media to send. With what it takes to end, below the ten seconds promised.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(8);
/// How long a client may take from its offer until ICE and DTLS are up: browsers try their candidates for up to 15 s, but a path
/// that works is found within one or two.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two requests for the same key frame: a round trip around the world, and time to encode it.
const KEYFRAME_REQUEST_INTERVAL: Duration = Duration::from_millis(300);
/// Events, and packets, kept for whoever polls: media is taken at once, so more means that nobody does.
const MAX_EVENTS: usize = 512;

/// What a received session tells, in order.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Received {
    /// ICE and DTLS are up. Comes again after an ICE restart.
    Connected,
    /// Media to be decoded, and what the offer announces.
    Media(Media),
    /// Media to be passed through.
    Passthrough(PassthroughMedia),
    /// [`Control::close`](crate::Control::close) was called, or the client closed the connection (DTLS close_notify). Nothing
    /// follows.
    Finished,
    /// The client has vanished, or never came, with the text for the ingress's state. Nothing follows.
    Lost(Fault),
}

/// See the [module](self).
pub(crate) struct Receiver {
    offer: Offer,
    tracks: Tracks,
    clock: SenderClock,
    layers: Layers,
    /// Where media is to be decoded.
    frames: Option<Frames>,
    /// Of a client that adapts to nothing better.
    rate: Option<RateEstimate>,
    /// To be passed through, with the next event.
    packets: Vec<Packet>,
    events: VecDeque<Received>,
    over: bool,
    heard: Heard,
    /// With an SSRC it makes a stream's id, which no other session has.
    session: u32,
}

impl Role for Receiver {
    type Event = Received;
    const TCP_TYPE: TcpType = TcpType::Passive;
    const SILENCE_TIMEOUT: Duration = SILENCE_TIMEOUT;
    const CONNECT_TIMEOUT: Option<Duration> = Some(CONNECT_TIMEOUT);
    /// Media may come though our checks go unanswered: FFmpeg's answers to them are of no use.
    const ICE_DECIDES: bool = false;

    fn connection_changed(&mut self, change: Change) {
        match change {
            Change::Up => self.tell(Received::Connected),
            Change::Down => self.end(Received::Lost(vanished())),
            Change::ConnectTimeout => self.end(Received::Lost(never_connected())),
            Change::HandshakeFailed => self.end(Received::Lost(handshake_failed())),
            Change::Closed => self.end(Received::Finished),
            // The answer has them all.
            Change::LocalCandidate(_) => {}
        }
    }

    fn incoming(&mut self, rtc: &mut Rtc, data: &[u8], now: Instant) {
        self.mark(rtc, data, now);
    }

    fn engine_event(&mut self, rtc: &mut Rtc, event: str0m::Event) {
        match event {
            str0m::Event::RtpPacket(packet) => self.on_packet(rtc, packet),
            str0m::Event::MediaData(data) => self.on_frame(rtc, &data),
            str0m::Event::SenderFeedback(report) => self.on_sender_report(&report),
            str0m::Event::MediaIngressStats(stats) => self.send_remb(rtc, &stats),
            _ => {}
        }
    }

    fn tick(&mut self, rtc: &mut Rtc, up: bool, now: Instant) {
        self.settle_layers(now);
        if up {
            self.request_key_frames(rtc, now);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let frames = self.frames.as_ref().and_then(Frames::deadline);
        let requests = self.tracks.keyframe_request_deadline(KEYFRAME_REQUEST_INTERVAL);
        [self.layers.deadline(), frames, requests].into_iter().flatten().min()
    }

    fn poll_event(&mut self) -> Option<Received> {
        if let Some(event) = self.events.pop_front() {
            return Some(event);
        }
        if self.packets.is_empty() || self.over {
            return None;
        }
        Some(Received::Passthrough(PassthroughMedia::Packets(std::mem::take(&mut self.packets))))
    }
}

impl Driver<Receiver> {
    /// Takes an offer, as one who is reached at `locals`. Gives the engine's answer, which [`Offer::finish`] completes.
    ///
    /// # Errors
    /// [`Refusal`].
    pub(crate) fn receiver(
        offer: Offer,
        accept: &Accept,
        ice_lite: bool,
        locals: &[(Transport, SocketAddr)],
        now: Instant,
    ) -> Result<(Self, String), Refusal> {
        let rtc = config::engine_config(&offer, accept.delivery, ice_lite).build(now);
        let mut driver = Self::new(rtc, Receiver::new(offer, accept, now), now);
        for &(transport, address) in locals {
            driver.add_local(transport, address);
        }
        let (role, rtc) = driver.parts();
        let answer = accept_offer(rtc, &role.offer)?;
        role.declare_layers(rtc);
        role.announce();
        driver.drain(|_, _, _, _| {}).map_err(|e| Refusal::Unacceptable(e.to_string()))?;
        Ok((driver, answer))
    }

    /// What the offer sends.
    pub(crate) fn source_tracks(&self) -> SourceTracks {
        self.role().source_tracks()
    }

    /// The offer that was taken, with the client's present ICE credentials.
    pub(crate) fn taken_offer(&self) -> &Offer {
        &self.role().offer
    }

    /// Adds addresses of the client's.
    pub(crate) fn trickle(&mut self, candidates: &[String]) {
        for line in candidates {
            self.add_remote(line);
        }
    }

    /// Restarts ICE with the client's new credentials.
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
        let (role, rtc) = self.parts();
        let before = std::mem::replace(&mut role.offer.ufrag, ufrag);
        role.offer.pwd = pwd;
        role.offer.candidates = candidates;
        if before == role.offer.ufrag {
            return Err(Refusal::Unreadable("the restart brings the credentials that run already".into()));
        }
        accept_offer(rtc, &role.offer)?;
        self.reset_silence(now);
        Ok(())
    }

    /// Asks for a key frame of the layer with this rank (lowest 0).
    pub(crate) fn request_key_frame(&mut self, rank: usize) {
        let (role, _) = self.parts();
        if let Some(index) = role.layers.at_rank(rank) {
            role.tracks.want_key_frame(index);
        }
    }

    /// Ends it by our own decision, and tells the client.
    pub(crate) fn finish(&mut self) {
        self.close();
        self.parts().0.end(Received::Finished);
    }
}

impl Receiver {
    fn new(offer: Offer, accept: &Accept, now: Instant) -> Self {
        let tracks = Tracks::new(&offer);
        let streams = tracks.video.as_ref().map_or(0, |video| video.streams.len());
        Self {
            tracks,
            clock: SenderClock::new(now),
            layers: Layers::new(offer.video.as_ref().map_or(&[][..], |v| &v.rids)),
            frames: (accept.delivery == Delivery::Frames).then(|| Frames::new(&offer, now)),
            rate: offer.video.as_ref().filter(|v| v.needs_remb()).map(|_| RateEstimate::new(streams)),
            packets: Vec::new(),
            events: VecDeque::new(),
            over: false,
            heard: Heard::default(),
            session: rand::random(),
            offer,
        }
    }

    /// Tells the engine the layers that the offer names by their SSRC alone.
    fn declare_layers(&self, rtc: &mut Rtc) {
        let Some(video) = &self.offer.video else { return };
        let mut direct = rtc.direct_api();
        for (rid, (ssrc, rtx)) in video.rids.iter().zip(&video.layer_ssrcs) {
            let (mid, rid) = (Mid::from(video.common.mid.as_str()), Rid::from(rid.as_str()));
            direct.expect_stream_rx((*ssrc).into(), rtx.map(Into::into), mid, Some(rid));
        }
    }

    /// Tells what the offer alone says of the media to come.
    fn announce(&mut self) {
        self.tell(Received::Media(Media::Announced(self.source_tracks())));
        if let (Some(video), None) = (&self.offer.video, &self.frames) {
            self.tell(Received::Passthrough(PassthroughMedia::Expected(video.format.clone())));
        }
        if let Some(audio) = &self.offer.audio {
            let format = OpusFormat { stereo: audio.stereo, dtx: audio.dtx };
            self.tell(match &self.frames {
                Some(_) => Received::Media(Media::AudioConfig(frames::audio_config(audio.codec, format))),
                None => Received::Passthrough(PassthroughMedia::Audio(format)),
            });
        }
    }

    fn source_tracks(&self) -> SourceTracks {
        SourceTracks { video: self.offer.video.is_some(), audio: self.offer.audio.is_some() }
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

    fn on_sender_report(&mut self, report: &SenderFeedback) {
        let wall = report.sender_info.ntp_time.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        // As on the wire: the engine extends timestamps otherwise than we do.
        let timestamp = report.sender_info.rtp_time.numer() as u32;
        if let Some(stream) = self.tracks.stream(report.mid, report.rid) {
            self.clock.report(&mut stream.timestamps, timestamp, wall, report.received_at);
        }
    }

    /// Tells the client how much it may send, after each of the engine's looks at what comes.
    fn send_remb(&mut self, rtc: &mut Rtc, stats: &MediaIngressStats) {
        let (Some(rate), Some(video)) = (&mut self.rate, &mut self.tracks.video) else { return };
        let index = video.streams.iter().position(|s| s.rid == stats.rid).filter(|_| stats.mid == video.mid);
        let Some(index) = index else { return };
        let loss = stats.loss.unwrap_or(0.0);
        let Some(bits) = rate.statistics(index, stats.bytes, loss, stats.timestamp) else { return };
        let active = video.streams.iter().find_map(|s| s.ssrc.map(|_| s.rid));
        let mut direct = rtc.direct_api();
        if let Some(rx) = active.and_then(|rid| direct.stream_rx_by_mid(video.mid, rid)) {
            rx.request_remb(Bitrate::from(bits));
        }
    }

    fn settle_layers(&mut self, now: Instant) {
        let Some(layers) = self.layers.settle(now) else { return };
        tracing::debug!(?layers, "layers of the source");
        if let Some(video) = &self.offer.video
            && self.frames.is_none()
        {
            let format = video.format.clone();
            self.tell(Received::Passthrough(PassthroughMedia::Video(format, layers)));
        }
    }

    /// Takes a frame that the engine has put together.
    fn on_frame(&mut self, rtc: &mut Rtc, data: &MediaData) {
        if self.tracks.sends_nack(data.mid) {
            self.enable_nack(rtc, data.mid, data.rid);
        }
        let Some(frames) = &mut self.frames else { return };
        let Some(stream) = self.tracks.stream(data.mid, data.rid) else { return };
        let at = self.clock.captured_at(&mut stream.timestamps, data.time.numer() as u32, data.network_time);
        let index = stream.index;
        if self.offer.audio.as_ref().is_some_and(|a| a.common.mid == data.mid.to_string()) {
            let audio = Media::Frame(frames.audio(data, at));
            self.tell(Received::Media(audio));
            return;
        }
        if data.is_keyframe() {
            stream.key_wanted = false;
        }
        if let Some(rate) = &mut self.rate {
            rate.delayed(data.network_time.saturating_duration_since(at));
        }
        let outcome = frames.video(index, data, at);
        stream.key_wanted |= outcome.key_wanted;
        for media in outcome.media {
            self.tell(Received::Media(media));
        }
    }

    /// Lets a stream's losses be asked for. The engine asks only clients with a retransmission stream (RTX); others send a packet
    /// again as it was.
    fn enable_nack(&mut self, rtc: &mut Rtc, mid: Mid, rid: Option<Rid>) {
        let Some(stream) = self.tracks.stream(mid, rid).filter(|s| s.ssrc.is_none()) else { return };
        if let Some(rx) = rtc.direct_api().stream_rx_by_mid(mid, rid) {
            rx.suppress_nack(false);
            stream.ssrc = Some(rx.ssrc());
        }
    }

    fn request_key_frames(&mut self, rtc: &mut Rtc, now: Instant) {
        if let Some(index) = self.frames.as_mut().and_then(|f| f.layer_to_switch_to(now)) {
            self.tracks.want_key_frame(index);
        }
        let Some(video) = &mut self.tracks.video else { return };
        let Track { mid, streams, fir_only, .. } = video;
        for stream in streams.iter_mut().filter(|s| s.key_wanted && s.may_request(now, KEYFRAME_REQUEST_INTERVAL)) {
            if let Some(rx) = rtc.direct_api().stream_rx_by_mid(*mid, stream.rid) {
                rx.request_keyframe(if *fir_only { KeyframeRequestKind::Fir } else { KeyframeRequestKind::Pli });
                stream.requested = Some(now);
            }
        }
    }
}

fn accept_offer(rtc: &mut Rtc, offer: &Offer) -> Result<String, Refusal> {
    // We wrote it: what goes wrong here is a part that only the engine could judge.
    let unreadable = |e: &dyn std::fmt::Display| Refusal::Unreadable(e.to_string());
    let sdp = SdpOffer::from_sdp_string(&offer.write()).map_err(|e| unreadable(&e))?;
    Ok(rtc.sdp_api().accept_offer(sdp).map_err(|e| unreadable(&e))?.to_sdp_string())
}

fn never_connected() -> Fault {
    let text = format!(
        "no media connection with the WHIP client within {} s; can it reach this server's UDP or TCP media port?",
        CONNECT_TIMEOUT.as_secs()
    );
    Fault::transient(Blame::Source, text)
}

fn handshake_failed() -> Fault {
    let text = "the WHIP client and this server found no encryption in common (DTLS); its certificate may not be the offer's, or longer \
         than 2,000 bytes";
    Fault::transient(Blame::Source, text)
}

fn vanished() -> Fault {
    let text = format!("the WHIP client has vanished: nothing came from it for {} s", SILENCE_TIMEOUT.as_secs());
    Fault::transient(Blame::Source, text)
}

#[cfg(test)]
mod tests;
