//! Carries a session out: one task that moves media from the source to the room as the [`Plan`] says, and does what
//! [`lifecycle`](crate::lifecycle) decides.
//!
//! [`ingest`], [`encode`] and [`egress`] own what they deal with and know nothing of each other. Here is the loop that waits for
//! all of them, and what goes from one to the other; [`routes`] is the media path.

mod egress;
mod encode;
mod idle_decode_gate;
mod ingest;
mod reports;
mod routes;
#[cfg(test)]
mod tests;
mod top_layer;

use crate::layers::passing::Passthrough;
use crate::layers::plan::{Plan, Producers};
use crate::lifecycle::{Action, Input, Lifecycle, Stop};
use crate::participant::ParticipantFactory;
use crate::registry::{Command, Commands, Slot};
use crate::session_stats::SessionStats;
use crate::time::now;
use crate::track_watch::TrackWatch;
use crate::workers::{FromWorker, Workers};
use crate::{Observer, Report, SessionIds, SessionObserver, Source, SourceEvent, Status};
use egress::{Egress, FromRoom, RoomAccess};
use encode::Encode;
use ingest::Ingest;
use ipc::transcode::{self, Job};
use model::{Blame, Fault, IngressSpec, Kind, Secret, SourceTracks};
use publish::RenewToken;
use reports::Reports;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use top_layer::TopOutput;
use tracing::{info, warn};

/// Reports that may wait for the control plane. A session makes a handful; more than this wait only while the control plane is
/// away for long, and then the oldest are of no use.
const REPORTS: usize = 64;

/// Everything a session starts with.
pub struct Start {
    /// Its slot in the registry.
    pub slot: Slot,
    /// What it is to do.
    pub spec: IngressSpec,
    /// The address of the room's server.
    pub ws_url: String,
    /// Admits to the room.
    pub token: Secret,
    /// Gives such a token at any time.
    pub renew: RenewToken,
    /// How long the source may send no media once it publishes.
    pub stall_timeout: Duration,
    /// Whether the source's own video may be the highest layer.
    pub passthrough: Passthrough,
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
    let producers = Producers::of(&start.spec);
    run_with(start, producers)
}

fn run_with(start: Start, producers: Producers) -> (impl Future<Output = ()> + Send, mpsc::Receiver<Report>) {
    let (reports, receiver) = mpsc::channel(REPORTS);
    (async move { Pipeline::new(start, producers, reports).run().await }, receiver)
}

struct Pipeline {
    session: Lifecycle,
    /// What [`Lifecycle`] has decided and is to be done yet.
    actions: Vec<Action>,
    plan: Plan,
    ingest: Ingest,
    encode: Encode,
    egress: Egress,
    reports: Reports,
    watch: TrackWatch,
    top: TopOutput,
    observer: Arc<dyn Observer>,
    /// Taken until the session ends.
    commands: Option<Commands>,
    /// Freed when the session is over.
    _slot: Slot,
}

/// One thing that happened, from any side.
enum Event {
    Source { event: Option<SourceEvent>, drained: bool },
    Worker(FromWorker<transcode::Event>),
    WorkerHasCapacity,
    Room(FromRoom),
    Command(Option<Command>),
    Time,
}

impl Pipeline {
    fn new(start: Start, producers: Producers, reports: mpsc::Sender<Report>) -> Self {
        let Start {
            mut slot,
            spec,
            ws_url,
            token,
            renew,
            stall_timeout,
            passthrough,
            loopback,
            source,
            participants,
            workers,
            observer,
        } = start;
        let (session, actions) = Lifecycle::new(spec.input.reusable(), now());
        let entry = &slot.entry;
        let ids = SessionIds {
            ingress_id: entry.ingress_id.clone(),
            resource_id: entry.resource_id.clone(),
            input: entry.input,
        };
        let stats = SessionStats::new(entry.resource_id.clone(), entry.started_at);
        let observer = observer.begin(&ids);
        let job = Job {
            video_codec: spec.video.encoding.codec,
            max_frame_rate: spec.video.encoding.max_frame_rate,
            audio: spec.audio.encoding,
        };
        let access = RoomAccess { participants, ws_url, token, renew: Some(renew), loopback };
        Self {
            session: session.with_start_deadline(source.start_deadline).with_stall_timeout(stall_timeout),
            actions,
            plan: Plan::new(&spec, producers),
            ingest: Ingest::new(source),
            encode: Encode::new(workers, job),
            egress: Egress::new(access, ids, &spec, observer.clone()),
            reports: Reports::new(stats, reports),
            watch: TrackWatch::new(),
            top: TopOutput::new(&spec, passthrough),
            observer,
            commands: Some(slot.commands()),
            _slot: slot,
        }
    }

    async fn run(mut self) {
        if self.plan.needs_worker()
            && let Err(why) = self.encode.start()
        {
            self.step(Input::TranscoderNotStarted(why));
        }
        loop {
            self.carry_out().await;
            if let Some(work) = self.encode.changed_work() {
                self.observer.works(work);
            }
            if self.session.ended() {
                break;
            }
            match self.next().await {
                Event::Source { event, drained } => {
                    if drained {
                        self.encode.drained();
                    }
                    self.on_source(event);
                }
                Event::Worker(event) => {
                    if let Some(encoded) = self.encode.on_event(event, now()) {
                        self.on_encoded(encoded);
                    }
                }
                Event::WorkerHasCapacity => self.encode.send_pending(),
                Event::Room(event) => self.on_room(event),
                Event::Command(command) => self.on_command(command),
                Event::Time => self.tick(),
            }
        }
    }

