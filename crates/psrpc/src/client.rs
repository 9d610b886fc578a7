//! The calling side: publish a request, choose among the bids, wait for the answer.

use crate::envelope::{ClaimRequest, ClaimResponse, Envelope, Request, Response, unix_nanos};
use crate::{Bus, BusState, Code, Error, Failure, Method, Subscription, channel, id};
use bytes::Bytes;
use prost::Message;
use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until, timeout_at};

/// How long a call may take. The defaults are psrpc's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// The whole call.
    pub timeout: Duration,
    /// Until a server must have been chosen (also: until the bus must be there).
    pub selection: Duration,
    /// How long to wait for better bids after the first acceptable one.
    pub short_circuit: Duration,
    /// Whether a request that reached nobody is published again until a server must have been chosen. Not for a topic that strangers
    /// can name: each of their bytes would become ten.
    pub repeat: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(3),
            selection: Duration::from_secs(1),
            short_circuit: Duration::from_millis(200),
            repeat: true,
        }
    }
}

/// Bids and answers that may wait for one call. More servers than this in one selection are not waited for.
const MAX_REPLIES: usize = 64;

/// How often a request that reached nobody, or was lost with the connection, is published again, until a server must have been
/// chosen: a server that lost its connection together with us is back within a second.
const REPUBLISH_INTERVAL: Duration = Duration::from_millis(100);

/// Calls the methods of one service.
pub struct Client {
    shared: Arc<Shared>,
    readers: [AbortHandle; 2],
}

struct Shared {
    bus: Arc<dyn Bus>,
    service: String,
    id: String,
    confirmed: [tokio::sync::watch::Receiver<bool>; 2],
    calls: Mutex<HashMap<String, mpsc::Sender<Reply>>>,
}

enum Reply {
    Claim(ClaimRequest),
    Answer(Response),
}

/// A call under way; dropping it forgets the call.
struct Exchange<'a> {
    shared: &'a Shared,
    request_id: String,
    replies: mpsc::Receiver<Reply>,
}

impl Client {
    /// A client of `service` (the bare name: "IOInfo"). Must be made within a tokio runtime. It may be made while the bus
    /// is away.
    pub fn new(bus: Arc<dyn Bus>, service: impl Into<String>) -> Self {
        let (service, id) = (service.into(), id::new("CLI_"));
        let claims = bus.subscribe(&channel::claim_request(&service, &id));
        let answers = bus.subscribe(&channel::response(&service, &id));
        let shared = Arc::new(Shared {
            bus,
            service,
            id,
            confirmed: [claims.confirmed(), answers.confirmed()],
            calls: Mutex::default(),
        });
        let readers =
            [claims, answers].map(|subscription| tokio::spawn(read(subscription, shared.clone())).abort_handle());
        Self { shared, readers }
    }

    /// Calls a method that one server does. An empty topic is none. Ends by `options.timeout`; dropping it is harmless.
    pub async fn call<Q: Message, R: Message + Default>(
        &self,
        method: &Method,
        topic: &str,
        request: &Q,
        options: &Options,
    ) -> Result<R, Error> {
        let start = Instant::now();
        let deadline = start + options.timeout;
        let selection = deadline.min(start + options.selection);
        self.connected(selection).await?;
        let mut exchange = self.shared.open();
        let payload = exchange.request(request.encode_to_vec().into(), start, options.timeout, false);
        let to = channel::request(&self.shared.service, method.name, topic);
        if method.claim {
            let Options { short_circuit, repeat, .. } = *options;
            let by = Selection { method, by: selection, short_circuit, repeat };
            let server_id = exchange.select(&to, payload, by).await?;
            let choice = ClaimResponse { request_id: exchange.request_id.clone(), server_id };
            let to = channel::claim_response(&self.shared.service, method.name, topic);
            self.shared.publish(&to, Envelope::ClaimResponse(choice).encode(), deadline).await?;
        } else {
            self.shared.publish(&to, payload, deadline).await?;
        }
        exchange.answer(deadline).await.map_or(Err(Error::TimedOut), read_answer)
    }

