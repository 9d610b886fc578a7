//! The serving side: listen for requests, bid, do those that were won, answer.

use crate::envelope::{ClaimRequest, Envelope, Request, Response, lock_key, unix_nanos};
use crate::router::SubscriptionGuard;
use crate::{Bus, Code, Failure, Method, Subscription, channel, id};
use bytes::Bytes;
use model::LogBudget;
use prost::Message;
use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};

/// Requests of one registration that may be under way at once, from bid to answer; further ones are ignored, and their
/// clients see no bid from here. Far more than any ingress gets in the seconds a request lives.
const MAX_CONCURRENT: usize = 64;

/// The longest a request is kept, whatever its sender says: no client of livekit-server waits longer than 7 s.
const MAX_REQUEST_AGE: Duration = Duration::from_secs(30);

/// A bid of 1, as methods without affinity make it.
pub fn first_come<Q>(_: &Q) -> Option<f32> {
    Some(1.0)
}

/// Serves methods of one service.
pub struct Server {
    shared: Arc<Shared>,
}

struct Shared {
    bus: Arc<dyn Bus>,
    service: String,
    id: String,
    /// The bound on lines about requests that are not as they should be: anybody on the bus can send any number of them.
    log: LogBudget,
}

/// A method being served. Dropping it stops taking requests; those under way are still answered.
pub struct Registration {
    reader: AbortHandle,
    confirmed: Vec<watch::Receiver<bool>>,
    /// End the subscriptions with the registration, not when the aborted reader comes to it: nobody is to bid for a client that
    /// would then wait in vain.
    _guards: Vec<SubscriptionGuard>,
}

