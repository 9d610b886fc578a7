//! The control plane that livekit-server is: its RPC over Redis.
//!
//! Calls go to `IOInfo` (any livekit-server), served are `IngressInternal` (this machine) and `IngressHandler` (each
//! session, on a topic of its own). Nothing here decides about sessions.

mod convert;
mod hand_over;
mod instances;
mod redis;
mod token;
mod whip;

use crate::boxed::BoxFuture;
use crate::config::Config;
use crate::control::key_lookups::KeyLookups;
use crate::control::{
    Affinity, COMMAND_QUEUE, ControlPlane, CreateIngress, HandOverError, Instances, ReportError, Resolved, START_QUEUE,
    ServeGuard, SessionCommand, SessionCommands, SessionList, StartRequest, StartRequests, StateReply, StoredIngress,
    Wanted, WhipAnswer, WhipHandler, WhipRefusal, WhipRequest, store_refusal,
};
use instances::RedisInstances;
use livekit_protocol as lk;
use model::{Blame, Fault, IngressId, InputKind, ResourceId, Secret};
use proto::{
    CreateIngressResponse, Empty, GetIngressInfoRequest, GetIngressInfoResponse, IngressSession,
    ListActiveIngressRequest, ListActiveIngressResponse, StartIngressRequest, UpdateIngressStateRequest,
};
use psrpc::redis::RedisBus;
use psrpc::{Bus, BusState, Client, Code, Failure, Method, Options, Registration, Server, first_come};
use publish::RenewToken;
use session::Report;
use session::lifecycle::Stop;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;

const GET_INGRESS_INFO: Method = Method::any_one("GetIngressInfo");
const UPDATE_INGRESS_STATE: Method = Method::any_one("UpdateIngressState");
const CREATE_INGRESS: Method = Method::any_one("CreateIngress");
const START_INGRESS: Method = Method::best("StartIngress");
const LIST_ACTIVE_INGRESS: Method = Method::every("ListActiveIngress");
const UPDATE_INGRESS: Method = Method::any_one("UpdateIngress");
const DELETE_INGRESS: Method = Method::any_one("DeleteIngress");

/// How long Redis may take to confirm a session's subscriptions. It does so within a millisecond unless it is away, and
/// the publisher is waiting.
const SUBSCRIBE_WAIT: Duration = Duration::from_secs(1);

/// Waits before an ingress is stored again. Where several are stored at once, livekit-server 1.13.5 gives up on some after a
/// few attempts and reports success (seen with ten).
const CREATE_RETRIES: [Duration; 5] = [
    Duration::from_millis(20),
    Duration::from_millis(50),
    Duration::from_millis(90),
    Duration::from_millis(170),
    Duration::from_millis(310),
];

/// What tokens are made from, and where they are used.
#[derive(Clone, Debug)]
pub struct Access {
    /// The API key.
    pub api_key: String,
    /// The secret that signs.
    pub api_secret: Secret,
    /// The SFU, where livekit-server names none: `ws://` or `wss://`.
    pub ws_url: String,
}

/// See the module.
pub struct LiveKit {
    bus: Arc<dyn Bus>,
    io: Arc<IoInfo>,
    sessions: Client,
    /// Calls to the other instances.
    others: Client,
    internal: Server,
    access: Arc<Access>,
    lookups: KeyLookups,
}

impl LiveKit {
    /// Starts connecting to the configured Redis, and goes on for ever. Must be called within a tokio runtime. Fails only
    /// where the configuration can never work (a certificate file that can't be used).
    pub fn start(config: &Config) -> Result<Self, Fault> {
        let bus = RedisBus::new(config.redis.to_psrpc())
            .map_err(|error| Fault::new(Blame::Us, format!("redis.tls: {error}")))?;
        let (api_key, api_secret) = (config.api_key.clone(), config.api_secret.clone());
        Ok(Self::over(bus, Access { api_key, api_secret, ws_url: config.ws_url.to_string() }))
    }

    /// Talks to livekit-server over this bus.
    pub fn over(bus: Arc<dyn Bus>, access: Access) -> Self {
        let io = Arc::new(IoInfo { client: Client::new(bus.clone(), "IOInfo"), bus: bus.name().to_owned() });
        let sessions = Client::new(bus.clone(), "IngressHandler");
        let others = Client::new(bus.clone(), "IngressInternal");
        let internal = Server::new(bus.clone(), "IngressInternal");
        Self { bus, io, sessions, others, internal, access: Arc::new(access), lookups: KeyLookups::default() }
    }

