//! A control plane within the process: it keeps ingresses and their states in memory, by livekit-server's rules about reports.
//!
//! It is the base of a service without livekit-server's RPC, and tests run the service against it. Its methods are for the
//! operator: they make, change and delete ingresses, and have URLs pulled.

use super::instances::{Instances, Record, StoredRecord};
use super::plane::{
    Affinity, COMMAND_QUEUE, ControlPlane, HandOverError, ReportError, Resolved, START_QUEUE, ServeGuard,
    SessionCommand, SessionCommands, SessionList, StartRequest, StartRequests, StateReply, StoredIngress, Wanted,
};
use super::whip::{WhipAnswer, WhipHandler, WhipRefusal, WhipRequest};
use crate::boxed::BoxFuture;
use model::{
    AudioPreset, AudioSpec, Blame, Fault, IngressId, IngressSpec, InputKind, ResourceId, Secret, TrackSource,
    VideoPreset, VideoSpec,
};
use publish::RenewToken;
use session::Report;
use session::lifecycle::Stop;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use subtle::ConstantTimeEq;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::time::{Instant, timeout};

/// States that a subscriber may be late by before it misses some.
const STATE_QUEUE: usize = 256;

/// See the [module](self). Clones share one.
#[derive(Clone)]
pub struct Embedded {
    state: Arc<Mutex<State>>,
    reported: broadcast::Sender<(IngressId, Report)>,
}

#[derive(Default)]
struct State {
    ingresses: HashMap<IngressId, Resolved>,
    newest: HashMap<IngressId, Report>,
    sessions: Vec<(IngressId, ResourceId, mpsc::Sender<SessionCommand>)>,
    /// Instances that take requests to pull.
    starts: Vec<Starter>,
    list: Option<SessionList>,
    whip: HashMap<ResourceId, WhipHandler>,
    /// The records of instances, with those who have claimed them.
    instances: BTreeMap<String, Record>,
    claimed: HashMap<String, Instant>,
}

/// An instance that takes requests to pull.
#[derive(Clone)]
struct Starter {
    affinity: Affinity,
    requests: mpsc::Sender<StartRequest>,
}

impl Default for Embedded {
    fn default() -> Self {
        Self { state: Arc::default(), reported: broadcast::channel(STATE_QUEUE).0 }
    }
}

impl Embedded {
    /// A control plane that knows no ingress.
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Held for single map operations only, which cannot leave it half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes an ingress, or changes it for its next session; its stream key is in its spec. A session that runs is to be told
    /// ([`Embedded::update`]), or notices it within a minute, and ends.
    pub fn put(&self, ingress: Resolved) {
        self.state().ingresses.insert(ingress.spec.ingress_id.clone(), ingress);
    }

    /// The newest state of an ingress. `None` before its first session.
    pub fn newest(&self, ingress_id: &IngressId) -> Option<Report> {
        self.state().newest.get(ingress_id).cloned()
    }

    /// Every state that is stored from now on.
    pub fn states(&self) -> broadcast::Receiver<(IngressId, Report)> {
        self.reported.subscribe()
    }

    /// The sessions that take commands now.
    pub fn serving(&self) -> Vec<(IngressId, ResourceId)> {
        self.state().sessions.iter().map(|(ingress, resource, _)| (ingress.clone(), resource.clone())).collect()
    }

    /// The sessions that the service lists. `None` where it serves no list.
    pub fn listed(&self) -> Option<Vec<(IngressId, ResourceId)>> {
        let list = self.state().list.clone();
        list.map(|list| list())
    }

    /// Tells the session of an ingress that its settings have changed; gives the state that it answered with. `None` where no
    /// session runs or it did not answer.
    pub async fn update(&self, ingress_id: &IngressId) -> Option<Report> {
        self.command(ingress_id, |reply| SessionCommand::Update { reply }).await
    }

    /// Deletes an ingress and ends its session; gives the state that it answered with. Reports after that are refused.
    pub async fn delete(&self, ingress_id: &IngressId) -> Option<Report> {
        self.state().ingresses.remove(ingress_id);
        self.command(ingress_id, |reply| SessionCommand::Delete { reply }).await
    }

