//! The task behind a publisher: carries out what the [`Participant`] decides, drives the peer connection, and sends what the
//! [`Egress`] lets out.

use crate::egress::{Egress, LayerChange, Outgoing};
use crate::events::EventQueue;
use crate::participant::{Action, Participant};
use crate::queue::{Control, TaskEnds};
use crate::signalling::{PeerRequest, SignalEvent, Signalling};
use crate::uplink::Decision;
use crate::{AccessUnit, Config, Event, Media, Output, ServerFacts, Tracks};
use model::{Kind, Proxies};
use rtc::{Frame, Peer};
use std::future::pending;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use url::Url;

/// Media taken from the queue in one go, before sockets and timers are looked at again.
const MEDIA_BATCH: usize = 16;
/// How long a session may take to read each of the last events.
pub(crate) const FINAL_EVENT_DEADLINE: Duration = Duration::from_secs(5);
/// More than media is ever held: all of it is due by then.
const ALL_DUE: Duration = Duration::from_secs(1);

pub(crate) struct Task {
    server: Url,
    loopback: bool,
    lose_one_in: u32,
    proxies: Proxies,
    server_facts: Option<watch::Sender<Option<ServerFacts>>>,
    participant: Participant,
    egress: Egress,
    peer: Option<Peer>,
    signalling: Signalling,
    events: EventQueue,
    /// Of [`Control::restarts`], what is known.
    restarts: u32,
}

impl Task {
    /// Starts to join the room of this server.
    pub(crate) fn new(server: Url, config: &Config, tracks: Tracks) -> Self {
        let layers = tracks.video.as_ref().map_or(0, |v| v.layers.len());
        Self {
            loopback: config.loopback,
            lose_one_in: config.lose_one_in,
            proxies: config.proxies.clone(),
            server_facts: config.server_facts.clone(),
            participant: Participant::new(server.clone(), config, tracks, Instant::now()),
            server,
            egress: Egress::new(layers),
            peer: None,
            signalling: Signalling::Closed,
            events: EventQueue::default(),
            restarts: 0,
        }
    }

    /// Runs to the end of the participation.
    pub(crate) async fn run(mut self, mut ends: TaskEnds) {
        let mut batch = Vec::with_capacity(MEDIA_BATCH);
        let mut held = true;
        loop {
            self.perform();
            if self.participant.is_over() {
                break;
            }
            let deadline = self.participant.deadline();
            let media_due = self.egress.deadline();
            tokio::select! {
                biased;
                event = peer_event(&mut self.peer) => self.on_peer(event),
                event = self.signalling.next() => self.on_signal(event),
                changed = ends.control.changed(), if held => {
                    held = changed.is_ok();
                    let control = ends.control.borrow_and_update().clone();
                    self.on_control(&control, held);
                }
                permit = ends.events.reserve(), if !self.events.is_empty() => match (permit, self.events.pop()) {
                    (Ok(permit), Some(event)) => permit.send(event),
                    // Nobody listens any more; the handle may still be held, so it is not over.
                    _ => self.events.clear(),
                },
                // Before what comes, so that a flood of video makes no packet of audio late.
                () = sleep_until(media_due) => self.send_due(Instant::now()),
                _ = ends.media.recv_many(&mut batch, MEDIA_BATCH), if held => {
                    self.on_media(batch.drain(..));
                    self.on_overflow(ends.overflow.take());
                }
                () = sleep_until(deadline) => self.participant.tick(Instant::now()),
            }
        }
        while let Some(event) = self.events.pop() {
            // A session that has gone away, or doesn't listen, reads nothing more.
            if ends.events.send_timeout(event, FINAL_EVENT_DEADLINE).await.is_err() {
                return;
            }
        }
    }

