//! The control plane as the service sees it: it finds ingresses, takes the states of sessions, and commands them.

use super::instances::Instances;
use super::whip::{WhipAnswer, WhipHandler, WhipRefusal, WhipRequest};
use crate::boxed::BoxFuture;
use model::{Fault, IngressId, IngressSpec, InputKind, ResourceId, Secret};
use publish::RenewToken;
use session::lifecycle::Stop;
use session::{Report, Status};
use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc, oneshot};

/// What a session needs to know to start.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    /// The ingress, valid and enabled.
    pub spec: IngressSpec,
    /// Where the SFU is: `ws://` or `wss://`.
    pub ws_url: String,
    /// Admits the participant to the room; good for 24 hours when minted here.
    pub token: Secret,
    /// Gives such a token at any time: a new one where it is minted here.
    pub renew: RenewToken,
    /// What is stored of the ingress's last session. Where it is not final, a session may be running on another machine,
    /// and a refused publish must not overwrite it. The next session has to begin later than it.
    pub stored: Option<Report>,
    /// Fields to add to the session's log lines.
    pub logging_fields: BTreeMap<String, String>,
}

impl Resolved {
    /// Whether another instance runs its session, and hands that over.
    pub fn is_handed_over(&self) -> bool {
        self.stored.as_ref().is_some_and(|stored| !stored.status.is_final())
    }
}

/// What is stored of an ingress.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredIngress {
    /// What the next session would begin with, or why none can.
    pub spec: Result<IngressSpec, Fault>,
    /// The newest state. `None` before the first session.
    pub state: Option<Report>,
}

/// Why a report was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    /// The ingress is gone: nothing more is to be reported about this session.
    #[error("the ingress was deleted")]
    Deleted,
    /// A younger session of the same ingress has reported: this one's reports no longer count, now or later.
    #[error("a younger session of this ingress has reported")]
    Older,
    /// Not delivered; the fault has whether a retry can help.
    #[error(transparent)]
    Unreachable(#[from] Fault),
}

/// Why nobody is known to have taken a pull over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandOverError {
    /// The ingress is gone.
    #[error("the ingress was deleted")]
    Deleted,
    /// Nobody has: it goes on where it is.
    #[error(transparent)]
    NotTaken(Fault),
    /// One was asked to and did not answer: it may have.
    #[error("it may have been taken over: {0}")]
    Unclear(Fault),
}

/// The control plane.
///
/// Each call ends within its deadline (3 s for a call over the wire), tries once, and may be dropped at any time.
pub trait ControlPlane: Send + Sync + 'static {
    /// Finds the ingress with this stream key, checks it, and gets what it takes to join its room. The caller checks that
    /// the key is for its kind of input ([`IngressSpec::expect_input`]).
    fn lookup<'a>(&'a self, key: &'a Secret) -> BoxFuture<'a, Result<Resolved, Fault>>;

    /// Stores the state of a session. Reports of one session must be made one after the other.
    fn report<'a>(&'a self, ingress: &'a IngressId, report: &'a Report) -> BoxFuture<'a, Result<(), ReportError>>;

    /// Finds what is stored of an ingress; `None` if it does not exist (any more). Stores nothing.
    fn stored<'a>(&'a self, ingress: &'a IngressId) -> BoxFuture<'a, Result<Option<StoredIngress>, Fault>>;

    /// Hands a command on to the session of this ingress on another machine, and gives the state that it answers with. Of this
    /// machine no session may take commands for the ingress.
    fn pass_on<'a>(&'a self, ingress: &'a IngressId, command: Stop) -> BoxFuture<'a, Result<Report, Fault>>;

    /// Asks the other instances to go on with a pull that runs here and whose newest state is `state`, as the control plane would have
    /// it pulled. Gives the first state of the session that has begun on one of them. This machine must not take such requests. Ends
    /// within 6 s.
    fn hand_over<'a>(
        &'a self,
        ingress: &'a IngressId,
        state: &'a Report,
    ) -> BoxFuture<'a, Result<Report, HandOverError>>;

    /// The records that instances keep of themselves.
    fn instances(&self) -> Arc<dyn Instances>;

    /// Starts taking commands for a session; once it returns, none is missed. Dropping the commands ends it.
    fn serve_session<'a>(
        &'a self,
        ingress: &'a IngressId,
        resource: &'a ResourceId,
    ) -> BoxFuture<'a, Result<SessionCommands, Fault>>;

    /// Answers requests for a WHIP session that arrive at other machines, until the guard is dropped; once it returns, none is
    /// missed.
    fn serve_whip<'a>(
        &'a self,
        resource: &'a ResourceId,
        handler: WhipHandler,
    ) -> BoxFuture<'a, Result<ServeGuard, Fault>>;

    /// Asks the machine where a WHIP session runs. Ends within 5 s.
    fn ask_whip<'a>(
        &'a self,
        resource: &'a ResourceId,
        key: &'a Secret,
        request: WhipRequest,
    ) -> BoxFuture<'a, Result<WhipAnswer, WhipRefusal>>;

    /// Starts taking requests to pull from a URL as soon as the control plane is reachable. `affinity` is asked for each
    /// request before it is taken.
    fn start_requests(&self, affinity: Affinity) -> StartRequests;

    /// Answers those who ask which sessions run here, as soon as the control plane is reachable, until the guard is dropped.
    fn serve_list(&self, list: SessionList) -> ServeGuard;

    /// Whether the control plane can be reached right now; the fault's text has since when it can't.
    fn reachable(&self) -> Result<(), Fault>;
}

