//! Stand-ins for the world around sessions: a control plane that can fail, participants and workers without media, and
//! publishers that a test plays. For tests on virtual time.

use crate::admission::Admission;
use crate::boxed::BoxFuture;
use crate::config::{CpuCost, OnDuplicate, RedisConfig};
use crate::control::embedded::Embedded;
use crate::control::{
    Affinity, ControlPlane, HandOverError, Instances, ReportError, Resolved, ServeGuard, SessionCommands, SessionList,
    StartRequests, StoredIngress, WhipAnswer, WhipHandler, WhipRefusal, WhipRequest,
};
use crate::inputs::request::{PublishRequest, PublishTarget, Publisher};
use crate::load::Capacity;
use crate::metrics::{PublishCounts, Registry, SessionMetrics};
use crate::recovery::Ledger;
use crate::sessions::admitted::Admitted;
use crate::sessions::{Parts, Sessions};
use ipc::Role;
use ipc::demux::Demux;
use ipc::transcode::Transcode;
use model::{Fault, IngressId, InputKind, Layer, LogBudget, ResourceId, Secret};
use psrpc::redis::Address;
use publish::{AudioTrack, Config, Event, Tracks, VideoTrack};
use session::lifecycle::Stop;
use session::participant::{Facts, Participant, ParticipantFactory};
use session::workers::{Worker, Workers};
use session::{Report, Source, SourceEnd, SourceEvent, SourceFeed, source};
use std::any::Any;
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

/// An embedded control plane whose calls can be made to fail, and that notes every report it is shown.
#[derive(Default)]
pub(crate) struct ScriptedControl {
    pub(crate) embedded: Embedded,
    /// What the next reports are answered.
    pub(crate) report_errors: Mutex<VecDeque<ReportError>>,
    /// What serving a session is answered, until taken away.
    pub(crate) serve_fault: Mutex<Option<Fault>>,
    /// What looking up a key is answered, until taken away.
    pub(crate) lookup_fault: Mutex<Option<Fault>>,
    /// How often what is stored was looked at.
    pub(crate) looked: AtomicUsize,
    /// When others were asked to take something over.
    pub(crate) handed_over: Mutex<Vec<Instant>>,
    /// Reports with the time of each attempt, stored or not.
    pub(crate) attempts: Mutex<Vec<(Instant, Report)>>,
}

impl ScriptedControl {
    /// The statuses of all reports that were tried.
    pub(crate) fn tried(&self) -> Vec<session::Status> {
        self.attempts.lock().unwrap().iter().map(|(_, report)| report.status).collect()
    }
}

impl ControlPlane for ScriptedControl {
    fn lookup<'a>(&'a self, key: &'a Secret) -> BoxFuture<'a, Result<Resolved, Fault>> {
        match self.lookup_fault.lock().unwrap().clone() {
            Some(fault) => Box::pin(async { Err(fault) }),
            None => self.embedded.lookup(key),
        }
    }

    fn report<'a>(&'a self, ingress: &'a IngressId, report: &'a Report) -> BoxFuture<'a, Result<(), ReportError>> {
        self.attempts.lock().unwrap().push((Instant::now(), report.clone()));
        match self.report_errors.lock().unwrap().pop_front() {
            Some(error) => Box::pin(async { Err(error) }),
            None => self.embedded.report(ingress, report),
        }
    }

    fn stored<'a>(&'a self, ingress: &'a IngressId) -> BoxFuture<'a, Result<Option<StoredIngress>, Fault>> {
        self.looked.fetch_add(1, Ordering::Relaxed);
        self.embedded.stored(ingress)
    }

    fn pass_on<'a>(&'a self, ingress: &'a IngressId, command: Stop) -> BoxFuture<'a, Result<Report, Fault>> {
        self.embedded.pass_on(ingress, command)
    }

    fn hand_over<'a>(
        &'a self,
        ingress: &'a IngressId,
        state: &'a Report,
    ) -> BoxFuture<'a, Result<Report, HandOverError>> {
        self.handed_over.lock().unwrap().push(Instant::now());
        self.embedded.hand_over(ingress, state)
    }

    fn instances(&self) -> Arc<dyn Instances> {
        self.embedded.instances()
    }

    fn serve_session<'a>(
        &'a self,
        ingress: &'a IngressId,
        resource: &'a ResourceId,
    ) -> BoxFuture<'a, Result<SessionCommands, Fault>> {
        match self.serve_fault.lock().unwrap().clone() {
            Some(fault) => Box::pin(async { Err(fault) }),
            None => self.embedded.serve_session(ingress, resource),
        }
    }

    fn serve_whip<'a>(
        &'a self,
        resource: &'a ResourceId,
        handler: WhipHandler,
    ) -> BoxFuture<'a, Result<ServeGuard, Fault>> {
        self.embedded.serve_whip(resource, handler)
    }

    fn ask_whip<'a>(
        &'a self,
        resource: &'a ResourceId,
        key: &'a Secret,
        request: WhipRequest,
    ) -> BoxFuture<'a, Result<WhipAnswer, WhipRefusal>> {
        self.embedded.ask_whip(resource, key, request)
    }

    fn start_requests(&self, affinity: Affinity) -> StartRequests {
        self.embedded.start_requests(affinity)
    }

    fn serve_list(&self, list: SessionList) -> ServeGuard {
        self.embedded.serve_list(list)
    }

    fn reachable(&self) -> Result<(), Fault> {
        self.embedded.reachable()
    }
}