    fn perform(&mut self) {
        while let Some(action) = self.participant.action() {
            match action {
                Action::MakePeer { config, lines } => {
                    self.signalling =
                        Signalling::resolve(self.server.clone(), &self.proxies, PeerRequest { config, lines });
                }
                Action::Dial { url, token } => self.signalling = Signalling::dial(*url, &self.proxies, token),
                Action::HangUp => self.signalling = Signalling::Closed,
                Action::ClosePeer => {
                    self.egress.disconnect();
                    if let Some(mut peer) = self.peer.take() {
                        peer.close();
                    }
                }
                Action::Send(message) => {
                    if !self.signalling.send(*message) {
                        self.participant.signal_lost(Instant::now());
                    }
                }
                Action::Offer { lines, restart } => {
                    let offer = self.with_peer(|peer| peer.offer(&lines, restart));
                    self.participant.offered(offer.flatten());
                }
                Action::Answer(sdp) => {
                    self.with_peer(|peer| peer.answer(&sdp));
                    self.connect_egress();
                }
                Action::Candidate(line) => _ = self.with_peer(|peer| peer.add_remote(&line)),
                Action::Emit(event) => self.emit(event),
                Action::TurnServers(servers) => {
                    if let Some(peer) = &mut self.peer {
                        peer.turn_servers(servers);
                    }
                }
                Action::Facts(facts) => {
                    if let Some(known) = &self.server_facts {
                        known.send_replace(Some(facts));
                    }
                }
            }
        }
    }

    /// Does something with the peer connection; the participant learns of its faults.
    fn with_peer<T>(&mut self, act: impl FnOnce(&mut Peer) -> Result<T, rtc::Error>) -> Option<T> {
        let peer = self.peer.as_mut()?;
        match act(peer) {
            Ok(value) => Some(value),
            Err(e) => {
                self.peer_failed(&e);
                None
            }
        }
    }

    fn peer_failed(&mut self, error: &rtc::Error) {
        self.egress.disconnect();
        self.peer = None;
        match error {
            rtc::Error::NoCommonCodec(kind) => self.participant.codec_refused(*kind, Instant::now()),
            error => self.participant.peer_failed(error.to_string(), Instant::now()),
        }
    }

    /// Queues an event, and obeys it where it concerns media.
    fn emit(&mut self, event: Event) {
        match event {
            Event::LayersWanted(wanted) => {
                // The server knows of pauses for lack of viewers. Those for lack of bandwidth it has to notice itself.
                self.expect_pause((0..wanted.len()).filter(|l| !wanted[*l]));
                let change = self.egress.want(wanted);
                self.change_layers(change);
            }
            Event::Muted { kind, muted } => {
                let keyframes = self.egress.mute(kind, muted);
                self.events.push(event);
                self.events.request_keyframes(keyframes);
            }
            event => self.events.push(event),
        }
    }

    /// Tells the session which layers go out.
    fn change_layers(&mut self, change: LayerChange) {
        self.events.push(Event::LayersWanted(change.wanted));
        self.events.request_keyframes(change.keyframes);
    }

    fn on_uplink(&mut self, decision: &Decision, change: LayerChange) {
        match decision {
            Decision::Pause { layer, carried, sent } => {
                tracing::warn!(
                    layer,
                    "the uplink to the SFU carries {carried} of {sent} kbit/s of video: layer paused"
                );
                if let Some(peer) = &mut self.peer {
                    // Most of it is lost, and its retransmissions would take the bandwidth that it is paused for.
                    (*layer..change.wanted.len()).for_each(|layer| peer.drop_retransmissions(layer));
                }
            }
            Decision::Resume { layer } => {
                tracing::info!(layer, "the uplink to the SFU loses nothing: trying this layer again")
            }
        }
        self.change_layers(change);
    }

    /// The server expects that these layers pause.
    fn expect_pause(&mut self, layers: impl Iterator<Item = usize>) {
        if let Some(peer) = &mut self.peer {
            layers.for_each(|layer| peer.pause_layer(layer));
        }
    }

    fn on_peer(&mut self, event: Result<rtc::Event, rtc::Error>) {
        let now = Instant::now();
        match event {
            Ok(rtc::Event::Up) => {
                self.participant.peer_up(now);
                self.perform();
                self.connect_egress();
            }
            Ok(rtc::Event::Down) => {
                self.egress.disconnect();
                self.participant.peer_down(now);
            }
            Ok(rtc::Event::Closed) => self.participant.peer_closed(now),
            Ok(rtc::Event::KeyframeRequest { layer }) => self.events.request_keyframes([layer]),
            Ok(rtc::Event::LayerResumed { layer }) => self.participant.layer_back(layer, now),
            Ok(rtc::Event::Report { layer, kbits, lost }) => {
                if let Some((decision, change)) = self.egress.report(layer, kbits, lost, now) {
                    self.on_uplink(&decision, change);
                }
            }
            Ok(rtc::Event::LocalCandidate(line)) => self.participant.local_candidate(&line),
            Err(e) => self.peer_failed(&e),
        }
    }

