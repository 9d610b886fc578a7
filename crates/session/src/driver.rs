//! Carries a session out: one task that moves media from the source through the transcoder into the room, and does what
//! [`state`](crate::state) decides.

mod passed;

use crate::comeback::Comeback;
use crate::doze::Doze;
use crate::facts::Facts;
use crate::gop::Gop;
use crate::owed::Owed;
use crate::registry::{Command, Commands, Place};
use crate::room::{Room, Rooms};
use crate::seldom::Seldom;
use crate::state::{Action, Input, Session, Stop};
use crate::still::Still;
use crate::timeline::{LATE, Timeline};
use crate::transcoder::{FromChild, PATIENCE, Transcoder, Transcoders};
use crate::{Report, Source, SourceEnd, SourceEvent, Status};
use link::{Job, ToChild, ToParent};
use model::{
    AudioConfig, Blame, Fault, Frame, IngressSpec, InputKind, Kind, Layer, Media, MediaTime, Quality, Secret,
    SourceTracks, VideoConfig, fit_layers,
};
use publish::{AudioTrack, Event, Out, Tracks, VideoTrack};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;
use tracing::{debug, info, warn};

/// Reports that may wait for the control plane. A session makes a handful; more than this wait only while the control plane is
/// away for long, and then the oldest news is of no use.
const REPORTS: usize = 64;
/// How often the latency of a track or layer is sampled, as in the Go ingress: for a histogram, twice a second is plenty.
const LATENCY_EVERY: Duration = Duration::from_millis(500);
/// How often what changes in the source is told: to the control plane, and (its splice points) to the room. A source may change
/// its size with every picture.
const FACTS_EVERY: Duration = Duration::from_secs(1);
/// See [`FACTS_EVERY`].
const SPLICES_EVERY: Duration = Duration::from_millis(250);
/// How long a last report may wait for a full queue.
const LAST_REPORT: Duration = Duration::from_secs(5);

/// What others may want to know of a session while it runs: for metrics.
pub trait Observer: Send + Sync + 'static {
    /// A frame of this layer (`None`: of sound) left for the room so long after it was due here.
    fn latency(&self, layer: Option<Quality>, latency: Duration);
    /// A transcoder crashed, and another took its place.
    fn transcoder_restarted(&self);
    /// Frames of the source were dropped, because the transcoder did not take them.
    fn dropped(&self, frames: u64);
}

/// Everything a session starts with.
pub struct Start {
    /// Its place in the registry.
    pub place: Place,
    /// What it is to do.
    pub spec: IngressSpec,
    /// Where the room's server is.
    pub ws_url: String,
    /// Admits to the room.
    pub token: Secret,
    /// Whether to offer loopback addresses for media.
    pub loopback: bool,
    /// Where media comes from.
    pub source: Source,
    /// Where it gets rooms.
    pub rooms: Arc<dyn Rooms>,
    /// Where it gets transcoders.
    pub transcoders: Arc<dyn Transcoders>,
    /// Who is told about its speed and its troubles.
    pub observer: Arc<dyn Observer>,
}

/// Runs a session in a future that resolves when it is over, and gives its reports: the last of them is final, unless the
/// ingress was deleted.
pub fn run(start: Start) -> (impl Future<Output = ()> + Send, mpsc::Receiver<Report>) {
    let (reports, receiver) = mpsc::channel(REPORTS);
    (async move { Driver::new(start, reports).run().await }, receiver)
}