    /// Calls a method that every server does; answers come until `timeout` has passed.
    pub async fn call_every<Q: Message, R: Message + Default>(
        &self,
        method: &Method,
        topic: &str,
        request: &Q,
        timeout: Duration,
    ) -> Result<Responses<'_, R>, Error> {
        let start = Instant::now();
        let deadline = start + timeout;
        self.connected(deadline).await?;
        let exchange = self.shared.open();
        let payload = exchange.request(request.encode_to_vec().into(), start, timeout, true);
        let to = channel::request(&self.shared.service, method.name, topic);
        self.shared.publish(&to, payload, deadline).await?;
        Ok(Responses { exchange, deadline, _answer: PhantomData })
    }

    /// Waits until bids and answers can be received.
    async fn connected(&self, deadline: Instant) -> Result<(), Error> {
        for confirmed in &self.shared.confirmed {
            let mut confirmed = confirmed.clone();
            if timeout_at(deadline, confirmed.wait_for(|yes| *yes)).await.is_err() {
                return Err(self.shared.not_connected());
            }
        }
        Ok(())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.readers.iter().for_each(AbortHandle::abort);
    }
}

/// Hands what arrives on one of the client's channels to the call it belongs to.
async fn read(mut subscription: Subscription, shared: Arc<Shared>) {
    while let Some(payload) = subscription.recv().await {
        let (request_id, reply) = match Envelope::decode(payload) {
            Some(Envelope::ClaimRequest(m)) => (m.request_id.clone(), Reply::Claim(m)),
            Some(Envelope::Response(m)) => (m.request_id.clone(), Reply::Answer(m)),
            _ => continue,
        };
        let call = shared.calls.lock().unwrap_or_else(PoisonError::into_inner).get(&request_id).cloned();
        // A late answer has no call any more; a call that can't keep up has more bids than it needs.
        if let Some(call) = call {
            let _ = call.try_send(reply);
        }
    }
}

impl Shared {
    fn open(&self) -> Exchange<'_> {
        let (sender, replies) = mpsc::channel(MAX_REPLIES);
        let request_id = id::new("REQ_");
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).insert(request_id.clone(), sender);
        Exchange { shared: self, request_id, replies }
    }

    /// The error for a bus that was not up in time.
    fn not_connected(&self) -> Error {
        let name = self.bus.name();
        match &*self.bus.state().borrow() {
            BusState::Down { since, reason } => Error::not_connected(name, since.elapsed(), reason),
            // The connection has just come, its subscriptions have not.
            BusState::Up => Error::not_connected(name, Duration::ZERO, "still subscribing"),
        }
    }

    /// Publishes by `deadline`.
    async fn publish(&self, to: &str, payload: Bytes, deadline: Instant) -> Result<Option<u64>, Error> {
        match timeout_at(deadline, self.bus.publish(to, payload)).await {
            Ok(result) => Ok(result?),
            Err(_) if self.bus.state().borrow().is_up() => Err(Error::TimedOut),
            Err(_) => Err(self.not_connected()),
        }
    }
}

/// How a server is to be chosen.
#[derive(Clone, Copy)]
struct Selection<'a> {
    method: &'a Method,
    by: Instant,
    short_circuit: Duration,
    repeat: bool,
}

/// Whom a request that was published has reached.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reached {
    /// Nobody: the bus is sure.
    Nobody,
    /// Somebody, or the bus can't tell.
    Perhaps,
}

/// The bids so far.
#[derive(Default)]
struct Bids {
    received: usize,
    best: Option<ClaimRequest>,
}

impl Bids {
    fn add(&mut self, bid: ClaimRequest) {
        self.received += 1;
        // The first of equals stays. NaN compares false and so is never chosen.
        let floor = self.best.as_ref().map_or(0.0, |best| best.affinity);
        if bid.affinity > floor {
            self.best = Some(bid);
        }
    }
}