    /// Lets video out, if the peer connection takes it now.
    fn connect_egress(&mut self) {
        if !self.peer.as_ref().is_some_and(|p| p.takes(Kind::Video)) {
            return;
        }
        let (waited, lacking) = self.egress.connect();
        self.events.request_keyframes(lacking);
        self.send(waited);
    }

    fn on_signal(&mut self, event: SignalEvent) {
        let now = Instant::now();
        match event {
            SignalEvent::Message(message) => self.participant.message(*message, now),
            SignalEvent::Lost => self.participant.signal_lost(now),
            SignalEvent::Failed(e) => self.participant.refused(&e, now),
            SignalEvent::Resolved(server, request) => self.make_peer(&request, &server),
        }
    }

    fn make_peer(&mut self, request: &PeerRequest, server: &[SocketAddr]) {
        match Peer::new(&request.config, server, self.loopback) {
            Ok(mut peer) => {
                peer.lose_one_in(self.lose_one_in);
                self.peer = Some(peer);
                if let Some(offer) = self.with_peer(|peer| peer.offer(&request.lines, false)) {
                    self.participant.peer_made(offer);
                }
            }
            Err(e) => self.peer_failed(&e),
        }
    }

    fn on_control(&mut self, control: &Control, held: bool) {
        let now = Instant::now();
        if control.leave || !held {
            // What was held for a moment goes out before the goodbye.
            self.send_due(now + ALL_DUE);
            self.participant.leave(now);
            return;
        }
        if let Some(video) = &control.tracks.video {
            self.egress.add_video(video.layers.len());
        }
        self.participant.want(&control.tracks, &control.attributes, now);
        if std::mem::replace(&mut self.restarts, control.restarts) != control.restarts {
            // Behind the last of the encoder before, so that it does not count as the new one's.
            self.send_due(now + ALL_DUE);
            let layers = control.tracks.video.as_ref().map_or(0, |v| v.layers.len());
            self.expect_pause(0..layers);
            self.participant.restarted(now);
        }
    }

    fn on_media(&mut self, media: impl Iterator<Item = (Output, Media)>) {
        let now = Instant::now();
        let audio_ready = self.peer.as_ref().is_some_and(|p| p.takes(Kind::Audio));
        let mut out = Vec::new();
        media.for_each(|(output, media)| self.egress.take(output, media, audio_ready, now, &mut out));
        self.egress.due(now, &mut out);
        self.send(out);
    }

    fn send_due(&mut self, now: Instant) {
        let mut out = Vec::new();
        self.egress.due(now, &mut out);
        self.send(out);
    }

    /// Hands media to the peer connection; all packets that are passed through in one burst.
    fn send(&mut self, departures: Vec<Outgoing>) {
        let mut packets = Vec::new();
        for departure in departures {
            match departure {
                Outgoing::AccessUnit(output, unit) => self.write(output, &unit),
                Outgoing::Packet(packet, resumes) => packets.push((packet, resumes)),
            }
        }
        if !packets.is_empty() {
            self.with_peer(|peer| peer.forward(packets.iter().map(|(packet, resumes)| (packet, *resumes))));
        }
    }

    fn write(&mut self, output: Output, unit: &AccessUnit) {
        let frame = Frame { pts: unit.pts, at: unit.at, data: &unit.data, level: unit.level };
        let (kind, layer) = match output {
            Output::Audio => (Kind::Audio, 0),
            Output::Video(layer) => (Kind::Video, layer),
        };
        self.with_peer(|peer| peer.write(kind, layer, &frame));
    }

    fn on_overflow(&mut self, layers: impl Iterator<Item = usize>) {
        for layer in layers {
            tracing::warn!(layer, "video comes faster than it can be sent: dropped up to the next key frame");
            self.events.request_keyframes([layer]);
        }
    }
}

async fn peer_event(peer: &mut Option<Peer>) -> Result<rtc::Event, rtc::Error> {
    match peer {
        Some(peer) => peer.next().await,
        None => pending().await,
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => pending().await,
    }
}
