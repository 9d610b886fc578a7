//! Carries a session out: one task that moves media from the source through the transcoder into the room, and does what
//! [`state`](crate::lifecycle) decides. Here are what it holds and its loop; `source`, `child`, `joined` (the room) and `report`
//! (the control plane) are what it does with each side, `passed` what goes on without a transcoder.

mod egress;
mod encode;
pub(crate) mod idle_decode_gate;
mod ingest;
mod passthrough;
mod reports;

use crate::layers::restart_barrier::RestartBarrier;
use crate::layers::sizing::Sizing;
use crate::lifecycle::{Action, Input, Session};
use crate::participant::{Participant, ParticipantFactory};
use crate::pipeline::idle_decode_gate::IdleDecodeGate;
use crate::registry::{Command, Commands, Slot};
use crate::session_stats::SessionStats;
use crate::throttle::Throttle;
use crate::workers::pending_commands::PendingCommands;
use crate::workers::{FULL_QUEUE_DEADLINE, FromWorker, Worker, Workers};
use crate::{Observer, Report, SessionIds, SessionObserver, Source, SourceEvent};
use ipc::Transcode;
use ipc::transcode::{self, Event as TranscodeEvent};
use media::GopCache;
use model::{AudioConfig, IngressSpec, InputKind, Layer, MediaTime, Secret, VideoConfig};
use publish::Event;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use timing::frame_repeater::FrameRepeater;
use timing::ingest_clock::Timeline;
use tokio::sync::mpsc;

/// Reports that may wait for the control plane. A session makes a handful; more than this wait only while the control plane is
/// away for long, and then the oldest news is of no use.
const REPORTS: usize = 64;
/// How often what changes in the source is told: to the control plane, and (its splice points) to the room. A source may change
/// its size with every picture.
const FACTS_EVERY: Duration = Duration::from_secs(1);
/// See [`FACTS_EVERY`].
const SPLICES_EVERY: Duration = Duration::from_millis(250);

/// Everything a session starts with.
pub struct Start {
    /// Its slot in the registry.
    pub slot: Slot,
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
    /// Makes its participant.
    pub participants: Arc<dyn ParticipantFactory>,
    /// Where it gets workers.
    pub workers: Arc<dyn Workers>,
    /// Is told that it begins, and makes who observes it.
    pub observer: Arc<dyn SessionObserver>,
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
    facts: SessionStats,
    news: Throttle,
    /// The newest splice point.
    splice: Option<u32>,
    splices: Throttle,
    spec: IngressSpec,
    ws_url: String,
    token: Secret,
    loopback: bool,
    slot: Slot,
    commands: Option<Commands>,
    source: Option<Source>,
    participants: Arc<dyn ParticipantFactory>,
    workers: Arc<dyn Workers>,
    observer: Arc<dyn Observer>,
    reports: mpsc::Sender<Report>,
    room: Option<Box<dyn Participant>>,
    room_events: Option<mpsc::Receiver<Event>>,
    leaving: Option<tokio::task::JoinHandle<()>>,
    connected: bool,
    transcoder: Option<Worker<Transcode>>,
    owed: PendingCommands,
    timeline: Timeline,
    gop: GopCache,
    /// The key frame from which pictures were last given to a new transcoder.
    replayed: Option<MediaTime>,
    /// A new transcoder's first pictures, until they are out.
    comeback: Option<RestartBarrier>,
    /// Since when the transcoder's queue has been full without a break.
    full_since: Option<Instant>,
    doze: IdleDecodeGate,
    video_config: Option<VideoConfig>,
    audio_config: Option<AudioConfig>,
    fit: Sizing,
    layers: Vec<Layer>,
    wanted: Vec<bool>,
    /// The transcoder's queue overflowed: pictures are of no use before the next key frame.
    skipping: bool,
    dropped: u64,
    still: FrameRepeater,
    /// What was last sent as [`transcode::Command::ShowFrom`], of sound and of pictures.
    show_from: [Option<MediaTime>; 2],
    sampled: [Option<Instant>; 4],
    /// What is passed on as it comes, where that is so.
    passed: Option<passthrough::State>,
}

/// One thing that happened, from any side.
enum Happened {
    Source(Option<SourceEvent>),
    Child(FromWorker<TranscodeEvent>),
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
        let mut slot = start.slot;
        let observer = start.observer.begin(&SessionIds {
            ingress_id: slot.entry.ingress_id.clone(),
            resource_id: slot.entry.resource_id.clone(),
            input: slot.entry.input,
        });
        let commands = Some(slot.commands());
        let passed = (start.spec.input == InputKind::Whip && !start.spec.transcode).then(passthrough::State::default);
        let fit = Sizing::new(start.spec.video.encoding.layers.clone());
        Self {
            session,
            pending,
            facts: SessionStats::new(slot.entry.resource_id.clone(), slot.entry.started_at),
            news: Throttle::new(FACTS_EVERY),
            splice: None,
            splices: Throttle::new(SPLICES_EVERY),
            spec: start.spec,
            ws_url: start.ws_url,
            token: start.token,
            loopback: start.loopback,
            slot,
            commands,
            source: Some(start.source),
            participants: start.participants,
            workers: start.workers,
            observer,
            reports,
            room: None,
            room_events: None,
            leaving: None,
            connected: false,
            transcoder: None,
            owed: PendingCommands::default(),
            timeline: Timeline::new(),
            gop: GopCache::default(),
            replayed: None,
            comeback: None,
            full_since: None,
            doze: IdleDecodeGate::default(),
            video_config: None,
            audio_config: None,
            fit,
            layers: Vec::new(),
            wanted: Vec::new(),
            skipping: false,
            dropped: 0,
            still: FrameRepeater::default(),
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
                    self.fit_layers();
                    self.tell_news();
                    self.step(Input::Tick);
                }
            }
        }
    }

    /// Waits for the next thing to happen. Wishes and commands go before media, so that a flood of it can't starve them.
    async fn next(&mut self) -> Happened {
        let deadlines =
            [self.session.deadline(), self.repeat_due(), self.news.due(), self.splices.due(), self.fit.due()];
        let deadline = deadlines.into_iter().flatten().min();
        let full = self.transcoder.as_ref().filter(|t| t.is_full());
        self.full_since = full.and_then(|_| self.full_since.or_else(|| Some(now())));
        let room_for_more = full.zip(self.full_since).map(|(t, since)| t.ready_by(since + FULL_QUEUE_DEADLINE));
        let owes = self.transcoder.as_ref().filter(|_| !self.owed.is_empty()).map(Worker::ready);
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
            // Nobody takes over a session that is ending: its next encoder waits for the slot.
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
                self.tell_child(transcode::Command::Finish);
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
}

/// The time by tokio's clock, so that tests can run it.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Nanoseconds since 1970, as the control plane counts time.
pub(crate) fn unix_nanos(at: SystemTime) -> i64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX))
}
