//! What all RTMP connections share: settings, counters, limits, and the way to the service.

use super::counters::Counters;
use super::request::Request;
use crate::config::IpNet;
use crate::inputs::connection_limits::ConnectionLimits;
use model::Refusal;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// How the server behaves. The defaults are for the public internet.
#[derive(Clone, Debug)]
pub struct Config {
    /// Bounds of the protocol.
    pub limits: rtmp::Limits,
    /// Connections in all, publishing or not. Those that have not shown a key give way to new ones, the oldest first.
    pub max_connections: usize,
    /// Connections of one address (IPv6: of one /64) that do not publish yet; beyond, the oldest gives way that has not shown a key.
    /// Publishers are not counted: many may share one address, and each is admitted on its own. The default is above a classroom
    /// that starts at once.
    pub max_waiting_per_address: usize,
    /// Whose connections begin with a PROXY header.
    pub proxies: Vec<IpNet>,
    /// How long an address stays charged for a publish that was refused for its key: with the bound above, this is how fast
    /// keys can be tried.
    pub refusal_charge: Duration,
    /// How long a publisher waits for the answer to its request.
    pub answer: Duration,
    /// How long a peer may leave what we write unread.
    pub write: Duration,
    /// How long a closed connection is kept for the peer to read our last message.
    pub linger: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            limits: rtmp::Limits::default(),
            max_connections: 4096,
            max_waiting_per_address: 64,
            proxies: Vec::new(),
            refusal_charge: Duration::from_secs(1),
            answer: Duration::from_secs(15),
            write: Duration::from_secs(10),
            linger: Duration::from_secs(2),
        }
    }
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: Config,
    pub(super) counters: Counters,
    pub(super) limits: ConnectionLimits,
    /// TLS handshakes under way.
    pub(super) handshakes: ConnectionLimits,
    pub(super) requests: mpsc::Sender<Request>,
    /// Closed when the server is dropped: connections that do not publish by then are refused.
    pub(super) open: watch::Receiver<()>,
}

impl Shared {
    /// Counts and logs a connection that met a limit.
    pub(super) fn refuse(&self, peer: SocketAddr, refusal: Refusal) {
        self.counters.refused(refusal.label());
        if let Some(unlogged) = self.limits.log().may_log() {
            tracing::warn!(%peer, reason = refusal.label(), unlogged, "RTMP connection refused");
        }
    }
}