impl Exchange<'_> {
    fn request(&self, body: Bytes, now: Instant, timeout: Duration, multi: bool) -> Bytes {
        let sent_at = unix_nanos();
        // Waiting for the bus has used up some of the time.
        let left = timeout.saturating_sub(now.elapsed());
        let expiry = sent_at.saturating_add(i64::try_from(left.as_nanos()).unwrap_or(i64::MAX));
        let (request_id, client_id) = (self.request_id.clone(), self.shared.id.clone());
        Envelope::Request(Request {
            request_id,
            client_id,
            sent_at,
            expiry,
            multi,
            raw_request: body,
            ..Default::default()
        })
        .encode()
    }

    /// Publishes the request and chooses among the bids.
    async fn select(&mut self, to: &str, payload: Bytes, how: Selection<'_>) -> Result<String, Error> {
        let mut bids = Bids::default();
        let mut failure = None;
        let mut sent = self.publish_request(to, &payload, how.by).await;
        let mut close = how.by;
        loop {
            // Publishing the same bytes again is harmless only where the servers' lock lets one copy through.
            let repeat = how.repeat && how.method.queue && !matches!(sent, Ok(Reached::Perhaps));
            if !repeat {
                sent = Ok(sent?);
            }
            // Nobody will ever bid.
            if !how.repeat && matches!(sent, Ok(Reached::Nobody)) {
                return Err(Error::NoServers { nobody_listens: true });
            }
            let again = Instant::now() + REPUBLISH_INTERVAL;
            tokio::select! {
                reply = self.replies.recv() => match reply {
                    Some(Reply::Claim(bid)) if how.method.affinity => {
                        bids.add(bid);
                        if bids.best.is_some() {
                            close = close.min(Instant::now() + how.short_circuit);
                        }
                    }
                    Some(Reply::Claim(bid)) => return Ok(bid.server_id),
                    // A server that can't read the request says so instead of bidding. Where others may still bid, wait.
                    Some(Reply::Answer(answer)) if how.method.queue => return Err(refusal(answer)),
                    Some(Reply::Answer(answer)) => failure = Some(refusal(answer)),
                    None => break,
                },
                () = sleep_until(again), if repeat && again < close => {
                    sent = self.publish_request(to, &payload, how.by).await;
                }
                () = sleep_until(close) => break,
            }
        }
        match (bids.best, failure) {
            (Some(best), _) => Ok(best.server_id),
            (None, Some(failure)) => Err(failure),
            (None, None) if bids.received > 0 => Err(Error::NoneWilling { received: bids.received }),
            (None, None) => Err(Error::NoServers { nobody_listens: sent? == Reached::Nobody }),
        }
    }

    /// Publishes the request.
    async fn publish_request(&self, to: &str, payload: &Bytes, by: Instant) -> Result<Reached, Error> {
        let reached = self.shared.publish(to, payload.clone(), by).await?;
        Ok(if reached == Some(0) { Reached::Nobody } else { Reached::Perhaps })
    }

    /// The next server's answer by `deadline`. Cancel safe.
    async fn answer(&mut self, deadline: Instant) -> Option<Response> {
        loop {
            match timeout_at(deadline, self.replies.recv()).await {
                Ok(Some(Reply::Answer(answer))) => return Some(answer),
                // A bid after the choice was made.
                Ok(Some(Reply::Claim(_))) => {}
                Ok(None) | Err(_) => return None,
            }
        }
    }
}

impl Drop for Exchange<'_> {
    fn drop(&mut self) {
        self.shared.calls.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.request_id);
    }
}

/// The answers to a call that every server does.
pub struct Responses<'a, R> {
    exchange: Exchange<'a>,
    deadline: Instant,
    _answer: PhantomData<fn() -> R>,
}

impl<R: Message + Default> Responses<'_, R> {
    /// The next server's answer; `None` when the call's time is over. Cancel safe.
    pub async fn next(&mut self) -> Option<Result<R, Error>> {
        self.exchange.answer(self.deadline).await.map(read_answer)
    }
}

fn read_answer<R: Message + Default>(answer: Response) -> Result<R, Error> {
    if answer.error.is_empty() {
        R::decode(answer.body()).map_err(Error::MalformedResult)
    } else {
        Err(failure(answer).into())
    }
}

/// The failure that an answer given in place of a bid stands for.
fn refusal(answer: Response) -> Error {
    if answer.error.is_empty() {
        return Failure::new(Code::Internal, "a server answered without having been chosen").into();
    }
    failure(answer).into()
}

fn failure(answer: Response) -> Failure {
    Failure::new(Code::from_wire(&answer.code), answer.error)
}

#[cfg(test)]
mod tests;