    async fn find(&self, key: &Secret) -> Result<Resolved, Fault> {
        if key.is_empty() {
            let text = "no stream key was given: set the encoder's stream key to that of the ingress";
            return Err(Fault::new(Blame::Access, text));
        }
        let request = GetIngressInfoRequest { stream_key: key.expose().to_owned(), ..Default::default() };
        let found: GetIngressInfoResponse = self
            .io
            .call(&GET_INGRESS_INFO, &request)
            .await
            .map_err(|error| convert::lookup_fault(&error, self.bus.name()))?;
        let Some(info) = found.info else {
            return Err(Fault::new(Blame::Control, "livekit-server answered without an ingress"));
        };
        let extra = Extra { token: found.token, ws_url: found.ws_url, logging_fields: found.logging_fields };
        match resolve(&self.access, &info, extra) {
            Ok(resolved) => Ok(resolved),
            Err(fault) => {
                let (ingress, stored) = (IngressId(info.ingress_id.clone()), convert::stored_state(&info));
                store_refusal(self, &ingress, stored.as_ref(), ResourceId(String::new()), &fault).await;
                Err(fault)
            }
        }
    }

    async fn find_stored(&self, ingress: &IngressId) -> Result<Option<StoredIngress>, Fault> {
        let request = GetIngressInfoRequest { ingress_id: ingress.0.clone(), ..Default::default() };
        match self.io.call::<_, GetIngressInfoResponse>(&GET_INGRESS_INFO, &request).await {
            Ok(found) => Ok(found.info.map(|info| {
                let (spec, state) = (convert::spec(&info), convert::stored_state(&info));
                StoredIngress { spec, state }
            })),
            Err(error) if error.code() == Code::NotFound => Ok(None),
            Err(error) => Err(convert::fault(&error, self.bus.name())),
        }
    }

    async fn hand_on(&self, ingress: &IngressId, command: Stop) -> Result<Report, Fault> {
        let state: Result<lk::IngressState, _> = if command == Stop::Deleted {
            let request = lk::DeleteIngressRequest { ingress_id: ingress.0.clone() };
            self.sessions.call(&DELETE_INGRESS, &ingress.0, &request, &Options::default()).await
        } else {
            // What has changed is in the store; sessions do not look at the request.
            let request = lk::UpdateIngressRequest { ingress_id: ingress.0.clone(), ..Default::default() };
            self.sessions.call(&UPDATE_INGRESS, &ingress.0, &request, &Options::default()).await
        };
        let state = state.map_err(|error| convert::fault(&error, self.bus.name()))?;
        convert::report(&state)
            .ok_or_else(|| Fault::new(Blame::Control, "another instance answered with an unknown state"))
    }

    /// Waits until a session's topics are subscribed to.
    async fn confirmed(&self, registrations: &[Registration]) -> Result<(), Fault> {
        let confirmed = async {
            for registration in registrations {
                registration.confirmed().await;
            }
        };
        if timeout(SUBSCRIBE_WAIT, confirmed).await.is_err() {
            self.reachable()?;
            let text = format!("{} did not confirm the session's subscriptions", self.bus.name());
            return Err(Fault::transient(Blame::Control, text));
        }
        Ok(())
    }
}

/// Calls to any livekit-server.
struct IoInfo {
    client: Client,
    /// The name of the bus, for faults.
    bus: String,
}

impl IoInfo {
    async fn call<Q: prost::Message, R: prost::Message + Default>(
        &self,
        method: &Method,
        request: &Q,
    ) -> Result<R, psrpc::Error> {
        // 3 s, of which 1 s to find a server: the Go ingress's figures. One attempt; the caller may retry.
        self.client.call(method, "", request, &Options::default()).await
    }

    /// Stores a pulled ingress.
    async fn create(&self, info: &lk::IngressInfo) -> Result<(), Fault> {
        for wait in CREATE_RETRIES {
            match self.call::<_, CreateIngressResponse>(&CREATE_INGRESS, info).await {
                Ok(_) if self.knows(&info.ingress_id).await => return Ok(()),
                Ok(_) => {}
                // A livekit-server without a store for ingresses does not serve it; the Go ingress goes on, too.
                Err(error) if error.code() == Code::Unavailable => return Ok(()),
                Err(error) => return Err(convert::fault(&error, &self.bus)),
            }
            tokio::time::sleep(wait).await;
        }
        Err(Fault::transient(Blame::Control, "livekit-server took the ingress several times and does not know it"))
    }

    /// Whether livekit-server has stored this ingress; also if it can't be asked.
    async fn knows(&self, ingress_id: &str) -> bool {
        let request = GetIngressInfoRequest { ingress_id: ingress_id.to_owned(), ..Default::default() };
        let found = self.call::<_, GetIngressInfoResponse>(&GET_INGRESS_INFO, &request).await;
        found.err().is_none_or(|error| error.code() != Code::NotFound)
    }
}

/// What livekit-server may say beside the ingress itself.
struct Extra {
    token: String,
    ws_url: String,
    logging_fields: HashMap<String, String>,
}

