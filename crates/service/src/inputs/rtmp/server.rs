//! The RTMP server's ports, and one task for each connection.
//!
//! [`Server::next`] yields a [`Request`] for every publisher; who holds it answers with [`Request::accept`] or
//! [`Request::reject`]. Nothing here knows which key is right.

use super::connection;
use super::counters::Counters;
use super::opening::{self, Failure};
use super::quick_ack::QuickAck;
use super::request::Request;
use super::shared::{Config, Shared};
use crate::boxed::BoxFuture;
use crate::inputs::connection_limits::{ConnectionLimits, Eviction, Slot};
use crate::inputs::listener::Listener;
use crate::inputs::request::PublishRequest;
use crate::tls::{Error as TlsError, Files as TlsFiles, Tls};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_rustls::server::TlsStream;

/// Publishers that may wait for [`Server::next`], which is called again at once. Those beyond are refused for the moment.
const REQUEST_QUEUE: usize = 64;

/// TLS handshakes at a time, in all and of one address. One takes two round trips, below 2 s on a bad network, and a signature, a
/// millisecond with RSA; a classroom that starts at once fits.
const MAX_HANDSHAKES: usize = 256;
/// See [`MAX_HANDSHAKES`].
const MAX_HANDSHAKES_PER_ADDRESS: usize = 64;

/// How long a listener pauses when the machine has no socket left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The server. Dropping it closes the ports and the connections that do not publish yet; publishers stay until their session
/// lets go of them.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    requests: mpsc::Receiver<Request>,
    listeners: Vec<JoinHandle<()>>,
    addresses: Vec<SocketAddr>,
    _open: watch::Sender<()>,
}

impl Server {
    /// A server without a port.
    pub fn new(config: Config, counters: Counters) -> Self {
        let (requests, receiver) = mpsc::channel(REQUEST_QUEUE);
        let (open_sender, open) = watch::channel(());
        let limits = ConnectionLimits::new(config.max_connections, config.max_waiting_per_address);
        let handshakes = ConnectionLimits::new(MAX_HANDSHAKES, MAX_HANDSHAKES_PER_ADDRESS);
        let shared = Arc::new(Shared { config, counters, limits, handshakes, requests, open });
        Self { shared, requests: receiver, listeners: Vec::new(), addresses: Vec::new(), _open: open_sender }
    }

    /// A server with one plain port.
    ///
    /// # Errors
    /// The port can't be opened.
    pub async fn bind(address: SocketAddr, config: Config, counters: Counters) -> io::Result<Self> {
        let mut server = Self::new(config, counters);
        server.listen(TcpListener::bind(address).await?)?;
        Ok(server)
    }

    /// Serves RTMP on a port; gives its address.
    ///
    /// # Errors
    /// The system does not tell the address.
    pub fn listen(&mut self, listener: TcpListener) -> io::Result<SocketAddr> {
        self.open(listener, None)
    }

    /// Serves RTMPS on a port. The files are read again when they change.
    ///
    /// # Errors
    /// The files are no certificate and key.
    pub fn listen_tls(&mut self, listener: TcpListener, files: TlsFiles) -> Result<SocketAddr, TlsError> {
        let tls = Tls::new(files, "RTMPS")?;
        Ok(self.open(listener, Some(Arc::new(tls)))?)
    }

    /// The addresses of all ports, in the order they were opened.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The next publisher. Cancel safe.
    pub async fn next(&mut self) -> Request {
        match self.requests.recv().await {
            Some(request) => request,
            // Not while `shared` lives, and it does.
            None => std::future::pending().await,
        }
    }

    /// Serves one connection over any transport, with the limits of all the others.
    pub fn serve<S>(&self, stream: S, peer: SocketAddr) -> impl Future<Output = ()> + Send + use<S>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin,
    {
        serve(stream, peer, Arc::clone(&self.shared))
    }

    fn open(&mut self, listener: TcpListener, tls: Option<Arc<Tls>>) -> io::Result<SocketAddr> {
        let address = listener.local_addr()?;
        self.addresses.push(address);
        self.listeners.push(tokio::spawn(listen(listener, tls, Arc::clone(&self.shared))));
        Ok(address)
    }
}

