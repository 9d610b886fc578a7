//! The task behind a publisher: carries out what the [`Room`] decides, drives the peer connection, and lets frames through
//! the [`Gate`].

use crate::gate::{Gate, Unit, Verdict};
use crate::publisher::{Control, LAST_WORDS, MAX_LAYERS, Overflow};
use crate::room::{Action, Room};
use crate::signal::{self, Signal};
use crate::uplink::{Decision, Uplink};
use crate::{AccessUnit, Config, Error, Event, Media, Output, Tracks};
use livekit_protocol::signal_response::Message as Incoming;
use model::{Kind, Packet, VideoCodec};
use rtc::{Frame, Peer};
use std::collections::VecDeque;
use std::future::{Future, pending};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use timing::audio_pacer::AudioPacer;
use timing::av_aligner::AvAligner;
use tokio::sync::{mpsc, watch};
use url::Url;

/// Frames taken from the queue in one go, before sockets and timers are looked at again.
const FRAMES: usize = 16;
/// Events that may wait for a session that is busy. Wishes are merged, so more means that nobody listens.
const EVENTS: usize = 64;

type Work<T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send>>;

/// The WebSocket, or the way to it.
enum Line {
    Idle,
    /// Looking the server up, for the peer connection to be made.
    Resolving(Work<Vec<SocketAddr>>, rtc::Config, rtc::Lines),
    Dialing(Work<Signal>),
    Open(Signal),
}

/// What comes over it.
enum Heard {
    Resolved(Result<Vec<SocketAddr>, Error>),
    Dialed(Result<Signal, Error>),
    Message(Box<Incoming>),
    Lost,
}

pub(crate) struct Task {
    base: Url,
    loopback: bool,
    lose_one_in: u32,
    takes: Option<watch::Sender<Option<Vec<VideoCodec>>>>,
    room: Room,
    gate: Gate,
    uplink: Uplink,
    /// Which layers the room wants, whether there is room for them or not.
    wanted: Vec<bool>,
    muted_audio: bool,
    /// Packets of sound were left out since the last one that went out.
    audio_gap: bool,
    sound: AudioPacer<AccessUnit>,
    pictures: AvAligner<(usize, AccessUnit)>,
    peer: Option<Peer>,
    line: Line,
    events: VecDeque<Event>,
    restarts: u32,
}

/// The ends of the publisher's queues.
pub(crate) struct Ends {
    pub(crate) control: watch::Receiver<Control>,
    pub(crate) media: mpsc::Receiver<(Output, Media)>,
    pub(crate) overflow: Arc<Overflow>,
    pub(crate) events: mpsc::Sender<Event>,
}

impl Task {
    pub(crate) fn new(base: Url, config: &Config, tracks: Tracks) -> Self {
        let layers = tracks.video.as_ref().map_or(0, |v| v.layers.len());
        Self {
            loopback: config.loopback,
            lose_one_in: config.lose_one_in,
            takes: config.takes.clone(),
            room: Room::new(base.clone(), config, tracks, Instant::now()),
            base,
            gate: Gate::new(layers),
            uplink: Uplink::new(layers),
            wanted: vec![true; layers],
            muted_audio: false,
            audio_gap: false,
            sound: AudioPacer::new(),
            pictures: AvAligner::new(),
            peer: None,
            line: Line::Idle,
            events: VecDeque::new(),
            restarts: 0,
        }
    }

