//! A connection to a TURN server, over UDP, TCP or TLS, and our address there.

use crate::relay::{Carrier, Outbox, Relay, RelayEvent};
use crate::transport::is_media;
use crate::udp::{ReceiveBatch, Udp};
use model::{TurnServer, TurnTransport};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::TlsConnector;

use super::route::local_address_toward;

/// How long looking a server up, connecting and TLS may take together, as for media over TCP.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a connection is read in one go, so that no other and no timer starves.
const MAX_READS: usize = 16;
/// Bytes read at once from a stream.
const READ_SIZE: usize = 16 * 1024;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

enum Wire {
    Udp(Udp, ReceiveBatch),
    Stream(Box<dyn Stream>, Outbox),
}

/// See the [module](self).
pub(super) struct RelayConnection {
    relay: Relay,
    wire: Wire,
    local: SocketAddr,
    server: SocketAddr,
}

/// What came of reading.
pub(super) enum Arrived {
    /// Others sent these to our address.
    Datagrams(Vec<(SocketAddr, Vec<u8>)>),
    /// Our address is there, or gone.
    Event(RelayEvent),
}

/// A connection on its way.
pub(super) type Opening = Pin<Box<dyn Future<Output = io::Result<RelayConnection>> + Send>>;

/// Starts to open one. `v6`: whether an IPv6 address is asked for.
pub(super) fn open(server: TurnServer, v6: bool) -> Opening {
    Box::pin(async move { tokio::time::timeout(OPEN_TIMEOUT, connect(&server, v6)).await? })
}

async fn connect(server: &TurnServer, v6: bool) -> io::Result<RelayConnection> {
    let mut last = io::Error::from(ErrorKind::NotFound);
    for address in lookup_host((server.host.as_str(), server.port)).await? {
        match reach(server, address).await {
            Ok((wire, local)) => {
                let carrier = if matches!(wire, Wire::Udp(..)) { Carrier::Datagrams } else { Carrier::Stream };
                let shown = (server.username.as_str(), &server.password);
                let relay = Relay::new(carrier, local, address, shown, v6, Instant::now());
                return Ok(RelayConnection { relay, wire, local, server: address });
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Reaches one address of a server; gives our own end too.
async fn reach(server: &TurnServer, address: SocketAddr) -> io::Result<(Wire, SocketAddr)> {
    if server.transport == TurnTransport::Udp {
        let ip = local_address_toward(address).ok_or(ErrorKind::NetworkUnreachable)?;
        let udp = Udp::open(SocketAddr::new(ip, 0))?;
        let local = udp.address;
        return Ok((Wire::Udp(udp, ReceiveBatch::new(1)), local));
    }
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let local = stream.local_addr()?;
    let stream: Box<dyn Stream> = if server.transport == TurnTransport::Tls {
        let name = ServerName::try_from(server.host.clone()).map_err(|_| ErrorKind::InvalidInput)?;
        Box::new(TlsConnector::from(tls_config()?).connect(name, stream).await?)
    } else {
        Box::new(stream)
    };
    Ok((Wire::Stream(stream, Outbox::default()), local))
}

/// TLS with the root certificates of this system, which are read once: it takes some milliseconds.
fn tls_config() -> io::Result<Arc<ClientConfig>> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if let Some(config) = CONFIG.get() {
        return Ok(config.clone());
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = builder.map_err(io::Error::other)?.with_root_certificates(roots).with_no_client_auth();
    Ok(CONFIG.get_or_init(|| Arc::new(config)).clone())
}

impl RelayConnection {
    /// Our address, once there is one.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.relay.address()
    }

    /// Where we reach the server from.
    pub(super) fn local(&self) -> SocketAddr {
        self.local
    }

    /// Where the server is.
    pub(super) fn server(&self) -> SocketAddr {
        self.server
    }

    /// Sends a datagram from our address. Over a stream it leaves with the next [`RelayConnection::poll`].
    pub(super) fn send(&mut self, to: SocketAddr, datagram: &[u8]) {
        self.relay.send(to, datagram, is_media(datagram), Instant::now());
        self.hand_over();
    }

    /// What the server is to be told goes out, or into the stream's queue.
    fn hand_over(&mut self) {
        while let Some(message) = self.relay.transmit() {
            match &mut self.wire {
                Wire::Udp(udp, _) => udp.send(self.server, &message),
                Wire::Stream(_, out) => out.push(&message),
            }
        }
    }

    /// When [`RelayConnection::tick`] is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.relay.deadline()
    }

    /// Lets time pass; true if anything was due.
    pub(super) fn tick(&mut self, now: Instant) -> bool {
        if self.relay.deadline().is_none_or(|at| now < at) {
            return false;
        }
        self.relay.tick(now);
        self.hand_over();
        true
    }

    /// Writes what waits, and reads what has come. An error means that the connection is gone.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Arrived>> {
        if let Some(event) = self.relay.event() {
            return Poll::Ready(Ok(Arrived::Event(event)));
        }
        self.hand_over();
        self.poll_write(cx)?;
        let mut arrived = Vec::new();
        let mut busy = false;
        for _ in 0..MAX_READS {
            match self.poll_read(cx, &mut arrived) {
                Poll::Pending => break,
                Poll::Ready(read) => read?,
            }
            busy = true;
        }
        self.hand_over();
        if busy { Poll::Ready(Ok(Arrived::Datagrams(arrived))) } else { Poll::Pending }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let Wire::Stream(stream, out) = &mut self.wire else { return Ok(()) };
        while !out.waiting().is_empty() {
            match Pin::new(&mut *stream).poll_write(cx, out.waiting()) {
                Poll::Pending => return Ok(()),
                Poll::Ready(written) => out.written(written?),
            }
        }
        match Pin::new(stream).poll_flush(cx) {
            Poll::Ready(flushed) => flushed,
            Poll::Pending => Ok(()),
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, arrived: &mut Vec<(SocketAddr, Vec<u8>)>) -> Poll<io::Result<()>> {
        let mut take = |from: SocketAddr, datagram: &[u8]| arrived.push((from, datagram.to_vec()));
        match &mut self.wire {
            Wire::Udp(udp, batch) => {
                ready!(udp.poll_read(cx, batch))?;
                let now = Instant::now();
                for (_, datagram) in batch.datagrams().filter(|(from, _)| *from == self.server) {
                    self.relay.receive(datagram, now, &mut take);
                }
            }
            Wire::Stream(stream, _) => {
                let mut memory = [0; READ_SIZE];
                let mut read = ReadBuf::new(&mut memory);
                ready!(Pin::new(stream).poll_read(cx, &mut read))?;
                if read.filled().is_empty() {
                    return Poll::Ready(Err(ErrorKind::UnexpectedEof.into()));
                }
                self.relay.receive(read.filled(), Instant::now(), &mut take);
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Gives our address back, as far as that goes without waiting.
    pub(super) fn release(&mut self) {
        self.relay.release(Instant::now());
        self.hand_over();
        if let Err(error) = self.poll_write(&mut Context::from_waker(std::task::Waker::noop())) {
            tracing::debug!(server = %self.server, %error, "the TURN server is not told of the end");
        }
    }
}

/// An address that nobody uses takes one of the server's ports for half an hour.
impl Drop for RelayConnection {
    fn drop(&mut self) {
        self.release();
    }
}
