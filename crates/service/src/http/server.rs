//! An HTTP server with deadlines and bounds, plain or over TLS.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use model::{Blame, Fault};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

use crate::inputs::connection_limits::ConnectionLimits;
use crate::tls::Tls;

/// Bounds on what connections may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at a time; further ones wait in the kernel's queue.
    pub connections: usize,
    /// Connections at a time from one address (IPv6: from one /64); further ones are closed.
    pub connections_per_address: usize,
    /// For a request's head to arrive; also how long a connection may be idle between two requests.
    pub head: Duration,
    /// For a whole connection. One request and its answer, unless `keep_alive`: then no further request is begun.
    pub connection: Duration,
    /// Whether a connection may bring several requests. The last one may take as long again as `connection`.
    pub keep_alive: bool,
}

/// Probes and scrapes come a few a minute, and take milliseconds; a slow network needs a second. With these, one who opens
/// connections and is silent must open 50 a second to keep others out.
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
/// How long the address of a peer stays charged for its connection after [`Peer::charge`]: with the bound on connections from
/// one address, how fast keys can be tried.
const CHARGE_DURATION: Duration = Duration::from_secs(1);

/// Who is at the other end of a connection: an extension of each of its requests.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    charged: Arc<AtomicBool>,
}

impl Peer {
    /// Counts the connection for a second longer than it lasts.
    pub fn charge(&self) {
        self.charged.store(true, Ordering::Relaxed);
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
    start(listener, None, router, limits)
}

/// The same over TLS.
///
/// # Errors
/// If the listener doesn't know its own address.
pub(crate) fn serve_tls(listener: TcpListener, tls: Tls, router: Router, limits: Limits) -> io::Result<Server> {
    start(listener, Some(tls), router, limits)
}

fn start(listener: TcpListener, tls: Option<Tls>, router: Router, limits: Limits) -> io::Result<Server> {
    let address = listener.local_addr()?;
    let (stop, stopped) = oneshot::channel();
    let acceptor = Acceptor { listener, tls, router, limits };
    let task = tokio::spawn(acceptor.run(stopped));
    Ok(Server { address, stop: Some(stop), task })
}

/// A port and how its connections are served.
struct Acceptor {
    listener: TcpListener,
    tls: Option<Tls>,
    router: Router,
    limits: Limits,
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
        let free = Arc::new(Semaphore::new(self.limits.connections));
        // All of them are bounded by the semaphore.
        let addresses = Arc::new(ConnectionLimits::new(usize::MAX, self.limits.connections_per_address));
        loop {
            while connections.try_join_next().is_some() {}
            // The semaphore is never closed.
            let Ok(slot) = Arc::clone(&free).acquire_owned().await else { return };
            match self.listener.accept().await {
                Ok((stream, address)) => {
                    let address = SocketAddr::new(address.ip().to_canonical(), address.port());
                    let Ok(charged) = addresses.enter(address.ip()) else {
                        if let Some(unlogged) = addresses.log().may_log() {
                            tracing::warn!(peer = %address, unlogged, "too many HTTP connections from one address");
                        }
                        continue;
                    };
                    let served = self.serve(stream, address);
                    connections.spawn(async move {
                        let charge = served.await;
                        drop(slot);
                        if charge {
                            sleep(CHARGE_DURATION).await;
                        }
                        drop(charged);
                    });
                }
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "a connection could not be accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Serves one connection; gives whether its address stays charged for it for a while.
    fn serve(&self, stream: TcpStream, address: SocketAddr) -> impl Future<Output = bool> + Send + use<> {
        let peer = Peer { address, charged: Arc::default() };
        let (router, limits) = (self.router.clone(), self.limits);
        let handshake = match &self.tls {
            Some(tls) => Err(tls.accept(stream, TLS_HANDSHAKE_DEADLINE)),
            None => Ok(stream),
        };
        async move {
            let charged = Arc::clone(&peer.charged);
            match handshake {
                Ok(stream) => answer(stream, router, limits, peer).await,
                Err(handshake) => match handshake.await {
                    Ok(stream) => answer(stream, router, limits, peer).await,
                    Err(error) => tracing::debug!(peer = %address, %error, "TLS handshake failed"),
                },
            }
            charged.load(Ordering::Relaxed)
        }
    }
}

/// The requests of one connection and their answers, one after the other.
async fn answer<S>(stream: S, router: Router, limits: Limits, peer: Peer)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let inner = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        inner.call(request)
    });
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

#[cfg(test)]
mod tests;