    pub(crate) async fn run(mut self, mut ends: Ends) {
        let mut frames = Vec::with_capacity(FRAMES);
        let mut held = true;
        loop {
            self.perform();
            if self.room.is_over() {
                break;
            }
            let deadline = self.room.deadline();
            let media_due = [self.sound.deadline(), self.pictures.deadline()].into_iter().flatten().min();
            tokio::select! {
                biased;
                event = peer_event(&mut self.peer) => self.peer_event(event),
                heard = self.line.next() => self.heard(heard),
                changed = ends.control.changed(), if held => {
                    held = changed.is_ok();
                    let control = ends.control.borrow_and_update().clone();
                    self.control(&control, held);
                }
                permit = ends.events.reserve(), if !self.events.is_empty() => match (permit, self.events.pop_front()) {
                    (Ok(permit), Some(event)) => permit.send(event),
                    // Nobody listens any more; the handle may still be held, so it is not over.
                    _ => self.events.clear(),
                },
                // Before what comes, so that a flood of pictures makes no packet of sound late.
                () = sleep_until(media_due) => self.send_due(Instant::now()),
                _ = ends.media.recv_many(&mut frames, FRAMES), if held => {
                    self.take(frames.drain(..));
                    self.wish_after_overflow(&ends.overflow);
                }
                () = sleep_until(deadline) => self.room.tick(Instant::now()),
            }
        }
        for event in self.events {
            // A session that has gone away, or doesn't listen, needs no words.
            if ends.events.send_timeout(event, LAST_WORDS).await.is_err() {
                return;
            }
        }
    }

    fn perform(&mut self) {
        while let Some(action) = self.room.action() {
            match action {
                Action::MakePeer { config, lines } => {
                    let base = self.base.clone();
                    self.line = Line::Resolving(Box::pin(async move { signal::resolve(&base).await }), config, lines);
                }
                Action::Dial { url, token } => self.line = Line::Dialing(Box::pin(signal::dial(*url, token))),
                Action::HangUp => self.line = Line::Idle,
                Action::ClosePeer => {
                    self.gate.shut();
                    if let Some(mut peer) = self.peer.take() {
                        peer.close();
                    }
                }
                Action::Send(message) => {
                    if let Line::Open(signal) = &self.line
                        && !signal.send(*message)
                    {
                        self.line = Line::Idle;
                        self.room.signal_lost(Instant::now());
                    }
                }
                Action::Offer { lines, restart } => {
                    let offer = self.with_peer(|peer| peer.offer(&lines, restart));
                    self.room.offered(offer.flatten());
                }
                Action::Answer(sdp) => {
                    self.with_peer(|peer| peer.answer(&sdp));
                    self.open_gate();
                }
                Action::Candidate(line) => _ = self.with_peer(|peer| peer.add_remote(&line)),
                Action::Emit(event) => self.emit(event),
                Action::Takes(codecs) => {
                    if let Some(takes) = &self.takes {
                        takes.send_replace(Some(codecs));
                    }
                }
            }
        }
    }

