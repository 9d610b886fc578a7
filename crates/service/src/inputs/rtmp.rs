//! The RTMP server's sockets: listeners, one task per connection around the protocol engine of crate `rtmp`, and what each
//! publish is handed on as.
//!
//! [`Server::next`] yields a [`Request`] for every publisher; who holds it answers with [`Request::accept`] or
//! [`Request::reject`]. Nothing here knows which key is right.

mod connection;
mod counters;
mod quick_ack;

use super::connection_limits::{ConnectionLimits, Place, Refusal};
use crate::tls::{Error as TlsError, Files as TlsFiles, Tls};
pub use counters::Counters;
use model::{Fault, Secret};
use session::{Source, SourceEnd, SourceEvent, SourceFeed, source};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

/// Publishers that may wait for [`Server::next`]. It is drained at once; what is above it is told to come again.
const REQUEST_QUEUE: usize = 64;

/// How long a listener rests when the machine has no socket left.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// How the server behaves. The defaults are for the public internet.
#[derive(Clone, Debug)]
pub struct Config {
    /// Bounds of the protocol.
    pub limits: rtmp::Limits,
    /// Connections in all, publishing or not.
    pub max_connections: usize,
    /// Connections of one address (IPv6: of one /64) that do not publish yet. Publishers are not counted: many may sit behind
    /// one address, and admission judges them. A whole classroom that starts at once is below the default.
    pub max_waiting_per_address: usize,
    /// How long an address stays charged for a publish that was refused for its key: with the bound above, how fast keys can
    /// be tried.
    pub refusal_charge: Duration,
    /// How long a publisher waits for the answer to its request.
    pub answer: Duration,
    /// How long a peer may leave what we write unread.
    pub write: Duration,
    /// How long a closed connection is kept for the peer to read our last words.
    pub linger: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            limits: rtmp::Limits::default(),
            max_connections: 4096,
            max_waiting_per_address: 64,
            refusal_charge: Duration::from_secs(1),
            answer: Duration::from_secs(15),
            write: Duration::from_secs(10),
            linger: Duration::from_secs(2),
        }
    }
}

/// A publisher that waits to be let in. Dropping it refuses it.
#[derive(Debug)]
pub struct Request {
    /// The stream key.
    pub key: Secret,
    /// The application, for logs.
    pub app: String,
    /// Who it is.
    pub peer: SocketAddr,
    /// Its program, as it calls itself.
    pub encoder: Option<String>,
    answer: oneshot::Sender<Answer>,
}

#[derive(Debug)]
enum Answer {
    Accept(SourceFeed),
    Reject(Fault),
}

impl Request {
    /// Lets the publisher send media. If it has gone meanwhile, the source ends at once.
    pub fn accept(self) -> Source {
        let (feed, source) = source();
        if let Err(Answer::Accept(feed)) = self.answer.send(Answer::Accept(feed)) {
            // The queue is new and empty.
            let _ = feed.events.try_send(SourceEvent::Ended(SourceEnd::Finished));
        }
        source
    }

    /// Sends the publisher away with the fault's text.
    pub fn reject(self, fault: Fault) {
        let _ = self.answer.send(Answer::Reject(fault));
    }

    /// Resolves when the publisher has gone, or has waited too long.
    pub async fn withdrawn(&mut self) {
        self.answer.closed().await;
    }
}

/// What all connections share.
#[derive(Debug)]
struct Shared {
    config: Config,
    counters: Counters,
    admission: Arc<ConnectionLimits>,
    requests: mpsc::Sender<Request>,
    /// Closed when the server is dropped: who does not publish by then is sent away.
    open: watch::Receiver<()>,
}

/// The server. Dropping it closes the ports and sends those away that do not publish yet; publishers stay until their session
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
        let admission = Arc::new(ConnectionLimits::new(config.max_connections, config.max_waiting_per_address));
        let shared = Arc::new(Shared { config, counters, admission, requests, open });
        Self { shared, requests: receiver, listeners: Vec::new(), addresses: Vec::new(), _open: open_sender }
    }

    /// A server with one plain port.
    ///
    /// # Errors
    /// The port cannot be had.
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
        Ok(self.open(listener, Some(tls))?)
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

    fn open(&mut self, listener: TcpListener, tls: Option<Tls>) -> io::Result<SocketAddr> {
        let address = listener.local_addr()?;
        self.addresses.push(address);
        self.listeners.push(tokio::spawn(listen(listener, tls, Arc::clone(&self.shared))));
        Ok(address)
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
    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    match shared.admission.enter(peer.ip()) {
        Ok(place) => connection::run(stream, peer, place, shared).await,
        Err(refusal) => refuse(&shared, peer, refusal),
    }
}

fn refuse(shared: &Shared, peer: SocketAddr, refusal: Refusal) {
    shared.counters.refused(refusal.label());
    if let Some(before) = shared.admission.may_log() {
        tracing::warn!(%peer, reason = refusal.label(), unlogged = before, "RTMP connection refused");
    }
}

async fn listen(listener: TcpListener, tls: Option<Tls>, shared: Arc<Shared>) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
                // Judged before a task is made of it, so that a flood costs no more than an accept.
                match shared.admission.enter(peer.ip()) {
                    Ok(place) => spawn(stream, peer, place, tls.as_ref(), &shared),
                    Err(refusal) => refuse(&shared, peer, refusal),
                }
            }
            Err(error) => {
                // Out of descriptors, mostly: what is open must end first.
                if let Some(unlogged) = shared.admission.may_log() {
                    tracing::error!(%error, unlogged, "RTMP port cannot accept");
                }
                tokio::time::sleep(ACCEPT_REST).await;
            }
        }
    }
}

fn spawn(stream: TcpStream, peer: SocketAddr, place: Place, tls: Option<&Tls>, shared: &Arc<Shared>) {
    // Our words are few and small, and each waits for an answer.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, %error, "TCP_NODELAY not set");
    }
    let stream = quick_ack::QuickAck(stream);
    let shared = Arc::clone(shared);
    match tls {
        None => {
            tokio::spawn(connection::run(stream, peer, place, shared));
        }
        Some(tls) => {
            let accept = tls.accept(stream, shared.config.limits.handshake);
            tokio::spawn(async move {
                match accept.await {
                    Ok(stream) => connection::run(stream, peer, place, shared).await,
                    Err(error) => {
                        shared.counters.ended("tls");
                        // Health checks connect and leave.
                        if error.kind() != io::ErrorKind::UnexpectedEof
                            && let Some(unlogged) = shared.admission.may_log()
                        {
                            tracing::info!(%peer, %error, unlogged, "TLS handshake failed on the RTMPS port");
                        }
                    }
                }
            });
        }
    }
}