/// Workers that take everything and bring nothing, for as long as they are held.
#[derive(Default)]
pub(crate) struct SilentWorkers {
    held: Mutex<Vec<Box<dyn Any + Send>>>,
    /// Whether none can be started.
    pub(crate) failing: Mutex<bool>,
}

impl SilentWorkers {
    fn start<R: Role>(&self) -> io::Result<Worker<R>> {
        if *self.failing.lock().unwrap() {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let ((to, received), (sent, from)) = (mpsc::channel(64), mpsc::channel(64));
        self.held.lock().unwrap().push(Box::new((received, sent)));
        Ok(Worker::from_channels(to, from))
    }
}

impl Workers for SilentWorkers {
    fn transcode(&self, _: ipc::transcode::Job) -> io::Result<Worker<Transcode>> {
        self.start()
    }

    fn demux(&self, _: ipc::demux::Job) -> io::Result<Worker<Demux>> {
        self.start()
    }
}

/// Participants that a test sees join and leave.
pub(crate) struct FakeParticipants {
    /// What the server says of itself.
    pub(crate) facts: watch::Sender<Option<publish::ServerFacts>>,
    /// The events' senders of those that joined.
    pub(crate) joined: Mutex<Vec<mpsc::Sender<Event>>>,
}

impl Default for FakeParticipants {
    fn default() -> Self {
        Self { facts: watch::channel(None).0, joined: Mutex::default() }
    }
}

impl ParticipantFactory for FakeParticipants {
    fn join(&self, _: Config, _: Tracks) -> (Box<dyn Participant>, mpsc::Receiver<Event>) {
        let (sender, events) = mpsc::channel(8);
        self.joined.lock().unwrap().push(sender);
        (Box::new(FakeParticipant), events)
    }

    fn server_facts(&self, _: &str) -> Facts {
        self.facts.subscribe()
    }
}

struct FakeParticipant;

impl Participant for FakeParticipant {
    fn add_video(&self, _: VideoTrack) {}
    fn add_audio(&self, _: AudioTrack) {}
    fn send(&self, _: publish::Output, _: publish::Media) -> bool {
        true
    }
    fn restarted(&self) {}
    fn resized(&self, _: Vec<Layer>) {}
    fn set_attributes(&self, _: Vec<(String, String)>) {}
    fn leave(self: Box<Self>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async {})
    }
}

/// How a publisher was answered.
#[derive(Debug)]
pub(crate) enum Answer {
    /// It may send media here, under this id.
    Accepted(SourceFeed, ResourceId),
    /// It was sent away.
    Refused(Fault),
}

impl Answer {
    /// The feed of an accepted publisher, and its id.
    pub(crate) fn accepted(self) -> (SourceFeed, ResourceId) {
        match self {
            Self::Accepted(feed, id) => (feed, id),
            Self::Refused(fault) => panic!("refused: {fault}"),
        }
    }

    /// Why a publisher was refused.
    pub(crate) fn refused(self) -> Fault {
        match self {
            Self::Refused(fault) => fault,
            Self::Accepted(..) => panic!("accepted"),
        }
    }
}

/// A publisher that a test plays.
pub(crate) struct ScriptedRequest {
    input: InputKind,
    keys: Vec<Secret>,
    /// Why it can't begin once it was admitted.
    unusable: Option<Fault>,
    answer: oneshot::Sender<Answer>,
}