    /// Does something with the peer connection; its faults go to the room.
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
        self.gate.shut();
        self.peer = None;
        match error {
            rtc::Error::NoCommonCodec(kind) => self.room.codec_refused(*kind, Instant::now()),
            error => self.room.peer_failed(error.to_string(), Instant::now()),
        }
    }

    /// Queues an event, and obeys it where it concerns media.
    fn emit(&mut self, event: Event) {
        match &event {
            Event::LayersWanted(wanted) => {
                self.wanted.clone_from(wanted);
                // Only what nobody wants is none of the server's business.
                self.rest((0..wanted.len()).filter(|l| !wanted[*l]));
                return self.want_layers();
            }
            Event::Muted { kind: Kind::Video, muted } => {
                let back = self.gate.mute(*muted);
                self.queue(event);
                return self.wish(back);
            }
            Event::Muted { kind: Kind::Audio, muted } => self.muted_audio = *muted,
            _ => {}
        }
        self.queue(event);
    }

    /// Tells the session which layers are wanted and have room on the way.
    fn want_layers(&mut self) {
        let wanted: Vec<_> = self.wanted.iter().enumerate().map(|(l, w)| *w && self.uplink.allows(l)).collect();
        let back = self.gate.want(&wanted);
        self.queue(Event::LayersWanted(wanted));
        self.wish(back);
    }

    fn on_uplink(&mut self, decision: &Decision) {
        match decision {
            Decision::Pause { layer, carried, sent } => {
                tracing::warn!(
                    layer,
                    "the uplink to the SFU carries {carried} of {sent} kbit/s of pictures: this layer is paused"
                );
                if let Some(peer) = &mut self.peer {
                    // Most of it is lost, and what was asked for again of it would take the room that it was paused for.
                    (*layer..self.wanted.len()).for_each(|layer| peer.drop_retransmissions(layer));
                }
            }
            Decision::Resume { layer } => {
                tracing::info!(layer, "the uplink to the SFU loses nothing: trying this layer again")
            }
        }
        self.want_layers();
    }

    /// No pause of these layers is news.
    fn rest(&mut self, layers: impl Iterator<Item = usize>) {
        if let Some(peer) = &mut self.peer {
            layers.for_each(|layer| peer.pause_layer(layer));
        }
    }

    fn wish(&mut self, layers: Vec<usize>) {
        for layer in layers {
            self.queue(Event::KeyFrameWanted { layer });
        }
    }

    fn queue(&mut self, event: Event) {
        // What is merely a wish is as good once as twice, and of what layers are wanted only the newest counts.
        match &event {
            Event::KeyFrameWanted { .. } if self.events.contains(&event) => return,
            Event::LayersWanted(_) => self.events.retain(|e| !matches!(e, Event::LayersWanted(_))),
            _ => {}
        }
        if self.events.len() >= EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    fn peer_event(&mut self, event: Result<rtc::Event, rtc::Error>) {
        let now = Instant::now();
        match event {
            Ok(rtc::Event::Up) => {
                self.room.peer_up(now);
                self.perform();
                self.open_gate();
            }
            Ok(rtc::Event::Down) => {
                self.gate.shut();
                self.room.peer_down(now);
            }
            Ok(rtc::Event::Closed) => self.room.peer_closed(now),
            Ok(rtc::Event::KeyframeRequest { layer }) => self.queue(Event::KeyFrameWanted { layer }),
            Ok(rtc::Event::LayerResumed { layer }) => self.room.layer_back(layer, now),
            Ok(rtc::Event::Report { layer, kbits, lost }) => {
                let decision = self.uplink.report(layer, kbits, lost, now);
                decision.into_iter().for_each(|decision| self.on_uplink(&decision));
            }
            Ok(rtc::Event::LocalCandidate(line)) => self.room.local_candidate(&line),
            Err(e) => self.peer_failed(&e),
        }
    }

    /// Lets pictures through, if the peer connection takes them now.
    fn open_gate(&mut self) {
        if !self.peer.as_ref().is_some_and(|p| p.takes(Kind::Video)) {
            return;
        }
        let (waited, lacking) = self.gate.open();
        self.wish(lacking);
        let mut packets = Vec::new();
        for waited in waited {
            match waited.unit {
                Unit::AccessUnit(unit) => self.write(Output::Video(waited.layer), &unit),
                Unit::Packet(packet) => packets.push((packet, waited.fresh)),
            }
        }
        self.forward(&packets);
    }

    fn heard(&mut self, heard: Heard) {
        let now = Instant::now();
        match heard {
            Heard::Message(message) => self.room.message(*message, now),
            Heard::Lost => {
                self.line = Line::Idle;
                self.room.signal_lost(now);
            }
            Heard::Dialed(Ok(signal)) => self.line = Line::Open(signal),
            Heard::Dialed(Err(e)) | Heard::Resolved(Err(e)) => {
                self.line = Line::Idle;
                self.room.refused(&e, now);
            }
            Heard::Resolved(Ok(toward)) => {
                if let Line::Resolving(_, config, lines) = std::mem::replace(&mut self.line, Line::Idle) {
                    self.make_peer(&config, &lines, &toward);
                }
            }
        }
    }

    fn make_peer(&mut self, config: &rtc::Config, lines: &rtc::Lines, toward: &[SocketAddr]) {
        match Peer::new(config, toward, self.loopback) {
            Ok(mut peer) => {
                peer.lose_one_in(self.lose_one_in);
                self.peer = Some(peer);
                if let Some(offer) = self.with_peer(|peer| peer.offer(lines, false)) {
                    self.room.peer_made(offer);
                }
            }
            Err(e) => self.peer_failed(&e),
        }
    }

    fn control(&mut self, control: &Control, held: bool) {
        let now = Instant::now();
        if control.leave || !held {
            // What was held for a moment goes out before the goodbye.
            self.send_due(now + Duration::from_secs(1));
            self.room.leave(now);
            return;
        }
        if let Some(video) = &control.tracks.video
            && self.gate.is_empty()
        {
            let layers = video.layers.len();
            (self.gate, self.uplink, self.wanted) = (Gate::new(layers), Uplink::new(layers), vec![true; layers]);
        }
        self.room.want(&control.tracks, &control.attributes, now);
        if std::mem::replace(&mut self.restarts, control.restarts) != control.restarts {
            // Behind the last of the old pictures, so that they don't count as new ones.
            self.send_due(now + Duration::from_secs(1));
            let layers = control.tracks.video.as_ref().map_or(0, |v| v.layers.len());
            self.rest(0..layers);
            self.room.restarted(now);
        }
    }

    /// Takes what has come. Packets that are passed through go out in one burst.
    fn take(&mut self, media: impl Iterator<Item = (Output, Media)>) {
        let now = Instant::now();
        let mut packets = Vec::new();
        for (output, media) in media {
            match (output, media) {
                (Output::Audio, Media::AccessUnit(unit)) => self.sound.push(unit.at, now, unit),
                (Output::Video(layer), Media::AccessUnit(unit)) => {
                    self.pictures.push(unit.at, self.sound.hold(now), now, (layer, unit));
                }
                // Their source has its own pace, and a jitter buffer of its own would delay more than it saves.
                (output, Media::Packets(passed)) => self.pass_through(output, passed, &mut packets),
            }
        }
        self.forward(&packets);
        self.send_due(now);
    }

    /// Sends what is due of sound and pictures.
    fn send_due(&mut self, now: Instant) {
        while let Some(packet) = self.sound.pop(now) {
            if !self.muted_audio {
                self.write(Output::Audio, &packet);
            }
        }
        while let Some((layer, unit)) = self.pictures.pop(now) {
            if let Verdict::Send(Unit::AccessUnit(unit), _) = self.gate.unit(layer, Unit::AccessUnit(unit)) {
                self.write(Output::Video(layer), &unit);
            }
        }
    }

    /// Adds those of these packets that go out, each with whether others were left out before it.
    fn pass_through(&mut self, output: Output, packets: Vec<Packet>, out: &mut Vec<(Packet, bool)>) {
        let audio_open = !self.muted_audio && self.peer.as_ref().is_some_and(|p| p.takes(Kind::Audio));
        for mut packet in packets {
            let layer = match output {
                Output::Audio if audio_open => {
                    (packet.kind, packet.layer) = (Kind::Audio, 0);
                    out.push((packet, std::mem::take(&mut self.audio_gap)));
                    continue;
                }
                Output::Audio => {
                    self.audio_gap = true;
                    continue;
                }
                Output::Video(layer) => layer,
            };
            (packet.kind, packet.layer) = (Kind::Video, layer);
            if let Verdict::Send(Unit::Packet(packet), fresh) = self.gate.unit(layer, Unit::Packet(packet)) {
                out.push((packet, fresh));
            }
        }
    }

    fn forward(&mut self, packets: &[(Packet, bool)]) {
        if !packets.is_empty() {
            self.with_peer(|peer| peer.forward(packets.iter().map(|(packet, fresh)| (packet, *fresh))));
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

    fn wish_after_overflow(&mut self, overflow: &Overflow) {
        for layer in (0..MAX_LAYERS).filter(|l| overflow.take(*l)) {
            tracing::warn!(layer, "frames came faster than they could be sent; going on with the next key frame");
            self.queue(Event::KeyFrameWanted { layer });
        }
    }
}

impl Line {
    async fn next(&mut self) -> Heard {
        match self {
            Self::Idle => pending().await,
            Self::Resolving(work, ..) => Heard::Resolved(work.await),
            Self::Dialing(work) => Heard::Dialed(work.await),
            Self::Open(signal) => signal.next().await.map_or(Heard::Lost, |m| Heard::Message(Box::new(m))),
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