impl Listener for Server {
    fn name(&self) -> &'static str {
        "rtmp"
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        self.addresses.clone()
    }

    fn next(&mut self) -> BoxFuture<'_, Box<dyn PublishRequest>> {
        Box::pin(async { Box::new(Server::next(self).await) as Box<dyn PublishRequest> })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.listeners.iter().for_each(JoinHandle::abort);
    }
}

async fn serve<S>(stream: S, peer: SocketAddr, shared: Arc<Shared>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin,
{
    if let Some((connection, slot, eviction)) = enter(stream, peer, &shared) {
        run(connection, None, slot, eviction, shared).await;
    }
}

async fn listen(listener: TcpListener, tls: Option<Arc<Tls>>, shared: Arc<Shared>) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                // Judged before a task is made of it, so that a flood costs no more than an accept.
                if let Some((connection, slot, eviction)) = enter(stream, peer, &shared) {
                    prepare(&connection);
                    let connection = connection.map(QuickAck);
                    tokio::spawn(run(connection, tls.clone(), slot, eviction, Arc::clone(&shared)));
                }
            }
            Err(error) => {
                // Out of descriptors, mostly: what is open must end first.
                if let Some(unlogged) = shared.limits.log().may_log() {
                    tracing::error!(%error, unlogged, "RTMP port cannot accept");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// A connection that has a slot.
struct Accepted<S> {
    stream: S,
    peer: SocketAddr,
    /// Whether its address is a proxy's, which tells whom it brings.
    proxied: bool,
}

impl<S> Accepted<S> {
    fn map<T>(self, wrap: impl FnOnce(S) -> T) -> Accepted<T> {
        let Self { stream, peer, proxied } = self;
        Accepted { stream: wrap(stream), peer, proxied }
    }
}

/// Gives a connection a slot, or refuses it.
fn enter<S>(stream: S, peer: SocketAddr, shared: &Shared) -> Option<(Accepted<S>, Slot, Eviction)> {
    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    let proxied = shared.config.proxies.iter().any(|net| net.contains(peer.ip()));
    match shared.limits.enter((!proxied).then(|| peer.ip())) {
        Ok((slot, eviction)) => Some((Accepted { stream, peer, proxied }, slot, eviction)),
        Err(refusal) => {
            shared.refuse(peer, refusal);
            None
        }
    }
}

fn prepare(connection: &Accepted<TcpStream>) {
    // Our messages are few and small, and the encoder waits for each.
    if let Err(error) = connection.stream.set_nodelay(true) {
        tracing::debug!(peer = %connection.peer, %error, "TCP_NODELAY not set");
    }
}

/// Does what comes before RTMP. Gives whose the connection is, and the stream: secured, or as it was.
async fn open<S>(
    accepted: Accepted<S>,
    tls: Option<Arc<Tls>>,
    slot: &Slot,
    shared: &Arc<Shared>,
) -> Result<(SocketAddr, Result<TlsStream<S>, S>), Failure>
where
    S: AsyncRead + AsyncWrite + Send + Unpin,
{
    let Accepted { mut stream, mut peer, proxied } = accepted;
    if proxied {
        peer = opening::client(&mut stream, peer, slot, shared).await?;
    }
    match tls {
        None => Ok((peer, Err(stream))),
        Some(tls) => Ok((peer, Ok(opening::secured(stream, peer, &tls, shared).await?))),
    }
}

/// Serves a connection to its end, or until it has to give way.
async fn run<S>(accepted: Accepted<S>, tls: Option<Arc<Tls>>, slot: Slot, mut eviction: Eviction, shared: Arc<Shared>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin,
{
    let opened = tokio::select! {
        () = eviction.evicted() => Err(Failure::GaveWay),
        opened = open(accepted, tls, &slot, &shared) => opened,
    };
    match opened {
        Ok((peer, Ok(secured))) => connection::run(secured, peer, slot, eviction, shared).await,
        Ok((peer, Err(plain))) => connection::run(plain, peer, slot, eviction, shared).await,
        Err(failure) => failure.report(&shared),
    }
}