/// Checks an ingress and adds what it takes to join its room. What livekit-server provides is preferred.
fn resolve(access: &Access, info: &lk::IngressInfo, extra: Extra) -> Result<Resolved, Fault> {
    let spec = convert::spec(info)?;
    let (token, renew) = if extra.token.is_empty() {
        let token = token::mint(&access.api_key, &access.api_secret, &spec)?;
        let (access, spec) = (access.clone(), spec.clone());
        (token, RenewToken::new(move || token::mint(&access.api_key, &access.api_secret, &spec).ok()))
    } else {
        let token = Secret::new(extra.token);
        (token.clone(), RenewToken::same(token))
    };
    let ws_url = if extra.ws_url.is_empty() { access.ws_url.clone() } else { extra.ws_url };
    Ok(Resolved {
        spec,
        ws_url,
        token,
        renew,
        stored: convert::stored_state(info),
        logging_fields: extra.logging_fields.into_iter().collect(),
    })
}

impl ControlPlane for LiveKit {
    fn lookup<'a>(&'a self, key: &'a Secret) -> BoxFuture<'a, Result<Resolved, Fault>> {
        Box::pin(self.lookups.find(key, self.find(key)))
    }

    fn report<'a>(&'a self, ingress: &'a IngressId, report: &'a Report) -> BoxFuture<'a, Result<(), ReportError>> {
        Box::pin(async move {
            let request =
                UpdateIngressStateRequest { ingress_id: ingress.0.clone(), state: Some(convert::state(report)) };
            match self.io.call::<_, Empty>(&UPDATE_INGRESS_STATE, &request).await {
                Ok(Empty {}) => Ok(()),
                Err(error) => Err(convert::report_error(&error, self.bus.name())),
            }
        })
    }

    fn stored<'a>(&'a self, ingress: &'a IngressId) -> BoxFuture<'a, Result<Option<StoredIngress>, Fault>> {
        Box::pin(self.find_stored(ingress))
    }

    fn pass_on<'a>(&'a self, ingress: &'a IngressId, command: Stop) -> BoxFuture<'a, Result<Report, Fault>> {
        Box::pin(self.hand_on(ingress, command))
    }

    fn hand_over<'a>(
        &'a self,
        ingress: &'a IngressId,
        state: &'a Report,
    ) -> BoxFuture<'a, Result<Report, HandOverError>> {
        Box::pin(self.ask_others(ingress, state))
    }

    fn instances(&self) -> Arc<dyn Instances> {
        Arc::new(RedisInstances(self.bus.clone()))
    }

    fn serve_session<'a>(
        &'a self,
        ingress: &'a IngressId,
        _resource: &'a ResourceId,
    ) -> BoxFuture<'a, Result<SessionCommands, Fault>> {
        Box::pin(async move {
            // A server of its own: two sessions of one ingress must not meet on one.
            let server = Server::new(self.bus.clone(), "IngressHandler");
            let (commands, queue) = mpsc::channel(COMMAND_QUEUE);
            let (update, delete) = (commands.clone(), commands);
            let registrations = [
                server.register(UPDATE_INGRESS, &ingress.0, first_come, move |_: lk::UpdateIngressRequest| {
                    command(update.clone(), |reply| SessionCommand::Update { reply })
                }),
                server.register(DELETE_INGRESS, &ingress.0, first_come, move |_: lk::DeleteIngressRequest| {
                    command(delete.clone(), |reply| SessionCommand::Delete { reply })
                }),
            ];
            self.confirmed(&registrations).await?;
            Ok(SessionCommands::new(queue, ServeGuard::new(registrations)))
        })
    }

    fn serve_whip<'a>(
        &'a self,
        resource: &'a ResourceId,
        handler: WhipHandler,
    ) -> BoxFuture<'a, Result<ServeGuard, Fault>> {
        Box::pin(async move {
            let server = Server::new(self.bus.clone(), "IngressHandler");
            let registrations = whip::register(&server, resource, handler);
            self.confirmed(&registrations).await?;
            Ok(ServeGuard::new(registrations))
        })
    }

    fn ask_whip<'a>(
        &'a self,
        resource: &'a ResourceId,
        key: &'a Secret,
        request: WhipRequest,
    ) -> BoxFuture<'a, Result<WhipAnswer, WhipRefusal>> {
        Box::pin(whip::call(&self.sessions, resource, key, request))
    }

    fn start_requests(&self, affinity: Affinity) -> StartRequests {
        let (requests, queue) = mpsc::channel(START_QUEUE);
        let (access, io) = (self.access.clone(), self.io.clone());
        let registration: Registration = self.internal.register(
            START_INGRESS,
            "",
            move |request: &StartIngressRequest| {
                let info = request.info.as_ref()?;
                let (ingress, spec) = (IngressId(info.ingress_id.clone()), convert::spec(info).ok());
                let bid = affinity(Wanted { input: input_of(info)?, ingress: &ingress, spec: spec.as_ref() })?;
                Some(if hand_over::is_one(request) { bid + hand_over::BID } else { bid })
            },
            move |request: StartIngressRequest| start(request, access.clone(), io.clone(), requests.clone()),
        );
        StartRequests::new(queue, ServeGuard::new(registration))
    }

    fn serve_list(&self, list: SessionList) -> ServeGuard {
        ServeGuard::new(self.internal.register(
            LIST_ACTIVE_INGRESS,
            "",
            first_come,
            move |ListActiveIngressRequest {}| {
                let sessions = list();
                async move { Ok(listed(sessions)) }
            },
        ))
    }

    fn reachable(&self) -> Result<(), Fault> {
        match &*self.bus.state().borrow() {
            BusState::Up => Ok(()),
            BusState::Down { since, reason } => {
                let (name, since) = (self.bus.name(), since.elapsed().as_secs());
                let text = format!("{name} is not reachable (since {since} s): {reason}");
                Err(Fault::transient(Blame::Control, text))
            }
        }
    }
}

