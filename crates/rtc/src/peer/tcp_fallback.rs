//! When media goes over TCP: once UDP has had its chance, and anew after an ICE restart. Knows the SFU's TCP addresses and opens one
//! connection at a time.

use super::tcp_connection::{TcpConnection, open};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

/// How long UDP may try alone before TCP is tried too: several round trips around the world.
const TCP_DELAY: Duration = Duration::from_secs(1);
/// The same while the SFU has named no UDP address: one may follow in the next message, or never, where the SFU remembers that
/// UDP failed us.
const TCP_ALONE_DELAY: Duration = Duration::from_millis(150);
/// TCP addresses of the SFU that are remembered at the most.
const MAX_REMOTES: usize = 4;

/// See the [module](self).
#[derive(Default)]
pub(super) struct TcpFallback {
    connection: Option<TcpConnection>,
    opening: Option<Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>>,
    /// The SFU's TCP addresses; those of them not tried yet, and when to try the next.
    known: Vec<SocketAddr>,
    untried: VecDeque<SocketAddr>,
    try_at: Option<Instant>,
    /// ICE restarts: every address is to be tried anew once the answer is there.
    restarting: bool,
    /// Media goes over TCP, and the SFU is about to close that connection because of the restart.
    renew: bool,
    /// The SFU has named a UDP address.
    udp_named: bool,
}

impl TcpFallback {
    /// The SFU names a UDP address.
    pub(super) fn udp_named(&mut self, now: Instant) {
        if !std::mem::replace(&mut self.udp_named, true) && self.try_at.is_some() {
            self.try_at = Some(now + TCP_DELAY);
        }
    }

    /// The SFU names a TCP address.
    pub(super) fn tcp_named(&mut self, remote: SocketAddr, now: Instant) {
        if !self.known.contains(&remote) && self.known.len() < MAX_REMOTES {
            self.known.push(remote);
            self.untried.push_back(remote);
            let delay = if self.udp_named { TCP_DELAY } else { TCP_ALONE_DELAY };
            self.try_at.get_or_insert(now + delay);
        }
    }

    /// An ICE restart is offered.
    pub(super) fn restarting(&mut self) {
        self.restarting = true;
    }

    /// The offer is answered.
    pub(super) fn answered(&mut self, now: Instant) {
        if std::mem::take(&mut self.restarting) && !self.known.is_empty() {
            // UDP may be what has failed; and a connection over TCP belongs to the ICE session before (the SFU ends it).
            self.renew = self.connection.is_some();
            self.untried = self.known.iter().copied().collect();
            self.try_at = Some(now + if self.renew { Duration::ZERO } else { TCP_DELAY });
        }
    }

    /// Begins to open a connection if one is needed now; true if so. `up`: whether media flows, by whichever path.
    pub(super) fn tick(&mut self, up: bool, now: Instant) -> bool {
        if self.try_at.is_none_or(|at| now < at) {
            return false;
        }
        self.try_at = None;
        let renew = std::mem::take(&mut self.renew);
        let needed = renew || (!up && self.connection.is_none());
        if !needed || self.opening.is_some() {
            return false;
        }
        let Some(remote) = self.untried.pop_front() else { return false };
        self.opening = Some(open(remote));
        // The next one, should this fail.
        self.try_at = (!self.untried.is_empty()).then(|| now + TCP_DELAY);
        true
    }

    /// When [`TcpFallback::tick`] is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.try_at
    }

    /// The connection that has just been opened, if one is being opened and that has come to an end.
    pub(super) fn poll_opened(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<TcpConnection>> {
        let Some(opening) = &mut self.opening else { return Poll::Pending };
        let opened = std::task::ready!(opening.as_mut().poll(cx));
        self.opening = None;
        Poll::Ready(opened.and_then(TcpConnection::new))
    }

    /// Takes a new connection, or none; gives the one before.
    pub(super) fn replace(&mut self, connection: Option<TcpConnection>) -> Option<TcpConnection> {
        std::mem::replace(&mut self.connection, connection)
    }

    /// The connection, if there is one.
    pub(super) fn connection(&mut self) -> Option<&mut TcpConnection> {
        self.connection.as_mut()
    }
}
