//! An HTTP server with deadlines and bounds, plain or over TLS.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::StatusCode;
use axum::response::Response;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use model::{Blame, Fault};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

use super::forwarded::Proxies;
use crate::inputs::connection_limits::{ConnectionLimits, Eviction, Slot};
use crate::tls::Tls;

/// Bounds on what connections may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at a time. Beyond, the oldest is closed whose request has not shown what it is for.
    pub connections: usize,
    /// The same from one address (IPv6: from one /64, and four times as many from one /48).
    pub connections_per_address: usize,
    /// For a request's head to arrive; also how long a connection may be idle between two requests.
    pub head: Duration,
    /// For a whole connection. One request and its answer, unless `keep_alive`: then no further request is begun.
    pub connection: Duration,
    /// Whether a connection may bring several requests. The last one may take as long again as `connection`.
    pub keep_alive: bool,
}

/// Probes and scrapes come a few a minute, and take milliseconds. With these, one who opens connections and is silent must open 256
/// within the time that a probe takes, to keep it from its answer.
impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 256,
            connections_per_address: 256,
            head: Duration::from_secs(5),
            connection: Duration::from_secs(10),
            keep_alive: false,
        }
    }
}

/// Bytes of a request's head; a browser with all its cookies stays below.
const MAX_HEAD_SIZE: usize = 16 * 1024;
/// Headers of a request.
const MAX_HEADERS: usize = 100;
/// How long [`Server::stop`] lets answers that are under way go on: a page is written in milliseconds.
const STOP_DEADLINE: Duration = Duration::from_secs(1);
/// Pause after a failed accept: the system is out of descriptors, and some are back within moments.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// For a TLS handshake: two round trips, of a slow network.
const TLS_HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);
/// How long the address of a peer stays charged for a wrong key after [`Peer::charge`]: with the bound on connections from one
/// address, how fast keys can be tried.
const CHARGE_DURATION: Duration = Duration::from_secs(1);

/// Who sends a request: an extension of it.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The client's address: the connection's, or what a trusted proxy says.
    pub address: SocketAddr,
    charged: Arc<AtomicBool>,
    slot: Arc<Slot>,
}

impl Peer {
    /// Charges the client's address for a second, beyond this connection.
    pub fn charge(&self) {
        self.charged.store(true, Ordering::Relaxed);
    }

    /// The request has shown what it is for, and all of it is here: its connection does not give way to others until it is answered.
    /// False if it has given way already.
    pub fn hold(&self) -> bool {
        self.slot.hold()
    }
}

/// Opens a port of ours. `key` names it in the configuration.
///
/// # Errors
/// Why not, for the operator, by the configuration key.
pub async fn listen(address: IpAddr, port: u16, key: &str) -> Result<TcpListener, Fault> {
    let mut opened = TcpListener::bind((address, port)).await;
    if let (Err(error), true) = (&opened, address.is_unspecified() && address.is_ipv6())
        && error.kind() != io::ErrorKind::AddrInUse
        && error.kind() != io::ErrorKind::PermissionDenied
    {
        // A machine without IPv6.
        opened = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await;
    }
    opened.map_err(|error| {
        let text = match error.kind() {
            io::ErrorKind::AddrInUse => format!("{key}: port {port} is in use by another program"),
            io::ErrorKind::PermissionDenied => format!(
                "{key}: port {port} may not be opened by this user; take one above 1023, or grant CAP_NET_BIND_SERVICE"
            ),
            io::ErrorKind::AddrNotAvailable => {
                format!("bind_address: {address} is not an address of this machine ({key})")
            }
            _ => format!("{key}: port {port} on {address} cannot be opened: {error}"),
        };
        Fault::new(Blame::Us, text)
    })
}