    async fn command(&self, ingress_id: &IngressId, make: impl FnOnce(StateReply) -> SessionCommand) -> Option<Report> {
        let session = self.state().sessions.iter().find(|(id, ..)| id == ingress_id).map(|(.., to)| to.clone())?;
        let (reply, answer) = StateReply::new();
        session.try_send(make(reply)).ok()?;
        answer.await.ok()
    }

    /// Has a URL pulled by the instance that bids most; the ingress is kept once its session begins. `None` where none bids, or that
    /// one is busy; else where its answer arrives.
    pub fn start(&self, ingress: Resolved) -> Option<oneshot::Receiver<Result<Report, Fault>>> {
        let starters = self.state().starts.clone();
        let spec = &ingress.spec;
        let wanted = || Wanted { input: spec.input, ingress: &spec.ingress_id, spec: Some(spec) };
        let bid = |starter: &Starter| (starter.affinity)(wanted());
        let bids = starters.iter().filter_map(|starter| Some((bid(starter)?, starter)));
        let (_, best) = bids.max_by(|(one, _), (other, _)| one.total_cmp(other))?;
        let (this, made) = (self.clone(), ingress.clone());
        let create = Box::new(move || -> BoxFuture<'static, _> {
            if !made.is_handed_over() {
                this.put(made);
            }
            Box::pin(std::future::ready(Ok(())))
        });
        let (request, answer) = StartRequest::new(ingress, create);
        best.requests.try_send(request).ok()?;
        Some(answer)
    }

    fn take_report(&self, ingress_id: &IngressId, report: &Report) -> Result<(), ReportError> {
        let mut state = self.state();
        if !state.ingresses.contains_key(ingress_id) {
            return Err(ReportError::Deleted);
        }
        if let Some(newest) = state.newest.get(ingress_id) {
            if report.started_at < newest.started_at {
                return Err(ReportError::Older);
            }
            if report.started_at == newest.started_at && report.updated_at < newest.updated_at {
                return Ok(());
            }
        }
        state.newest.insert(ingress_id.clone(), report.clone());
        // Sent under the lock, so that subscribers see states in the order in which they are stored; an error means that there
        // are none.
        let _ = self.reported.send((ingress_id.clone(), report.clone()));
        Ok(())
    }
}

/// How long another instance may take to answer whether it goes on with a pull.
const HAND_OVER_WAIT: Duration = Duration::from_secs(3);

/// For how long an instance's sessions are claimed by who puts them right.
const CLAIMED_FOR: Duration = Duration::from_secs(5);

impl Instances for Embedded {
    fn write<'a>(&'a self, instance: &'a str, record: &'a Record) -> BoxFuture<'a, Result<bool, Fault>> {
        Box::pin(async move { Ok(self.state().instances.insert(instance.to_owned(), record.clone()).is_none()) })
    }

    fn read(&self) -> BoxFuture<'_, Result<Vec<StoredRecord>, Fault>> {
        Box::pin(async move {
            let stored = |(instance, record): (&String, &Record)| StoredRecord {
                instance: instance.clone(),
                bytes: record.beat.to_be_bytes().to_vec().into(),
                record: Some(record.clone()),
            };
            Ok(self.state().instances.iter().map(stored).collect())
        })
    }

    fn remove<'a>(&'a self, instance: &'a str) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            self.state().instances.remove(instance);
            Ok(())
        })
    }

    fn claim<'a>(&'a self, instance: &'a str) -> BoxFuture<'a, Result<bool, Fault>> {
        Box::pin(async move {
            let (mut state, now) = (self.state(), Instant::now());
            state.claimed.retain(|_, until| *until > now);
            let free = !state.claimed.contains_key(instance);
            if free {
                state.claimed.insert(instance.to_owned(), now + CLAIMED_FOR);
            }
            Ok(free)
        })
    }
}

/// Takes a session off the control plane when it is dropped.
struct ServingSession(Embedded, ResourceId);

impl Drop for ServingSession {
    fn drop(&mut self) {
        self.0.state().sessions.retain(|(_, resource, _)| *resource != self.1);
    }
}

/// Takes an instance out of those that take requests to pull when it is dropped.
struct Starting(Embedded, mpsc::Sender<StartRequest>);

impl Drop for Starting {
    fn drop(&mut self) {
        self.0.state().starts.retain(|starter| !starter.requests.same_channel(&self.1));
    }
}

