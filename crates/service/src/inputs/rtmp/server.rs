//! The RTMP server's ports, and one task for each connection.
//!
//! [`Server::next`] yields a [`Request`] for every publisher; who holds it answers with [`Request::accept`] or
//! [`Request::reject`]. Nothing here knows which key is right.

use super::connection;
use super::counters::Counters;
use super::quick_ack::QuickAck;
use super::request::Request;
use super::shared::{Config, Shared};
use crate::boxed::BoxFuture;
use crate::inputs::connection_limits::{ConnectionLimits, Slot};
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

/// Publishers that may wait for [`Server::next`], which is called again at once. Those beyond are refused for the moment.
const REQUEST_QUEUE: usize = 64;

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
        let limits = Arc::new(ConnectionLimits::new(config.max_connections, config.max_waiting_per_address));
        let shared = Arc::new(Shared { config, counters, limits, requests, open });
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
    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    match shared.limits.enter(peer.ip()) {
        Ok(slot) => connection::run(stream, peer, slot, shared).await,
        Err(refusal) => shared.refuse(peer, refusal),
    }
}

async fn listen(listener: TcpListener, tls: Option<Tls>, shared: Arc<Shared>) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
                // Judged before a task is made of it, so that a flood costs no more than an accept.
                match shared.limits.enter(peer.ip()) {
                    Ok(slot) => spawn(stream, peer, slot, tls.as_ref(), &shared),
                    Err(refusal) => shared.refuse(peer, refusal),
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

fn spawn(stream: TcpStream, peer: SocketAddr, slot: Slot, tls: Option<&Tls>, shared: &Arc<Shared>) {
    // Our messages are few and small, and the encoder waits for each.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, %error, "TCP_NODELAY not set");
    }
    let stream = QuickAck(stream);
    let shared = Arc::clone(shared);
    match tls {
        None => {
            tokio::spawn(connection::run(stream, peer, slot, shared));
        }
        Some(tls) => {
            let accept = tls.accept(stream, shared.config.limits.handshake);
            tokio::spawn(async move {
                match accept.await {
                    Ok(stream) => connection::run(stream, peer, slot, shared).await,
                    Err(error) => {
                        shared.counters.ended("tls");
                        // Health checks connect and leave.
                        if error.kind() != io::ErrorKind::UnexpectedEof
                            && let Some(unlogged) = shared.limits.log().may_log()
                        {
                            tracing::info!(%peer, %error, unlogged, "TLS handshake failed on the RTMPS port");
                        }
                    }
                }
            });
        }
    }
}