/// A server that runs until it is stopped or dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Server {
    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Takes no new connection, and returns when those there are have their answers, within a second.
    pub async fn stop(mut self) {
        if let Some(stop) = self.stop.take() {
            // It is gone already if the task is.
            let _ = stop.send(());
        }
        let _ = (&mut self.task).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves on a listener. Needs a tokio runtime.
///
/// # Errors
/// If the listener doesn't know its own address.
pub fn serve(listener: TcpListener, router: Router, limits: Limits) -> io::Result<Server> {
    serve_behind(listener, None, router, limits, Arc::default())
}

/// The same, over TLS if there is some, and behind these proxies.
///
/// # Errors
/// If the listener doesn't know its own address.
pub(crate) fn serve_behind(
    listener: TcpListener,
    tls: Option<Tls>,
    router: Router,
    limits: Limits,
    proxies: Arc<Proxies>,
) -> io::Result<Server> {
    let address = listener.local_addr()?;
    let (stop, stopped) = oneshot::channel();
    let slots = ConnectionLimits::new(limits.connections, limits.connections_per_address);
    let acceptor = Acceptor { listener, tls, router, limits, proxies, slots };
    let task = tokio::spawn(acceptor.run(stopped));
    Ok(Server { address, stop: Some(stop), task })
}

/// A port and how its connections are served.
struct Acceptor {
    listener: TcpListener,
    tls: Option<Tls>,
    router: Router,
    limits: Limits,
    proxies: Arc<Proxies>,
    slots: ConnectionLimits,
}

impl Acceptor {
    async fn run(self, stopped: oneshot::Receiver<()>) {
        let mut connections = JoinSet::new();
        tokio::select! {
            () = self.accept(&mut connections) => {}
            _ = stopped => {}
        }
        drop(self);
        // What isn't done by then is aborted with the set.
        let _ = timeout(STOP_DEADLINE, async { while connections.join_next().await.is_some() {} }).await;
    }

    async fn accept(&self, connections: &mut JoinSet<()>) {
        loop {
            while connections.try_join_next().is_some() {}
            match self.listener.accept().await {
                Ok((stream, address)) => {
                    let address = SocketAddr::new(address.ip().to_canonical(), address.port());
                    let charged_to = (!self.proxies.trusts(address.ip())).then(|| address.ip());
                    match self.slots.enter(charged_to) {
                        Ok((slot, eviction)) => _ = connections.spawn(self.serve(stream, address, slot, eviction)),
                        Err(refusal) => {
                            if let Some(unlogged) = self.slots.log().may_log() {
                                let reason = refusal.label();
                                tracing::warn!(peer = %address, reason, unlogged, "HTTP connection refused");
                            }
                        }
                    }
                }
                Err(error) => {
                    if let Some(unlogged) = self.slots.log().may_log() {
                        let error = &error as &dyn std::error::Error;
                        tracing::warn!(error, unlogged, "a connection could not be accepted");
                    }
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Serves one connection until it ends or gives way, and keeps its address charged for a while where it has to be.
    fn serve(
        &self,
        stream: TcpStream,
        address: SocketAddr,
        slot: Slot,
        mut eviction: Eviction,
    ) -> impl Future<Output = ()> + Send + use<> {
        let peer = Peer { address, charged: Arc::default(), slot: Arc::new(slot) };
        let requests = Requests {
            router: TowerToHyperService::new(self.router.clone()),
            peer: peer.clone(),
            proxies: self.proxies.clone(),
            slots: self.slots.clone(),
        };
        let limits = self.limits;
        let handshake = match &self.tls {
            Some(tls) => Err(tls.accept(stream, TLS_HANDSHAKE_DEADLINE)),
            None => Ok(stream),
        };
        async move {
            let served = async {
                match handshake {
                    Ok(stream) => answer(stream, requests, limits).await,
                    Err(handshake) => match handshake.await {
                        Ok(stream) => answer(stream, requests, limits).await,
                        Err(error) => tracing::debug!(peer = %address, %error, "TLS handshake failed"),
                    },
                }
            };
            tokio::select! {
                () = served => {}
                () = eviction.evicted() => return tracing::debug!(peer = %address, "an HTTP connection gave way"),
            }
            if peer.charged.load(Ordering::Relaxed) {
                peer.slot.fine();
                sleep(CHARGE_DURATION).await;
            }
        }
    }
}

/// The requests of one connection and their answers, one after the other.
async fn answer<S>(stream: S, requests: Requests, limits: Limits)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = service_fn(move |request| requests.clone().answer(request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(MAX_HEAD_SIZE)
        .max_headers(MAX_HEADERS)
        .keep_alive(limits.keep_alive)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let mut ended = timeout(limits.connection, connection.as_mut()).await;
    if ended.is_err() && limits.keep_alive {
        connection.as_mut().graceful_shutdown();
        ended = timeout(limits.connection, connection).await;
    }
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(error = &error as &dyn std::error::Error, "an HTTP connection broke"),
        Err(_) => tracing::debug!("an HTTP connection took too long"),
    }
}

/// What answers the requests of one connection.
#[derive(Clone)]
struct Requests {
    router: TowerToHyperService<Router>,
    /// The other end of the connection.
    peer: Peer,
    proxies: Arc<Proxies>,
    slots: ConnectionLimits,
}

impl Requests {
    async fn answer(self, mut request: Request<Incoming>) -> Result<Response, Infallible> {
        let Self { router, peer, proxies, slots } = self;
        let client = proxies.client(peer.address, request.headers());
        if client == peer.address {
            let slot = peer.slot.clone();
            request.extensions_mut().insert(peer);
            let answer = router.call(request).await;
            slot.wait();
            return answer;
        }
        // Its connection is the proxy's, which brings others, too: what is charged for this client is the request.
        let Ok((slot, mut eviction)) = slots.enter(Some(client.ip())) else { return Ok(too_many()) };
        let peer = Peer { address: client, charged: Arc::default(), slot: Arc::new(slot) };
        request.extensions_mut().insert(peer.clone());
        let answer = tokio::select! {
            answer = router.call(request) => answer,
            () = eviction.evicted() => Ok(too_many()),
        };
        if peer.charged.load(Ordering::Relaxed) {
            peer.slot.fine();
            tokio::spawn(async move {
                sleep(CHARGE_DURATION).await;
                drop(peer);
            });
        }
        answer
    }
}

/// The answer to a client of a proxy that has too many requests under way.
fn too_many() -> Response {
    let mut response = Response::new(Body::from("too many requests at a time; try again in a moment"));
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response
}

#[cfg(test)]
mod tests;