/// Takes a WHIP session off the control plane when it is dropped.
struct ServingWhip(Embedded, ResourceId);

impl Drop for ServingWhip {
    fn drop(&mut self) {
        self.0.state().whip.remove(&self.1);
    }
}

impl ControlPlane for Embedded {
    fn lookup<'a>(&'a self, key: &'a Secret) -> BoxFuture<'a, Result<Resolved, Fault>> {
        Box::pin(async move {
            let state = self.state();
            // In a time that does not tell how many letters are right.
            let same = |other: &Secret| other.expose().as_bytes().ct_eq(key.expose().as_bytes()).into();
            let found = state.ingresses.values().find(|ingress| !key.is_empty() && same(&ingress.spec.stream_key));
            let unknown = || Fault::new(Blame::Unknown, "no ingress has this stream key");
            let mut resolved = found.cloned().ok_or_else(unknown)?;
            if let Some(report) = state.newest.get(&resolved.spec.ingress_id) {
                resolved.stored = Some(report.clone());
            }
            Ok(resolved)
        })
    }

    fn report<'a>(&'a self, ingress: &'a IngressId, report: &'a Report) -> BoxFuture<'a, Result<(), ReportError>> {
        Box::pin(async move { self.take_report(ingress, report) })
    }

    fn stored<'a>(&'a self, ingress: &'a IngressId) -> BoxFuture<'a, Result<Option<StoredIngress>, Fault>> {
        Box::pin(async move {
            let state = self.state();
            let newest = state.newest.get(ingress).cloned();
            let spec = state.ingresses.get(ingress).map(|known| known.spec.clone());
            Ok(spec.map(|spec| StoredIngress { spec: Ok(spec), state: newest }))
        })
    }

    fn pass_on<'a>(&'a self, ingress: &'a IngressId, command: Stop) -> BoxFuture<'a, Result<Report, Fault>> {
        Box::pin(async move {
            let make = |reply| match command {
                Stop::Deleted => SessionCommand::Delete { reply },
                _ => SessionCommand::Update { reply },
            };
            let none = || Fault::new(Blame::Control, "no other session takes commands");
            self.command(ingress, make).await.ok_or_else(none)
        })
    }

    fn hand_over<'a>(
        &'a self,
        ingress: &'a IngressId,
        state: &'a Report,
    ) -> BoxFuture<'a, Result<Report, HandOverError>> {
        Box::pin(async move {
            let known = self.state().ingresses.get(ingress).cloned().ok_or(HandOverError::Deleted)?;
            let nobody = || HandOverError::NotTaken(Fault::transient(Blame::Capacity, "no other instance takes it"));
            let answer = self.start(Resolved { stored: Some(state.clone()), ..known }).ok_or_else(nobody)?;
            match timeout(HAND_OVER_WAIT, answer).await {
                Ok(Ok(answer)) => answer.map_err(HandOverError::NotTaken),
                Ok(Err(_)) => Err(nobody()),
                Err(_) => Err(HandOverError::Unclear(Fault::transient(Blame::Control, "no answer came in time"))),
            }
        })
    }

    fn instances(&self) -> Arc<dyn Instances> {
        Arc::new(self.clone())
    }

    fn serve_session<'a>(
        &'a self,
        ingress: &'a IngressId,
        resource: &'a ResourceId,
    ) -> BoxFuture<'a, Result<SessionCommands, Fault>> {
        Box::pin(async move {
            let (commands, queue) = mpsc::channel(COMMAND_QUEUE);
            self.state().sessions.push((ingress.clone(), resource.clone(), commands));
            Ok(SessionCommands::new(queue, ServeGuard::new(ServingSession(self.clone(), resource.clone()))))
        })
    }

    fn serve_whip<'a>(
        &'a self,
        resource: &'a ResourceId,
        handler: WhipHandler,
    ) -> BoxFuture<'a, Result<ServeGuard, Fault>> {
        Box::pin(async move {
            self.state().whip.insert(resource.clone(), handler);
            Ok(ServeGuard::new(ServingWhip(self.clone(), resource.clone())))
        })
    }

    fn ask_whip<'a>(
        &'a self,
        resource: &'a ResourceId,
        key: &'a Secret,
        request: WhipRequest,
    ) -> BoxFuture<'a, Result<WhipAnswer, WhipRefusal>> {
        Box::pin(async move {
            let handler = self.state().whip.get(resource).cloned();
            match handler {
                Some(handler) => handler(key.clone(), request).await,
                None => Err(WhipRefusal::gone()),
            }
        })
    }

    fn start_requests(&self, affinity: Affinity) -> StartRequests {
        let (requests, queue) = mpsc::channel(START_QUEUE);
        self.state().starts.push(Starter { affinity, requests: requests.clone() });
        StartRequests::new(queue, ServeGuard::new(Starting(self.clone(), requests)))
    }

    fn serve_list(&self, list: SessionList) -> ServeGuard {
        self.state().list = Some(list);
        ServeGuard::new(())
    }

    fn reachable(&self) -> Result<(), Fault> {
        Ok(())
    }
}