/// When a session begins that is admitted at `now`: later than the one that is `stored`, whatever the clocks of the machines say that
/// they ran on, as the control plane refuses what looks older.
pub fn started_after(stored: Option<&Report>, now: SystemTime) -> SystemTime {
    let stored = stored.map_or(0, |stored| stored.started_at);
    let next = u64::try_from(stored.saturating_add(1)).unwrap_or(0);
    now.max(UNIX_EPOCH + Duration::from_nanos(next))
}

/// Stores with an ingress why it refused a publisher. `stored` is its present state: that of a running session, here or on
/// another machine, is not overwritten. `resource` is empty where the refusal came before an id was made.
pub(crate) async fn store_refusal(
    control: &dyn ControlPlane,
    ingress: &IngressId,
    stored: Option<&Report>,
    resource: ResourceId,
    fault: &Fault,
) {
    if stored.is_some_and(|stored| !stored.status.is_final()) {
        return;
    }
    let report = Report::first(resource, Status::Error, fault.text.clone(), started_after(stored, SystemTime::now()));
    if let Err(error) = control.report(ingress, &report).await {
        tracing::warn!(ingressID = %ingress, %error, "a refusal could not be stored");
    }
}

/// How much this machine wants the session of an ingress: `None` is no bid, else the greatest positive number wins (the Go
/// ingress bids 1). A request that is made again must find the machine that has taken it already.
pub type Affinity = Arc<dyn Fn(Wanted<'_>) -> Option<f32> + Send + Sync>;

/// The session that machines bid for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// How its media comes in.
    pub input: InputKind,
    /// Its ingress.
    pub ingress: &'a IngressId,
    /// The ingress as it is configured; `None` if it is not valid, which whoever takes it says in words.
    pub spec: Option<&'a IngressSpec>,
}

/// The sessions that run now.
pub type SessionList = Arc<dyn Fn() -> Vec<(IngressId, ResourceId)> + Send + Sync>;

/// Keeps something served; dropping it ends that.
pub struct ServeGuard {
    _guard: Box<dyn Any + Send + Sync>,
}

impl ServeGuard {
    /// Serves for as long as `guard` lives.
    pub fn new(guard: impl Any + Send + Sync) -> Self {
        Self { _guard: Box::new(guard) }
    }
}

impl fmt::Debug for ServeGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServeGuard")
    }
}

/// Commands that may wait for a session. Each is answered within 3 s or its caller gives up, so more than a few never wait.
pub const COMMAND_QUEUE: usize = 8;