struct Driver {
    session: Session,
    pending: Vec<Action>,
    facts: Facts,
    news: Seldom,
    /// The newest splice point.
    splice: Option<u32>,
    splices: Seldom,
    spec: IngressSpec,
    ws_url: String,
    token: Secret,
    loopback: bool,
    place: Place,
    commands: Option<Commands>,
    source: Option<Source>,
    rooms: Arc<dyn Rooms>,
    transcoders: Arc<dyn Transcoders>,
    observer: Arc<dyn Observer>,
    reports: mpsc::Sender<Report>,
    room: Option<Box<dyn Room>>,
    room_events: Option<mpsc::Receiver<Event>>,
    leaving: Option<tokio::task::JoinHandle<()>>,
    connected: bool,
    transcoder: Option<Transcoder>,
    owed: Owed,
    timeline: Timeline,
    gop: Gop,
    /// The key frame from which pictures were last given to a new transcoder.
    replayed: Option<MediaTime>,
    /// A new transcoder's first pictures, until they are out.
    comeback: Option<Comeback>,
    /// Since when the transcoder's queue has been full without a break.
    full_since: Option<Instant>,
    doze: Doze,
    video_config: Option<VideoConfig>,
    audio_config: Option<AudioConfig>,
    layers: Vec<Layer>,
    wanted: Vec<bool>,
    /// The transcoder's queue overflowed: pictures are of no use before the next key frame.
    skipping: bool,
    dropped: u64,
    still: Still,
    /// What was last sent as [`ToChild::ShowFrom`], of sound and of pictures.
    show_from: [Option<MediaTime>; 2],
    sampled: [Option<Instant>; 4],
    /// What is passed on as it comes, where that is so.
    passed: Option<passed::State>,
}

/// One thing that happened, from any side.
enum Happened {
    Source(Option<SourceEvent>),
    Child(FromChild),
    ChildHasRoom,
    Room(Option<Event>),
    Left,
    Told(Option<Command>),
    Time,
}

impl Driver {
    fn new(start: Start, reports: mpsc::Sender<Report>) -> Self {
        let (session, pending) = Session::new(start.spec.input.reusable(), now());
        let session = session.with_patience(start.source.patience);
        let mut place = start.place;
        let commands = Some(place.commands());
        let passed = (start.spec.input == InputKind::Whip && !start.spec.transcode).then(passed::State::default);
        Self {
            session,
            pending,
            facts: Facts::new(place.entry.resource_id.clone(), place.entry.started_at),
            news: Seldom::new(FACTS_EVERY),
            splice: None,
            splices: Seldom::new(SPLICES_EVERY),
            spec: start.spec,
            ws_url: start.ws_url,
            token: start.token,
            loopback: start.loopback,
            place,
            commands,
            source: Some(start.source),
            rooms: start.rooms,
            transcoders: start.transcoders,
            observer: start.observer,
            reports,
            room: None,
            room_events: None,
            leaving: None,
            connected: false,
            transcoder: None,
            owed: Owed::default(),
            timeline: Timeline::new(),
            gop: Gop::default(),
            replayed: None,
            comeback: None,
            full_since: None,
            doze: Doze::default(),
            video_config: None,
            audio_config: None,
            layers: Vec::new(),
            wanted: Vec::new(),
            skipping: false,
            dropped: 0,
            still: Still::default(),
            show_from: [None; 2],
            sampled: [None; 4],
            passed,
        }
    }

    async fn run(mut self) {
        if self.passed.is_none() {
            self.start_transcoder();
        }
        loop {
            self.carry_out().await;
            if self.session.ended() {
                break;
            }
            match self.next().await {
                Happened::Source(event) => self.on_source(event),
                Happened::Child(message) => self.on_child(message),
                Happened::ChildHasRoom => self.pay_owed(),
                Happened::Room(event) => self.on_room(event),
                Happened::Left => self.step(Input::RoomLeft),
                Happened::Told(command) => self.on_command(command),
                Happened::Time => {
                    self.repeat_picture();
                    self.tell_news();
                    self.step(Input::Tick);
                }
            }
        }
    }

