//! A control plane within the process, for tests of what is built on it: it knows the ingresses it was given, keeps to
//! livekit-server's rules about reports, and lets a test play the operator.

use super::{
    Affinity, BoxFuture, COMMAND_QUEUE, ControlPlane, ReportError, Resolved, START_QUEUE, Serving, SessionCommand,
    SessionCommands, SessionList, StartRequest, StartRequests, StateReply, WhipAnswer, WhipHandler, WhipRefusal,
    WhipRequest,
};
use model::{Blame, Fault, IngressId, ResourceId, Secret};
use session::{Report, Status};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{mpsc, oneshot, watch};

/// See the module.
#[derive(Clone, Default)]
pub struct Memory {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    /// Counts what was reported, so that a test can wait for it.
    reported: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    ingresses: HashMap<IngressId, Resolved>,
    reports: Vec<(IngressId, Report)>,
    newest: HashMap<IngressId, Report>,
    sessions: Vec<(IngressId, ResourceId, mpsc::Sender<SessionCommand>)>,
    starts: Option<(Affinity, mpsc::Sender<StartRequest>)>,
    created: Vec<IngressId>,
    list: Option<SessionList>,
    whip: HashMap<ResourceId, WhipHandler>,
    away: Option<Fault>,
}

/// What an operator does to an ingress whose session runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// Changes it.
    Updates,
    /// Deletes it; reports after that are refused.
    Deletes,
}

impl Memory {
    /// One that knows no ingress.
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes an ingress known; its stream key is in its spec.
    pub fn add(&self, ingress: Resolved) {
        self.state().ingresses.insert(ingress.spec.ingress_id.clone(), ingress);
    }

    /// From now on every call fails with this, or none does.
    pub fn set_away(&self, fault: Option<Fault>) {
        self.state().away = fault;
    }

    /// All reports taken so far, in order.
    pub fn reports(&self) -> Vec<(IngressId, Report)> {
        self.state().reports.clone()
    }

    /// Waits for a report that is as wanted, looking at those taken before, too. The test bounds it.
    pub async fn reported(&self, wanted: impl Fn(&Report) -> bool) -> Report {
        let mut count = self.inner.reported.subscribe();
        loop {
            if let Some((_, report)) = self.state().reports.iter().find(|(_, report)| wanted(report)) {
                return report.clone();
            }
            // The sender lives in `self`.
            let _ = count.changed().await;
        }
    }

    /// The sessions that take commands now.
    pub fn serving(&self) -> Vec<(IngressId, ResourceId)> {
        self.state().sessions.iter().map(|(ingress, resource, _)| (ingress.clone(), resource.clone())).collect()
    }

    /// What [`ControlPlane::serve_list`] was given answers now. `None` where nothing is served.
    pub fn listed(&self) -> Option<Vec<(IngressId, ResourceId)>> {
        let list = self.state().list.clone();
        list.map(|list| list())
    }

    /// The pulled ingresses that were made known.
    pub fn created(&self) -> Vec<IngressId> {
        self.state().created.clone()
    }

    /// Does something to an ingress; gives the state its session answered with. `None` where no session runs or it did not
    /// answer.
    pub async fn operate(&self, ingress: &IngressId, what: Operator) -> Option<Report> {
        let session = {
            let mut state = self.state();
            if what == Operator::Deletes {
                state.ingresses.remove(ingress);
            }
            state.sessions.iter().find(|(id, ..)| id == ingress).map(|(.., commands)| commands.clone())
        };
        let (reply, answer) = StateReply::new();
        let command = match what {
            Operator::Updates => SessionCommand::Update { reply },
            Operator::Deletes => SessionCommand::Delete { reply },
        };
        session?.try_send(command).ok()?;
        answer.await.ok()
    }

    /// Asks for a URL to be pulled. `None` where this machine does not bid; else the way to the answer.
    pub fn start(
        &self,
        resolved: Resolved,
        info: livekit_protocol::IngressInfo,
    ) -> Option<oneshot::Receiver<Result<Report, super::Refusal>>> {
        let state = self.state();
        let (affinity, requests) = state.starts.as_ref()?;
        affinity(resolved.spec.input, &resolved.spec.ingress_id)?;
        let (request, answer) = StartRequest::new(resolved, info);
        requests.try_send(request).ok()?;
        Some(answer)
    }

    fn here(&self) -> Result<MutexGuard<'_, State>, Fault> {
        let state = self.state();
        match &state.away {
            Some(fault) => Err(fault.clone()),
            None => Ok(state),
        }
    }

    fn take_report(&self, ingress: &IngressId, report: &Report) -> Result<(), ReportError> {
        let mut state = self.here()?;
        if !state.ingresses.contains_key(ingress) {
            return Err(ReportError::Deleted);
        }
        if let Some(newest) = state.newest.get(ingress) {
            if report.started_at < newest.started_at {
                return Err(ReportError::Older);
            }
            if report.started_at == newest.started_at && report.updated_at < newest.updated_at {
                return Ok(());
            }
        }
        state.newest.insert(ingress.clone(), report.clone());
        state.reports.push((ingress.clone(), report.clone()));
        drop(state);
        self.inner.reported.send_modify(|count| *count += 1);
        Ok(())
    }

    fn take_session(&self, ingress: &IngressId, resource: &ResourceId) -> Result<SessionCommands, Fault> {
        let (commands, queue) = mpsc::channel(COMMAND_QUEUE);
        self.here()?.sessions.push((ingress.clone(), resource.clone(), commands));
        let leave = Leave { memory: self.clone(), resource: resource.clone() };
        Ok(SessionCommands::new(queue, Serving::new(leave)))
    }
}