/// Commands to a running session. Dropping it takes the session off the control plane.
#[derive(Debug)]
pub struct SessionCommands {
    commands: mpsc::Receiver<SessionCommand>,
    _serving: ServeGuard,
}

impl SessionCommands {
    /// Commands from this queue, served as long as `serving` lives.
    pub fn new(commands: mpsc::Receiver<SessionCommand>, serving: ServeGuard) -> Self {
        Self { commands, _serving: serving }
    }

    /// The next command. `None` only if the control plane itself was dropped. Cancel safe.
    pub async fn recv(&mut self) -> Option<SessionCommand> {
        self.commands.recv().await
    }
}

/// A command to a running session.
#[derive(Debug)]
#[non_exhaustive]
pub enum SessionCommand {
    /// The ingress was changed: the session ends, so that the next one starts with the new settings.
    Update {
        /// Tells the caller the state the session is in.
        reply: StateReply,
    },
    /// The ingress is being deleted: the session ends, and reports nothing after this was answered.
    Delete {
        /// Tells the caller the state the session is in.
        reply: StateReply,
    },
}

/// Answers a [`SessionCommand`]. If it is dropped, the caller is answered that the session is gone.
#[derive(Debug)]
pub struct StateReply(oneshot::Sender<Report>);

impl StateReply {
    /// A reply and where it arrives.
    pub fn new() -> (Self, oneshot::Receiver<Report>) {
        let (tx, rx) = oneshot::channel();
        (Self(tx), rx)
    }

    /// Answers with the session's state.
    pub fn send(self, state: Report) {
        // A caller that gave up is no concern of the session.
        let _ = self.0.send(state);
    }
}

/// Requests that may wait to be looked at. Callers give up after 3 s, and a job takes far longer than looking at it.
pub const START_QUEUE: usize = 16;

/// Requests to pull from a URL. Dropping it takes the machine out of the selection.
#[derive(Debug)]
pub struct StartRequests {
    requests: mpsc::Receiver<StartRequest>,
    _serving: ServeGuard,
}

impl StartRequests {
    /// Requests from this queue, served as long as `serving` lives.
    pub fn new(requests: mpsc::Receiver<StartRequest>, serving: ServeGuard) -> Self {
        Self { requests, _serving: serving }
    }

    /// The next request. `None` only if the control plane itself was dropped. Cancel safe.
    pub async fn recv(&mut self) -> Option<StartRequest> {
        self.requests.recv().await
    }
}

/// Makes a pulled ingress known to its control plane.
pub type CreateIngress = Box<dyn FnOnce() -> BoxFuture<'static, Result<(), Fault>> + Send>;

/// A valid request to pull from a URL, won by this machine. If it is dropped, the caller is answered that it failed.
pub struct StartRequest {
    /// What to start.
    pub resolved: Resolved,
    create: Option<CreateIngress>,
    reply: oneshot::Sender<Result<Report, Fault>>,
}

impl fmt::Debug for StartRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StartRequest").field("resolved", &self.resolved).finish_non_exhaustive()
    }
}

impl StartRequest {
    /// A request and where its answer arrives. `create` is called before the session's first report.
    pub fn new(resolved: Resolved, create: CreateIngress) -> (Self, oneshot::Receiver<Result<Report, Fault>>) {
        let (tx, rx) = oneshot::channel();
        (Self { resolved, create: Some(create), reply: tx }, rx)
    }

    /// Makes the ingress known to the control plane; once, before the session's first report.
    ///
    /// # Errors
    /// The control plane refuses it, or can't be reached.
    pub async fn create_ingress(&mut self) -> Result<(), Fault> {
        match self.create.take() {
            Some(create) => create().await,
            None => Ok(()),
        }
    }

    /// Answers that the session has begun. To be called well within 3 s, or the caller starts it again somewhere else.
    pub fn accept(self, state: Report) {
        // A caller that gave up is no concern of ours: the session is in its store already.
        let _ = self.reply.send(Ok(state));
    }

    /// Answers that it can't begin.
    pub fn reject(self, fault: Fault) {
        let _ = self.reply.send(Err(fault));
    }
}