    /// Waits for the next thing to happen. Wishes and commands go before media, so that a flood of it can't starve them.
    async fn next(&mut self) -> Happened {
        let deadlines = [self.session.deadline(), self.repeat_due(), self.news.due(), self.splices.due()];
        let deadline = deadlines.into_iter().flatten().min();
        let full = self.transcoder.as_ref().filter(|t| t.is_full());
        self.full_since = full.and_then(|_| self.full_since.or_else(|| Some(now())));
        let room_for_more = full.zip(self.full_since).map(|(t, since)| t.room(since + PATIENCE));
        let owes = self.transcoder.as_ref().filter(|_| !self.owed.is_empty()).map(Transcoder::has_room);
        let owed = async {
            match owes {
                Some(room) => room.await,
                None => std::future::pending().await,
            }
        };
        let source = async {
            // A backlog that comes in one go is not dropped for that: the encoder waits with it while the transcoder works.
            if let Some(room) = room_for_more
                && room.await
            {
                self.full_since = None;
            }
            match &mut self.source {
                Some(source) => source.events.recv().await,
                None => std::future::pending().await,
            }
        };
        let child = async {
            match &mut self.transcoder {
                Some(t) => t.recv().await,
                None => std::future::pending().await,
            }
        };
        let room = async {
            match &mut self.room_events {
                Some(events) => events.recv().await,
                None => std::future::pending().await,
            }
        };
        let left = async {
            match &mut self.leaving {
                Some(task) => {
                    let _ = task.await;
                }
                None => std::future::pending().await,
            }
        };
        let time = async {
            match deadline {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        let told = async {
            match &mut self.commands {
                Some(commands) => commands.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            command = told => Happened::Told(command),
            event = room => Happened::Room(event),
            () = left => { self.leaving = None; Happened::Left }
            () = time => Happened::Time,
            () = owed => Happened::ChildHasRoom,
            message = child => Happened::Child(message),
            event = source => Happened::Source(event),
        }
    }

    fn step(&mut self, input: Input) {
        let actions = self.session.step(input, now());
        self.pending.extend(actions);
    }

    async fn carry_out(&mut self) {
        // Carrying one out may bring up another.
        while !self.pending.is_empty() {
            for action in std::mem::take(&mut self.pending) {
                self.act(action).await;
            }
        }
    }

    async fn act(&mut self, action: Action) {
        if !self.session.running() {
            // Nobody takes over a session that is ending: its next encoder waits for the place.
            self.commands = None;
        }
        match action {
            Action::Report(status, error) => self.report(status, error).await,
            Action::Publish(tracks) => self.publish(tracks),
            Action::RestartTranscoder => {
                self.observer.transcoder_restarted();
                self.restart_transcoder();
            }
            Action::StartTranscoder => self.restart_transcoder(),
            Action::FinishTranscoder => {
                if self.transcoder.is_none() {
                    return self.step(Input::TranscoderFinished);
                }
                self.tell_child(ToChild::Finish);
            }
            Action::StopSource(fault) => {
                if let Some(source) = self.source.take() {
                    let _ = source.stop.send(fault);
                }
            }
            Action::KillTranscoder => self.lose_transcoder(),
            Action::LeaveRoom => self.leave_room(),
            // All of it is let go of when the driver is dropped.
            Action::Release => {}
        }
    }

    // === the control plane ===

    async fn report(&mut self, status: Status, error: String) {
        let report = self.facts.report(status, error, SystemTime::now());
        info!(status = ?report.status, error = %report.error, "session state");
        if status.is_final() {
            let sent = tokio::time::timeout(LAST_REPORT, self.reports.send(report)).await;
            if !matches!(sent, Ok(Ok(()))) {
                warn!("the last report found no taker");
            }
        } else if self.reports.try_send(report).is_err() {
            warn!(?status, "a report was dropped: the control plane takes none");
        }
    }

    /// Something the control plane shows has changed while its status stays.
    fn report_facts(&mut self) {
        if self.session.running() && self.session.status() == Status::Publishing && self.news.news(now()) {
            self.send_facts();
        }
    }

    fn send_facts(&mut self) {
        let report = self.facts.report(Status::Publishing, String::new(), SystemTime::now());
        let _ = self.reports.try_send(report);
    }

    /// Tells what came too soon behind what was told before.
    fn tell_news(&mut self) {
        if self.news.tell(now()) && self.session.running() {
            self.send_facts();
        }
        if self.splices.tell(now()) {
            self.show_splice();
        }
    }

    fn on_command(&mut self, command: Option<Command>) {
        match command {
            Some(Command::Stop(stop)) => self.step(Input::Stop(stop)),
            Some(Command::TakeOver(source)) if self.session.running() => {
                info!("another encoder takes over");
                let words = Fault::new(Blame::Access, "another encoder has connected with the same stream key");
                if let Some(old) = self.source.replace(source) {
                    let _ = old.stop.send(Some(words));
                }
                self.timeline.restart();
                self.gop.clear();
                self.doze.restart(&[], now());
                self.skipping = true;
            }
            Some(Command::TakeOver(source)) => source.too_late(),
            None => self.step(Input::Stop(Stop::Shutdown)),
        }
    }

    // === the source ===

    fn on_source(&mut self, event: Option<SourceEvent>) {
        match event {
            Some(SourceEvent::Media(Media::Announced(tracks))) => self.step(Input::Announced(tracks)),
            Some(SourceEvent::Media(Media::VideoConfig(config))) => {
                debug!(codec = ?config.codec, size = ?config.size, "source video");
                self.step(Input::Configured(Kind::Video));
                self.facts.video_codec(config.codec);
                self.gop.clear();
                self.doze.restart(&[], now());
                self.tell_child(ToChild::VideoConfig(config.clone()));
                self.video_config = Some(config);
            }
            Some(SourceEvent::Media(Media::AudioConfig(config))) => {
                debug!(codec = ?config.codec, rate = config.sample_rate, channels = config.channels, "source audio");
                self.step(Input::Configured(Kind::Audio));
                self.facts.audio_codec(config.codec);
                self.tell_child(ToChild::AudioConfig(config.clone()));
                self.audio_config = Some(config);
            }
            Some(SourceEvent::Media(Media::Frame(frame))) => self.on_frame(frame),
            Some(SourceEvent::Passed(passed)) => self.on_passed(passed),
            Some(SourceEvent::Splice(event)) => self.on_splice(event),
            Some(SourceEvent::Media(Media::Unusable(kind, reason))) => self.step(Input::Unusable(kind, reason)),
            Some(SourceEvent::Ended(end)) => {
                self.source = None;
                self.step(Input::SourceEnded(end));
            }
            None => {
                self.source = None;
                let fault = Fault::passing(Blame::Us, "the connection's task ended unexpectedly; connect again");
                self.step(Input::SourceEnded(SourceEnd::Lost(fault)));
            }
        }
    }

    /// Shows the room whether what it sees is out of its network, as the Go ingress does.
    fn on_splice(&mut self, event: Option<u32>) {
        self.splice = event;
        if self.splices.news(now()) {
            self.show_splice();
        }
    }

    fn show_splice(&self) {
        info!(event = self.splice, "splice point");
        if let Some(room) = &self.room {
            let value = self.splice.map(|e| e.to_string()).unwrap_or_default();
            room.set_attributes(vec![("ingress.outOfNetwork.eventID".to_owned(), value)]);
        }
    }

    fn on_frame(&mut self, mut frame: Frame) {
        let now = now();
        let placed = self.timeline.place(frame.kind, frame.dts, frame.pts, now);
        (frame.dts, frame.pts) = (placed.dts, placed.pts);
        let kind = frame.kind;
        if placed.late > LATE {
            self.catch_up(kind, placed.dts + MediaTime::from(placed.late));
        }
        self.facts.count(kind, frame.data.len(), now);
        if kind == Kind::Video {
            if frame.key {
                self.skipping = false;
            }
            self.gop.push(&frame);
        }
        if kind == Kind::Video && !self.skipping && placed.late <= LATE {
            self.still.picture(frame.pts, now);
        }
        match kind {
            Kind::Audio => self.tell_child(ToChild::Frame(frame)),
            Kind::Video if self.skipping => self.count_dropped(),
            Kind::Video => {
                self.doze.push(frame);
                self.feed_pictures();
            }
        }
        self.step(Input::SourceFrame(kind));
    }

    /// When the last picture is to be shown once more; `None` while nobody would see it.
    fn repeat_due(&self) -> Option<Instant> {
        let seen = self.session.status() == Status::Publishing && self.session.running() && self.wanted.contains(&true);
        // A full queue is waited for in peace.
        let takes = self.transcoder.as_ref().is_some_and(|t| !t.is_full());
        self.still.due().filter(|_| seen && takes && !self.skipping)
    }

    fn repeat_picture(&mut self) {
        if self.repeat_due().is_some()
            && let Some(at) = self.still.repeat(now())
        {
            self.tell_child(ToChild::Repeat(at));
        }
    }

    /// Gives the transcoder the pictures whose time it is.
    fn feed_pictures(&mut self) {
        let now = now();
        while !self.skipping {
            let full = self.transcoder.as_ref().is_some_and(Transcoder::is_full);
            if full && self.doze.may_wait() {
                break;
            }
            let Some(frame) = self.doze.next(now) else { break };
            self.tell_child(ToChild::Frame(frame));
        }
    }

    /// Somebody watches, or nobody any more: then pictures wait instead of being decoded.
    fn watch(&mut self) {
        let watched = self.wanted.is_empty() || self.wanted.contains(&true);
        if let Some(latest) = self.doze.watched(watched, now()) {
            // Only the newest picture is worth showing.
            self.show_from(Kind::Video, latest);
        }
        self.feed_pictures();
    }

    /// What comes is late, and `due` is what should come now: what lies before is decoded, as later pictures build on it,
    /// but nobody sees it. So a stall costs the viewers its own length, and no delay afterwards.
    fn catch_up(&mut self, kind: Kind, due: MediaTime) {
        let from = due - MediaTime::from(LATE);
        // A new bound for every frame would be a message for each; a tenth of a second is fine enough.
        if self.show_from[kind as usize].is_none_or(|before| from > before + MediaTime::from_millis(100)) {
            self.show_from(kind, from);
        }
    }

    /// Bounds what is shown of one kind: never to before what was said already, as that much is behind a stall.
    fn show_from(&mut self, kind: Kind, from: MediaTime) {
        let bound = &mut self.show_from[kind as usize];
        if bound.is_none_or(|before| from > before) {
            *bound = Some(from);
            self.tell_child(ToChild::ShowFrom(kind, from));
        }
    }

    // === the transcoder ===

    fn start_transcoder(&mut self) {
        let job = Job {
            video_codec: self.spec.video.encoding.codec,
            max_frame_rate: self.spec.video.encoding.max_frame_rate,
            audio: self.spec.audio.encoding,
        };
        match self.transcoders.take(job) {
            Ok(transcoder) => {
                debug!(pid = transcoder.pid(), "transcoder taken");
                self.transcoder = Some(transcoder);
            }
            Err(e) => self.step(Input::TranscoderNotStarted(e.to_string())),
        }
    }

    /// Puts a new transcoder in the place of one that is gone and brings it up to date: viewers see a short freeze.
    fn restart_transcoder(&mut self) {
        self.lose_transcoder();
        self.start_transcoder();
        if self.transcoder.is_none() {
            return;
        }
        self.comeback = Some(Comeback::new(&self.wanted));
        if let Some(room) = &self.room {
            room.restarted();
        }
        if let Some(config) = self.video_config.clone() {
            self.tell_child(ToChild::VideoConfig(config));
        }
        if let Some(config) = self.audio_config.clone() {
            self.tell_child(ToChild::AudioConfig(config));
        }
        if !self.layers.is_empty() {
            self.tell_child(ToChild::Layers(self.layers.clone()));
            for (layer, &wanted) in self.wanted.clone().iter().enumerate().filter(|(_, w)| !**w) {
                self.tell_child(ToChild::Wanted { layer: layer as u8, wanted });
            }
        }
        // Once: a picture that the decoder dies of would be among them, and kill the next one, too.
        let key = self.gop.frames().first().map(|f| f.dts);
        if key.is_some() && std::mem::replace(&mut self.replayed, key) == key {
            warn!("these pictures were given to the transcoder that crashed: waiting for the next key frame");
            self.gop.clear();
        }
        self.doze.restart(self.gop.frames(), now());
        match self.gop.latest() {
            Some(latest) => {
                self.show_from(Kind::Video, self.still.repeated().map_or(latest, |shown| shown.max(latest)));
                // What was dropped on the way to the one before is among these.
                self.skipping = false;
                self.feed_pictures();
            }
            None => self.skipping = true,
        }
    }

    /// Ends it, if there is one. What it knew is told to the next one anew.
    fn lose_transcoder(&mut self) {
        self.transcoder = None;
        self.owed.clear();
        self.show_from = [None; 2];
    }

    fn tell_child(&mut self, message: ToChild) {
        let Some(transcoder) = &self.transcoder else { return };
        let frame = if let ToChild::Frame(frame) = &message { Some(frame.kind) } else { None };
        // What is owed comes first: frames stand behind their configuration.
        let paid = self.owed.pay(|owed| transcoder.send(owed));
        let Some(message) = (if paid { transcoder.send(message) } else { Some(message) }) else { return };
        self.owed.keep(message);
        let Some(kind) = frame else { return };
        self.count_dropped();
        if kind == Kind::Video && !self.skipping {
            warn!("the transcoder does not keep up: pictures are dropped until the next key frame");
            self.skipping = true;
        }
    }

    fn pay_owed(&mut self) {
        if let Some(transcoder) = &self.transcoder {
            self.owed.pay(|owed| transcoder.send(owed));
        }
    }

    fn count_dropped(&mut self) {
        self.dropped += 1;
        self.observer.dropped(1);
    }

    fn on_child(&mut self, message: FromChild) {
        let message = match message {
            FromChild::Message(message) => message,
            FromChild::Gone(how) => {
                let came_up = self.transcoder.as_ref().is_some_and(Transcoder::came_up);
                self.lose_transcoder();
                if self.session.running() {
                    warn!(how, "the transcoder is gone");
                }
                let gone = if came_up { Input::TranscoderCrashed } else { Input::TranscoderNotStarted };
                return self.step(gone(how));
            }
        };
        match message {
            ToParent::Hello(_) | ToParent::Ready | ToParent::Alive { .. } => {}
            // Only said by children that pull, and to whom they pull for.
            ToParent::Pulled(_) | ToParent::Splice(_) => {}
            ToParent::VideoFormat { width, height, frame_rate } => self.on_video_format(width, height, frame_rate),
            ToParent::AudioFormat { sample_rate, channels } => {
                if self.facts.audio_format(sample_rate, channels) {
                    self.report_facts();
                }
                self.step(Input::Decodable(Kind::Audio));
            }
            ToParent::Video { layer, pts, key, data } => {
                let out = Out { pts, at: self.timeline.wall(pts, now()), key, data };
                self.on_picture(usize::from(layer), out);
            }
            ToParent::Audio { pts, level, data } => self.on_audio(pts, level, data),
            ToParent::Unusable { kind, reason } => {
                warn!(kind = kind.as_str(), reason, "this part of the source can't be used");
                self.step(Input::Unusable(kind, reason));
            }
            ToParent::Failed { reason } => self.step(Input::TranscoderFailed(reason)),
            ToParent::Finished => self.step(Input::TranscoderFinished),
        }
    }

    fn on_picture(&mut self, layer: usize, picture: Out) {
        let Some(comeback) = &mut self.comeback else { return self.show(layer, picture) };
        let pictures = comeback.picture(layer, picture, now());
        if !pictures.is_empty() {
            self.comeback = None;
        }
        pictures.into_iter().for_each(|(layer, picture)| self.show(layer, picture));
    }

    fn show(&mut self, layer: usize, picture: Out) {
        let at = picture.at;
        if let Some(room) = &self.room {
            room.video(layer, picture);
        }
        self.sent(layer + 1, at);
    }

    fn on_audio(&mut self, pts: MediaTime, level: i8, data: bytes::Bytes) {
        let at = self.timeline.wall(pts, now());
        if let Some(room) = &self.room {
            room.audio(pts, at, data, Some(level));
        }
        self.sent(0, at);
    }

    fn on_video_format(&mut self, width: u32, height: u32, frame_rate: Option<f64>) {
        if self.facts.video_format(width, height, frame_rate) {
            debug!(width, height, frame_rate, "source picture changes");
            self.report_facts();
        }
        if self.layers.is_empty() {
            info!(width, height, frame_rate, "source picture");
            self.layers = fit_layers(&self.spec.video.encoding.layers, width, height);
            self.wanted = vec![true; self.layers.len()];
            self.tell_child(ToChild::Layers(self.layers.clone()));
        }
        self.step(Input::Decodable(Kind::Video));
    }

    /// An encoded frame went to the room: `output` 0 is sound, above it layers.
    fn sent(&mut self, output: usize, at: Instant) {
        if !self.connected {
            return;
        }
        let now = now();
        if let Some(sampled) = self.sampled.get_mut(output)
            && sampled.is_none_or(|last| now.saturating_duration_since(last) >= LATENCY_EVERY)
        {
            *sampled = Some(now);
            let layer = output.checked_sub(1).and_then(|layer| self.layers.get(layer));
            self.observer.latency(layer.map(|l| l.quality), now.saturating_duration_since(at));
        }
        if self.session.status() == Status::Buffering {
            self.step(Input::MediaOut);
        }
    }

    // === the room ===

    fn publish(&mut self, which: SourceTracks) {
        let video = which.video.then(|| self.video_track());
        let audio = which.audio.then(|| self.audio_track());
        if let Some(room) = &self.room {
            video.into_iter().for_each(|t| room.add_video(t));
            audio.into_iter().for_each(|t| room.add_audio(t));
            return;
        }
        let mut config = publish::Config::new(self.ws_url.clone(), self.token.clone());
        config.attributes = vec![("ingress.resourceID".to_owned(), self.place.entry.resource_id.to_string())];
        config.loopback = self.loopback;
        config.expected = self.passed.as_ref().and_then(|p| p.expected.clone());
        let (room, events) = self.rooms.join(config, Tracks { video, audio });
        self.room = Some(room);
        self.room_events = Some(events);
    }

    fn video_track(&mut self) -> VideoTrack {
        VideoTrack {
            // The Go ingress names its video track so; LiveKit only wants it unique within the participant.
            cid: self.spec.ingress_id.to_string(),
            name: self.spec.video.name.clone(),
            source: self.spec.video.source,
            format: self.video_format(),
            layers: self.layers.clone(),
        }
    }

    fn audio_track(&self) -> AudioTrack {
        let (stereo, dtx) = self.opus_format();
        AudioTrack {
            cid: format!("TR_{}", self.place.entry.resource_id),
            name: self.spec.audio.name.clone(),
            source: self.spec.audio.source,
            stereo,
            dtx,
        }
    }

    fn on_room(&mut self, event: Option<Event>) {
        match event {
            Some(Event::Joined { room_sid, participant_sid }) => {
                info!(room_sid, participant_sid, "joined the room");
                if self.facts.room(room_sid) {
                    self.report_facts();
                }
            }
            Some(Event::Published { kind, track_sid }) => info!(kind = kind.as_str(), track_sid, "published"),
            Some(Event::Connected) => self.connected = true,
            Some(Event::KeyFrameWanted { layer }) => self.want_key_frame(layer),
            Some(Event::LayersWanted(wanted)) => self.on_wanted(&wanted),
            Some(Event::Muted { kind, muted }) => info!(kind = kind.as_str(), muted, "the room mutes"),
            Some(Event::Reconnecting) => warn!("the room is lost, reconnecting"),
            Some(Event::Reconnected) => info!("back in the room"),
            Some(Event::Closed(fault)) => self.room_gone(fault),
            None => self.room_gone(Fault::new(Blame::Us, "room disconnected unexpectedly: its task ended")),
        }
    }

    fn room_gone(&mut self, fault: Fault) {
        self.room = None;
        self.room_events = None;
        self.connected = false;
        self.step(Input::RoomClosed(fault));
    }

    fn on_wanted(&mut self, wanted: &[bool]) {
        for (layer, &now) in wanted.iter().enumerate() {
            let Some(before) = self.wanted.get_mut(layer) else { break };
            if std::mem::replace(before, now) != now {
                debug!(layer, wanted = now, "layer");
                self.tell_child(ToChild::Wanted { layer: layer as u8, wanted: now });
            }
        }
        self.watch();
    }

    fn leave_room(&mut self) {
        self.room_events = None;
        self.connected = false;
        match self.room.take() {
            Some(room) => self.leaving = Some(tokio::spawn(room.leave())),
            None => self.step(Input::RoomLeft),
        }
    }
}

/// The time by tokio's clock, so that tests can run it.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Nanoseconds since 1970, as the control plane counts time.
pub(crate) fn unix_nanos(at: SystemTime) -> i64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX))
}