fn listed(sessions: Vec<(IngressId, ResourceId)>) -> ListActiveIngressResponse {
    ListActiveIngressResponse {
        ingress_ids: sessions.iter().map(|(ingress, _)| ingress.0.clone()).collect(),
        ingress_sessions: sessions
            .into_iter()
            .map(|(ingress, resource)| IngressSession { ingress_id: ingress.0, resource_id: resource.0 })
            .collect(),
    }
}

/// Puts a command to the session and waits for its state; the caller's deadline bounds it.
async fn command(
    commands: mpsc::Sender<SessionCommand>,
    make: impl FnOnce(StateReply) -> SessionCommand,
) -> Result<lk::IngressState, Failure> {
    let (reply, state) = StateReply::new();
    commands.try_send(make(reply)).map_err(|error| match error {
        mpsc::error::TrySendError::Full(_) => Failure::new(Code::ResourceExhausted, "the session is busy"),
        mpsc::error::TrySendError::Closed(_) => gone(),
    })?;
    state.await.map(|report| convert::state(&report)).map_err(|_| gone())
}

fn gone() -> Failure {
    Failure::new(Code::NotFound, "the session has ended")
}

fn input_of(info: &lk::IngressInfo) -> Option<InputKind> {
    match lk::IngressInput::try_from(info.input_type).ok()? {
        lk::IngressInput::RtmpInput => Some(InputKind::Rtmp),
        lk::IngressInput::WhipInput => Some(InputKind::Whip),
        lk::IngressInput::UrlInput => Some(InputKind::Url),
    }
}

/// Puts a request that was won to the service and waits for its answer; the caller's deadline bounds it.
async fn start(
    request: StartIngressRequest,
    access: Arc<Access>,
    io: Arc<IoInfo>,
    requests: mpsc::Sender<StartRequest>,
) -> Result<lk::IngressInfo, Failure> {
    let (resolved, info) = checked(request, &access)?;
    // livekit-server knows it, and does not take it as new beside a state that is stored.
    let create = if resolved.is_handed_over() { known() } else { create(io, info.clone()) };
    let (request, answer) = StartRequest::new(resolved, create);
    requests.try_send(request).map_err(|_| Failure::new(Code::ResourceExhausted, "server capacity exceeded"))?;
    match answer.await {
        Ok(Ok(report)) => Ok(convert::started(info, convert::state(&report))),
        Ok(Err(fault)) => Err(convert::refusal(fault)),
        Err(_) => Err(Failure::new(Code::Internal, "the request was lost")),
    }
}

fn create(io: Arc<IoInfo>, info: lk::IngressInfo) -> CreateIngress {
    Box::new(move || Box::pin(async move { io.create(&info).await }))
}

fn known() -> CreateIngress {
    Box::new(|| Box::pin(std::future::ready(Ok(()))))
}

fn checked(request: StartIngressRequest, access: &Access) -> Result<(Resolved, lk::IngressInfo), Failure> {
    // We know no feature flags.
    let StartIngressRequest { info, token, ws_url, logging_fields, feature_flags: _ } = request;
    let info = info.ok_or_else(|| Failure::new(Code::InvalidArgument, "invalid ingress: missing IngressInfo"))?;
    let extra = Extra { token, ws_url, logging_fields };
    let resolved = resolve(access, &info, extra).map_err(convert::refusal)?;
    if resolved.spec.input != InputKind::Url {
        return Err(Failure::new(Code::InvalidArgument, "invalid ingress type: only a URL can be pulled"));
    }
    Ok((resolved, info))
}

#[cfg(test)]
mod tests;