/// An ingress with the default presets: id `IN_<key>`, into the room `room`. It is transcoded.
pub fn ingress(input: InputKind, key: &str) -> Resolved {
    let spec = IngressSpec {
        ingress_id: IngressId(format!("IN_{key}")),
        name: String::new(),
        stream_key: Secret::new(key),
        url: Secret::default(),
        input,
        room: "room".into(),
        identity: "publisher".into(),
        participant_name: String::new(),
        metadata: String::new(),
        transcode: true,
        enabled: true,
        video: VideoSpec {
            name: String::new(),
            source: TrackSource::Camera,
            encoding: VideoPreset::H264_720p30Layers3.encoding(),
        },
        audio: AudioSpec {
            name: String::new(),
            source: TrackSource::Microphone,
            encoding: AudioPreset::OpusStereo96k.encoding(),
        },
    };
    Resolved {
        spec,
        ws_url: "ws://127.0.0.1:9".into(),
        token: Secret::new("token"),
        renew: RenewToken::same(Secret::new("token")),
        stored: None,
        logging_fields: BTreeMap::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use session::Status;

    fn report(started_at: i64, updated_at: i64, status: Status) -> Report {
        Report {
            resource_id: ResourceId("RT_a".into()),
            status,
            error: String::new(),
            video: None,
            audio: None,
            room_id: String::new(),
            started_at,
            ended_at: 0,
            updated_at,
        }
    }

    #[tokio::test]
    async fn reports_follow_livekit_servers_rules() {
        let control = Embedded::new();
        let mut states = control.states();
        control.put(ingress(InputKind::Rtmp, "k"));
        let id = IngressId("IN_k".into());
        control.report(&id, &report(10, 11, Status::Buffering)).await.unwrap();
        assert_eq!(control.lookup(&Secret::new("k")).await.unwrap().stored.unwrap().status, Status::Buffering);
        control.report(&id, &report(10, 10, Status::Error)).await.unwrap();
        assert_eq!(control.report(&id, &report(9, 20, Status::Error)).await, Err(ReportError::Older));
        control.report(&id, &report(12, 12, Status::Publishing)).await.unwrap();
        assert_eq!(control.newest(&id).unwrap().started_at, 12);
        control.delete(&id).await;
        assert_eq!(control.report(&id, &report(12, 13, Status::Inactive)).await, Err(ReportError::Deleted));
        assert_eq!(states.recv().await.unwrap().1.status, Status::Buffering);
        assert_eq!(states.recv().await.unwrap().1.status, Status::Publishing);
        assert!(states.try_recv().is_err());
    }

    #[tokio::test]
    async fn sessions_get_commands_until_they_leave() {
        let control = Embedded::new();
        control.put(ingress(InputKind::Rtmp, "k"));
        let (id, resource) = (IngressId("IN_k".into()), ResourceId("RT_a".into()));
        let mut commands = control.serve_session(&id, &resource).await.unwrap();
        let session = async {
            match commands.recv().await {
                Some(SessionCommand::Update { reply }) => reply.send(report(1, 2, Status::Publishing)),
                other => panic!("{other:?}"),
            }
            drop(commands);
        };
        let (answer, ()) = tokio::join!(control.update(&id), session);
        assert_eq!(answer.unwrap().status, Status::Publishing);
        assert!(control.serving().is_empty());
        assert_eq!(control.delete(&id).await, None);
    }
}