/// Takes a session off when it is dropped.
struct Leave {
    memory: Memory,
    resource: ResourceId,
}

impl Drop for Leave {
    fn drop(&mut self) {
        self.memory.state().sessions.retain(|(_, resource, _)| *resource != self.resource);
    }
}

impl ControlPlane for Memory {
    fn lookup<'a>(&'a self, key: &'a Secret) -> BoxFuture<'a, Result<Resolved, Fault>> {
        Box::pin(async move {
            let state = self.here()?;
            let found = state.ingresses.values().find(|ingress| ingress.spec.stream_key == *key && !key.is_empty());
            let mut resolved =
                found.cloned().ok_or_else(|| Fault::new(Blame::Unknown, "no ingress has this stream key"))?;
            if let Some(report) = state.newest.get(&resolved.spec.ingress_id) {
                resolved.stored = Some(report.status);
            }
            Ok(resolved)
        })
    }

    fn report<'a>(&'a self, ingress: &'a IngressId, report: &'a Report) -> BoxFuture<'a, Result<(), ReportError>> {
        Box::pin(async move { self.take_report(ingress, report) })
    }

    fn serve_session<'a>(
        &'a self,
        ingress: &'a IngressId,
        resource: &'a ResourceId,
    ) -> BoxFuture<'a, Result<SessionCommands, Fault>> {
        Box::pin(async move { self.take_session(ingress, resource) })
    }

    fn serve_whip<'a>(
        &'a self,
        resource: &'a ResourceId,
        handler: WhipHandler,
    ) -> BoxFuture<'a, Result<Serving, Fault>> {
        Box::pin(async move {
            self.here()?.whip.insert(resource.clone(), handler);
            Ok(Serving::new(WhipServing { memory: self.clone(), resource: resource.clone() }))
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
        self.state().starts = Some((affinity, requests));
        StartRequests::new(queue, Serving::new(()))
    }

    fn create_ingress<'a>(&'a self, request: &'a StartRequest) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            let resolved = request.resolved.clone();
            let mut state = self.here()?;
            state.created.push(resolved.spec.ingress_id.clone());
            state.ingresses.insert(resolved.spec.ingress_id.clone(), resolved);
            Ok(())
        })
    }

    fn serve_list(&self, list: SessionList) -> Serving {
        self.state().list = Some(list);
        Serving::new(())
    }

    fn reachable(&self) -> Result<(), Fault> {
        self.here().map(|_| ())
    }
}

/// Takes a WHIP session off the list when it is dropped.
struct WhipServing {
    memory: Memory,
    resource: ResourceId,
}

impl Drop for WhipServing {
    fn drop(&mut self) {
        self.memory.state().whip.remove(&self.resource);
    }
}

/// A WHIP ingress, with the default presets where it transcodes, as tests want it: id `IN_<key>`.
pub fn whip_ingress(key: &str, transcode: bool) -> Resolved {
    let mut ingress = rtmp_ingress(key);
    ingress.spec.input = model::InputKind::Whip;
    ingress.spec.transcode = transcode;
    ingress
}

/// An RTMP ingress that transcodes, with the default presets, as tests want it: id `IN_<key>`.
pub fn rtmp_ingress(key: &str) -> Resolved {
    let info = livekit_protocol::IngressInfo {
        ingress_id: format!("IN_{key}"),
        stream_key: key.to_owned(),
        room_name: "room".into(),
        participant_identity: "publisher".into(),
        ..Default::default()
    };
    let spec = super::convert::spec(&info).unwrap_or_else(|fault| unreachable!("it has all it needs: {fault}"));
    Resolved {
        spec,
        ws_url: "ws://127.0.0.1:9".into(),
        token: Secret::new("token"),
        stored: None::<Status>,
        logging_fields: Default::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let memory = Memory::new();
        memory.add(rtmp_ingress("k"));
        let id = IngressId("IN_k".into());
        memory.report(&id, &report(10, 11, Status::Buffering)).await.unwrap();
        assert_eq!(memory.lookup(&Secret::new("k")).await.unwrap().stored, Some(Status::Buffering));
        memory.report(&id, &report(10, 10, Status::Error)).await.unwrap();
        assert_eq!(memory.report(&id, &report(9, 20, Status::Error)).await, Err(ReportError::Older));
        memory.report(&id, &report(12, 12, Status::Publishing)).await.unwrap();
        let statuses: Vec<_> = memory.reports().into_iter().map(|(_, r)| r.status).collect();
        assert_eq!(statuses, [Status::Buffering, Status::Publishing]);
        assert_eq!(memory.reported(|r| r.status == Status::Publishing).await.started_at, 12);
        memory.operate(&id, Operator::Deletes).await;
        assert_eq!(memory.report(&id, &report(12, 13, Status::Inactive)).await, Err(ReportError::Deleted));
    }

    #[tokio::test]
    async fn sessions_get_commands_until_they_leave() {
        let memory = Memory::new();
        memory.add(rtmp_ingress("k"));
        let (id, resource) = (IngressId("IN_k".into()), ResourceId("RT_a".into()));
        let mut commands = memory.serve_session(&id, &resource).await.unwrap();
        let session = async {
            match commands.recv().await {
                Some(SessionCommand::Update { reply }) => reply.send(report(1, 2, Status::Publishing)),
                other => panic!("{other:?}"),
            }
            drop(commands);
        };
        let (answer, ()) = tokio::join!(memory.operate(&id, Operator::Updates), session);
        assert_eq!(answer.unwrap().status, Status::Publishing);
        assert!(memory.serving().is_empty());
        assert_eq!(memory.operate(&id, Operator::Deletes).await, None);
    }
}