impl PublishRequest for ScriptedRequest {
    fn input(&self) -> InputKind {
        self.input
    }

    fn wanted(&self) -> PublishTarget {
        PublishTarget::Keys(self.keys.clone())
    }

    fn publisher(&self) -> Publisher {
        Publisher::default()
    }

    fn log_budget(&self) -> Arc<LogBudget> {
        Arc::default()
    }

    fn accept(self: Box<Self>, admitted: &mut Admitted) -> BoxFuture<'_, Result<Option<Source>, Fault>> {
        Box::pin(async move {
            if let Some(fault) = self.unusable {
                let _ = self.answer.send(Answer::Refused(fault.clone()));
                return Err(fault);
            }
            let (feed, source) = source();
            let _ = self.answer.send(Answer::Accepted(feed, admitted.resource_id().clone()));
            Ok(Some(source))
        })
    }

    fn reject(self: Box<Self>, fault: Fault) {
        let _ = self.answer.send(Answer::Refused(fault));
    }
}

/// Sessions and what surrounds them.
pub(crate) struct Stage {
    pub(crate) control: Arc<ScriptedControl>,
    pub(crate) workers: Arc<SilentWorkers>,
    pub(crate) capacity: Capacity,
    pub(crate) metrics: Registry,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) admission: Arc<Admission>,
}

impl Stage {
    /// A machine of eight CPUs that knows the RTMP ingress `IN_k` with the key `k`.
    pub(crate) fn new(on_duplicate: OnDuplicate) -> Self {
        let control = Arc::<ScriptedControl>::default();
        control.embedded.put(crate::control::embedded::ingress(InputKind::Rtmp, "k"));
        let workers = Arc::<SilentWorkers>::default();
        let capacity = Capacity::new(8.0, CpuCost::default());
        let metrics = Registry::default();
        let sessions = Sessions::new(Parts {
            control: control.clone(),
            capacity: capacity.clone(),
            participants: Arc::<FakeParticipants>::default(),
            workers: workers.clone(),
            ledger: Ledger::default(),
            observer: Arc::new(SessionMetrics::register(&metrics)),
            stall_timeout: session::lifecycle::STALL_TIMEOUT,
            passthrough: session::Passthrough::default(),
            loopback: false,
        });
        let publishes = PublishCounts::register(&metrics, "NE_x");
        let admission = Admission::new(sessions.clone(), publishes, on_duplicate);
        Self { control, workers, capacity, metrics, sessions, admission }
    }

    /// A publisher with these keys; with a fault it can't begin once it is admitted.
    pub(crate) async fn publish(&self, input: InputKind, keys: &[&str], unusable: Option<Fault>) -> Answer {
        let (answer, answered) = oneshot::channel();
        let keys = keys.iter().map(|key| Secret::new(*key)).collect();
        self.admission.admit(Box::new(ScriptedRequest { input, keys, unusable, answer })).await;
        answered.await.expect("an answer")
    }

    /// An encoder with this key.
    pub(crate) async fn push(&self, key: &str) -> Answer {
        self.publish(InputKind::Rtmp, &[key], None).await
    }

    /// The sessions for which capacity is taken.
    pub(crate) fn carried(&self) -> u32 {
        self.capacity.active().iter().map(|active| active.sessions).sum()
    }

    /// Waits until everything has ended; fails if that takes longer than sessions and their last reports may.
    pub(crate) async fn idle(&self) {
        let ended = tokio::time::timeout(Duration::from_secs(150), self.sessions.idle()).await;
        ended.expect("all sessions end");
        assert_eq!((self.carried(), self.control.embedded.serving().len()), (0, 0), "everything is given back");
    }

    /// Lets everything happen that needs no time to pass.
    pub(crate) async fn settle(&self) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// A configuration without ports.
pub(crate) fn config() -> crate::config::Config {
    let redis = RedisConfig::single(Address { host: "localhost".into(), port: 6379 });
    let ws_url = "ws://localhost:7880".parse().unwrap();
    let mut config = crate::config::Config::new(redis, "key".into(), Secret::new("secret"), ws_url);
    config.bind_address = std::net::Ipv4Addr::LOCALHOST.into();
    (config.rtmp.port, config.whip.port) = (None, None);
    config
}

/// The source ends in order.
pub(crate) async fn finish(feed: &SourceFeed) {
    let _ = feed.events.send(SourceEvent::Ended(SourceEnd::Finished)).await;
}