impl Registration {
    /// Resolves when the bus has confirmed that requests will arrive. Waits as long as the bus is away.
    pub async fn confirmed(&self) {
        for confirmed in &self.confirmed {
            // An error means that the reader is gone, and so is what was waited for.
            let _ = confirmed.clone().wait_for(|yes| *yes).await;
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Server {
    /// A server of `service` (the bare name: "IngressHandler").
    pub fn new(bus: Arc<dyn Bus>, service: impl Into<String>) -> Self {
        let (service, id, log) = (service.into(), id::new("SRV_"), LogBudget::default());
        Self { shared: Arc::new(Shared { bus, service, id, log }) }
    }

    /// Serves `method` on `topic` (empty: none) from the moment [`Registration::confirmed`] resolves. A method and topic must
    /// be registered once on one server; a second server may have the same.
    ///
    /// `affinity` bids for a request; `None` or a negative number keeps silent. It must not block. `handler` does a request
    /// that was won; it is dropped when the client has given up.
    pub fn register<Q, R, F>(
        &self,
        method: Method,
        topic: &str,
        affinity: impl Fn(&Q) -> Option<f32> + Send + Sync + 'static,
        handler: impl Fn(Q) -> F + Send + Sync + 'static,
    ) -> Registration
    where
        Q: Message + Default + 'static,
        R: Message + 'static,
        F: Future<Output = Result<R, Failure>> + Send + 'static,
    {
        let Shared { bus, service, .. } = &*self.shared;
        let requests = bus.subscribe(&channel::request(service, method.name, topic));
        let choices = method.claim.then(|| bus.subscribe(&channel::claim_response(service, method.name, topic)));
        let subscriptions = || [Some(&requests), choices.as_ref()].into_iter().flatten();
        let confirmed = subscriptions().map(Subscription::confirmed).collect();
        let guards = subscriptions().map(Subscription::guard).collect();
        let served = Arc::new(Served { shared: self.shared.clone(), method, affinity, handler });
        let reader = tokio::spawn(read(requests, choices, served)).abort_handle();
        Registration { reader, confirmed, _guards: guards }
    }
}

struct Served<A, H> {
    shared: Arc<Shared>,
    method: Method,
    affinity: A,
    handler: H,
}

/// Takes what arrives and starts a task for each request. Never waits for anything else.
async fn read<Q, R, F, A, H>(mut requests: Subscription, mut choices: Option<Subscription>, served: Arc<Served<A, H>>)
where
    Q: Message + Default + 'static,
    R: Message + 'static,
    F: Future<Output = Result<R, Failure>> + Send + 'static,
    A: Fn(&Q) -> Option<f32> + Send + Sync + 'static,
    H: Fn(Q) -> F + Send + Sync + 'static,
{
    let slots = Arc::new(Semaphore::new(MAX_CONCURRENT));
    let mut bids: HashMap<String, oneshot::Sender<String>> = HashMap::new();
    loop {
        tokio::select! {
            choice = next(&mut choices) => match choice.map(Envelope::decode) {
                Some(Some(Envelope::ClaimResponse(choice))) => {
                    if let Some(bid) = bids.remove(&choice.request_id) {
                        let _ = bid.send(choice.server_id);
                    }
                }
                Some(_) => {}
                None => return,
            },
            payload = requests.recv() => {
                let Some(payload) = payload else { return };
                let Some((request, deadline)) = readable(&payload, &served.method, &served.shared.log) else { continue };
                let Ok(slot) = slots.clone().try_acquire_owned() else {
                    if let Some(unlogged) = served.shared.log.may_log() {
                        let method = served.method.name;
                        tracing::warn!(method, unlogged, "a request was ignored: {MAX_CONCURRENT} are under way");
                    }
                    continue;
                };
                let (bid, chosen) = oneshot::channel();
                bids.retain(|_, bid| !bid.is_closed());
                bids.insert(request.request_id.clone(), bid);
                tokio::spawn(Job { served: served.clone(), request, payload, deadline, chosen, _slot: slot }.run());
            }
        }
    }
}

async fn next(subscription: &mut Option<Subscription>) -> Option<Bytes> {
    match subscription {
        Some(subscription) => subscription.recv().await,
        None => std::future::pending().await,
    }
}

/// Reads a request, and until when somebody waits for it.
///
/// psrpc's own servers drop what has expired by their clock, and so never hear a client whose clock is more than its timeout (3 s)
/// behind. Here a request lives, from when it came, for as long as its sender gave it, whatever the two clocks say. Messages are not
/// kept on their way, so that none comes much later than it was sent, unless this process was held meanwhile. No harm follows then:
/// who has given up chooses nobody and takes no answer, and what is done without a choice only tells something.
fn readable(payload: &Bytes, method: &Method, log: &LogBudget) -> Option<(Request, Instant)> {
    let Some(Envelope::Request(request)) = Envelope::decode(payload.clone()) else { return None };
    let Ok(lives @ 1..) = u64::try_from(request.expiry.saturating_sub(request.sent_at)) else {
        if let Some(unlogged) = log.may_log() {
            tracing::warn!(method = method.name, unlogged, "a request was ignored that had expired when it was sent");
        }
        return None;
    };
    let age = unix_nanos().saturating_sub(request.sent_at);
    if age.unsigned_abs() > lives
        && let Some(unlogged) = log.may_log()
    {
        let seconds = age / 1_000_000_000;
        let text = "a request seems to be so old by this machine's clock: do the clocks agree? it is done all the same";
        tracing::warn!(method = method.name, seconds, unlogged, "{text}");
    }
    Some((request, Instant::now() + Duration::from_nanos(lives).min(MAX_REQUEST_AGE)))
}

/// One request, from the lock to the answer.
struct Job<A, H> {
    served: Arc<Served<A, H>>,
    request: Request,
    payload: Bytes,
    deadline: Instant,
    chosen: oneshot::Receiver<String>,
    _slot: OwnedSemaphorePermit,
}

impl<A, H> Job<A, H> {
    async fn run<Q, R, F>(self)
    where
        Q: Message + Default,
        R: Message,
        F: Future<Output = Result<R, Failure>> + Send,
        A: Fn(&Q) -> Option<f32>,
        H: Fn(Q) -> F,
    {
        if self.served.method.queue && !self.locked().await {
            return;
        }
        let query = match Q::decode(self.request.body()) {
            Ok(query) => query,
            Err(error) => {
                let failure = Failure::new(Code::MalformedRequest, error.to_string());
                return self.respond(Err::<R, _>(failure)).await;
            }
        };
        let deadline = self.deadline;
        let (served, job) = (self.served.clone(), self);
        let Some(job) = job.won((served.affinity)(&query)).await else { return };
        let result = match timeout_at(deadline, (served.handler)(query)).await {
            Ok(result) => result,
            Err(_) => Err(Failure::new(Code::DeadlineExceeded, "request timed out")),
        };
        job.respond(result).await;
    }

    /// Whether this server is the one to look at the request.
    async fn locked(&self) -> bool {
        let key = lock_key(&self.payload);
        match timeout_at(self.deadline, self.served.shared.bus.lock(&key)).await {
            Ok(Ok(first)) => first,
            Ok(Err(error)) => {
                tracing::debug!(%error, method = self.served.method.name, "a request was ignored: no lock");
                false
            }
            Err(_) => false,
        }
    }

    /// Bids where the method wants it, and waits for the client's choice.
    async fn won(mut self, affinity: Option<f32>) -> Option<Self> {
        if !self.served.method.claim {
            return Some(self);
        }
        // NaN is no bid either.
        let affinity = affinity.filter(|a| *a >= 0.0)?;
        let Shared { service, id, .. } = &*self.served.shared;
        let bid = ClaimRequest { request_id: self.request.request_id.clone(), server_id: id.clone(), affinity };
        let to = channel::claim_request(service, &self.request.client_id);
        self.publish(&to, Envelope::ClaimRequest(bid)).await;
        let winner = timeout_at(self.deadline, &mut self.chosen).await.ok()?.ok()?;
        (winner == self.served.shared.id).then_some(self)
    }

    async fn respond<R: Message>(&self, result: Result<R, Failure>) {
        let Shared { service, id, .. } = &*self.served.shared;
        let mut response = Response {
            request_id: self.request.request_id.clone(),
            server_id: id.clone(),
            sent_at: unix_nanos(),
            ..Default::default()
        };
        match result {
            Ok(answer) => response.raw_response = answer.encode_to_vec().into(),
            Err(failure) => {
                response.code = failure.code.as_str().to_owned();
                // The text decides whether it is a failure at all, so there must be one.
                response.error = if failure.message.is_empty() { response.code.clone() } else { failure.message };
            }
        }
        self.publish(&channel::response(service, &self.request.client_id), Envelope::Response(response)).await;
    }

    /// Publishes while the client may still listen, and a moment longer: an answer at the deadline is on time there.
    async fn publish(&self, to: &str, message: Envelope) {
        let deadline = self.deadline.max(Instant::now() + Duration::from_secs(1));
        let error = match timeout_at(deadline, self.served.shared.bus.publish(to, message.encode())).await {
            Ok(Ok(_)) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the bus is away".to_owned(),
        };
        if let Some(unlogged) = self.served.shared.log.may_log() {
            tracing::warn!(
                method = self.served.method.name,
                error,
                unlogged,
                "a bid or an answer could not be published"
            );
        }
    }
}

#[cfg(test)]
mod tests;
