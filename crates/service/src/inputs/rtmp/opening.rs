//! What comes before RTMP on a new connection: who it is, where a proxy tells, and TLS.

use super::shared::Shared;
use crate::inputs::connection_limits::Slot;
use crate::inputs::proxy_header::{self, Source};
use crate::tls::Tls;
use model::Refusal;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;

/// Why a connection ends before its first byte of RTMP.
#[derive(Debug)]
pub(super) enum Failure {
    /// Its proxy does not say whose it is.
    Proxy(SocketAddr, io::Error),
    /// Whom it brings has no slot left.
    Refused(SocketAddr, Refusal),
    /// No TLS.
    Tls(SocketAddr, io::Error),
    /// It gave way to a younger one.
    GaveWay,
}

impl Failure {
    /// Counts it, and logs what an operator can do something about.
    pub(super) fn report(&self, shared: &Shared) {
        let (how, peer, error) = match self {
            Self::Refused(peer, refusal) => return shared.refuse(*peer, *refusal),
            Self::GaveWay => return shared.counters.ended("gave_way"),
            Self::Proxy(proxy, error) => ("proxy", proxy, error),
            Self::Tls(peer, error) => ("tls", peer, error),
        };
        shared.counters.ended(how);
        // Health checks connect and leave.
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return;
        }
        let Some(unlogged) = shared.limits.log().may_log() else { return };
        match self {
            Self::Tls(..) => tracing::info!(%peer, %error, unlogged, "TLS handshake failed on the RTMPS port"),
            _ => tracing::info!(%peer, %error, unlogged, "a balancer does not say whose its RTMP connection is"),
        }
    }
}

/// Reads whom a trusted proxy brings, and charges the connection to it.
pub(super) async fn client<S: AsyncRead + Unpin>(
    stream: &mut S,
    proxy: SocketAddr,
    slot: &Slot,
    shared: &Shared,
) -> Result<SocketAddr, Failure> {
    let late = || io::Error::new(io::ErrorKind::TimedOut, "the PROXY header did not come in time");
    let read = timeout(shared.config.limits.handshake, proxy_header::read(stream)).await;
    match read.unwrap_or_else(|_| Err(late())).map_err(|error| Failure::Proxy(proxy, error))? {
        Source::Client(client) => {
            let client = SocketAddr::new(client.ip().to_canonical(), client.port());
            slot.charge(client.ip()).map_err(|refusal| Failure::Refused(client, refusal))?;
            Ok(client)
        }
        // Its own health checks.
        Source::Proxy => Ok(proxy),
    }
}

/// The TLS handshake. One address has some at a time, of which the oldest gives way: each costs a signature.
pub(super) async fn secured<S>(
    stream: S,
    peer: SocketAddr,
    tls: &Tls,
    shared: &Arc<Shared>,
) -> Result<TlsStream<S>, Failure>
where
    S: AsyncRead + AsyncWrite + Send + Unpin,
{
    let (_slot, mut eviction) =
        shared.handshakes.enter(Some(peer.ip())).map_err(|refusal| Failure::Refused(peer, refusal))?;
    tokio::select! {
        () = eviction.evicted() => Err(Failure::GaveWay),
        accepted = tls.accept(stream, shared.config.limits.handshake) => accepted.map_err(|e| Failure::Tls(peer, e)),
    }
}