    /// Waits for the next thing to happen. Commands and the room go before media, so that a flood of it can't starve them.
    async fn next(&mut self) -> Event {
        let deadline = self.deadline();
        let (pending_can_go, capacity) = (self.encode.pending_can_go(), self.encode.capacity(now()));
        let source = async {
            let drained = capacity.await;
            (self.ingest.recv().await, drained)
        };
        let command = async {
            match &mut self.commands {
                Some(commands) => commands.recv().await,
                None => std::future::pending().await,
            }
        };
        let time = async {
            match deadline {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            command = command => Event::Command(command),
            event = self.egress.recv() => Event::Room(event),
            () = time => Event::Time,
            () = pending_can_go => Event::WorkerHasCapacity,
            event = self.encode.recv() => Event::Worker(event),
            (event, drained) = source => Event::Source { event, drained },
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let deadlines = [
            self.session.deadline(),
            self.repeat_due(),
            self.reports.due(),
            self.ingest.splice_due(),
            self.plan.due(),
            self.top.due(),
            self.watch.due().filter(|_| self.publishing()),
        ];
        deadlines.into_iter().flatten().min()
    }

    fn tick(&mut self) {
        let now = now();
        self.release_top(now);
        self.repeat_picture();
        let change = self.plan.tick(now);
        self.follow(change);
        self.watch_tracks(now);
        self.reports.tick(self.session.running(), now);
        if let Some(event) = self.ingest.splice_tick(now) {
            self.egress.show_splice(event);
        }
        self.step(Input::Tick);
    }

    fn step(&mut self, input: Input) {
        let actions = self.session.step(input, now());
        self.actions.extend(actions);
    }

    async fn carry_out(&mut self) {
        // Carrying one out may bring up another.
        while !self.actions.is_empty() {
            for action in std::mem::take(&mut self.actions) {
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
            Action::Report(status, error) => {
                // What never got through is worth telling, however well the session ended.
                let error = if status.is_final() && error.is_empty() { self.watch.undelivered() } else { error };
                self.reports.status(status, error).await;
                // What is known already.
                self.watch_tracks(now());
            }
            Action::Publish(tracks) => self.publish(tracks),
            Action::RestartTranscoder => {
                self.observer.transcoder_restarted();
                self.restart_worker();
            }
            Action::StartTranscoder => self.restart_worker(),
            Action::FinishTranscoder => {
                if !self.encode.finish() {
                    self.step(Input::TranscoderFinished);
                }
            }
            Action::StopSource(fault) => self.ingest.stop(fault),
            Action::KillTranscoder => self.encode.stop(),
            Action::LeaveRoom => {
                if !self.egress.leave() {
                    self.step(Input::RoomLeft);
                }
            }
            // Everything is let go of when the pipeline is dropped.
            Action::Release => {}
        }
    }

    fn publish(&mut self, tracks: SourceTracks) {
        let video = tracks.video.then(|| self.plan.publish());
        let audio = tracks.audio.then(|| self.plan.opus_format());
        self.egress.publish(video, audio, self.plan.expected());
    }

    fn restart_worker(&mut self) {
        if let Err(why) = self.encode.restart() {
            return self.step(Input::TranscoderNotStarted(why));
        }
        for kind in [Kind::Audio, Kind::Video] {
            // The next worker judges for itself.
            self.watch.damaged(kind, None);
        }
        self.egress.restarted();
        self.replay();
    }

    /// Whether the control plane has been told that the session publishes.
    fn publishing(&self) -> bool {
        self.session.running() && self.session.status() == Status::Publishing
    }

    /// Says in log and state which announced tracks do not get through, and when they do again.
    fn watch_tracks(&mut self, now: Instant) {
        if !self.publishing() {
            return;
        }
        if self.plan.encodes(Kind::Video) && !self.plan.encoders_watched() {
            self.watch.idle(Kind::Video);
        }
        if let Some(text) = self.watch.tick(now) {
            if text.is_empty() {
                info!("all tracks get through again");
            } else {
                warn!(text, "not all of the source gets through");
            }
        }
        self.observer.stalled(self.watch.stalled());
        let text = self.watch.text();
        if self.reports.trouble != text {
            self.ingest.notify(&text);
            self.reports.trouble = text;
            self.reports.changed(now);
        }
    }

    /// The statistics have changed.
    fn stats_changed(&mut self) {
        if self.publishing() {
            self.reports.changed(now());
        }
    }

    fn on_command(&mut self, command: Option<Command>) {
        match command {
            Some(Command::Stop(stop)) => self.step(Input::Stop(stop)),
            Some(Command::TakeOver(source)) if self.session.running() => {
                info!("another encoder takes over");
                let fault = Fault::new(Blame::Access, "another encoder has connected with the same stream key");
                self.ingest.take_over(source, fault, now());
                self.watch.restart();
                self.restart_top(now());
            }
            Some(Command::TakeOver(source)) => source.refuse_ended(),
            None => self.step(Input::Stop(Stop::Shutdown)),
        }
    }

    fn on_room(&mut self, event: FromRoom) {
        match event {
            FromRoom::Joined(sid) => {
                if self.reports.stats.room(sid) {
                    self.stats_changed();
                }
            }
            FromRoom::KeyframeWanted(output) => {
                if !self.bridge_top(output, now())
                    && let Some(producer) = self.plan.keyframe_producer(output)
                {
                    self.request_keyframe(producer);
                }
            }
            FromRoom::LayersWanted(wanted) => self.on_wanted(&wanted),
            FromRoom::Closed(fault) => self.step(Input::RoomClosed(fault)),
            FromRoom::Left => self.step(Input::RoomLeft),
        }
    }
}
