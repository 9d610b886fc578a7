//! When media goes by TURN servers: once UDP and TCP have had their chance, and again after an ICE restart. Knows the servers that the
//! room has named. One that does not answer does not hold up the next.

use super::relay_connection::{Arrived, Opening, RelayConnection, open};
use model::TurnServer;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// How long direct paths may try alone: UDP for a second, then TCP for another.
const RELAY_DELAY: Duration = Duration::from_secs(2);
/// How long one server may try alone before the next is tried too: name, connection, TLS and four messages, around the world.
const NEXT_DELAY: Duration = Duration::from_secs(1);
/// Servers of a room that are remembered at most: livekit-server names its own by UDP and TLS, or those of its configuration.
const MAX_SERVERS: usize = 6;

/// See the [module](self).
#[derive(Default)]
pub(super) struct Relays {
    /// The room's servers, the cheapest transport first; those of them not tried yet, and when to try the next.
    known: Vec<TurnServer>,
    untried: VecDeque<TurnServer>,
    try_at: Option<Instant>,
    opening: Vec<Opening>,
    open: Vec<RelayConnection>,
    /// UDP addresses of the SFU were named, of IPv4 and of IPv6: only to those a relay leads.
    named: (bool, bool),
}

/// What came of polling.
pub(super) enum Relayed {
    /// A new address of ours, and where its server is reached from.
    Opened { address: SocketAddr, local: SocketAddr },
    /// It is gone.
    Closed { address: Option<SocketAddr>, local: SocketAddr },
    /// Others sent these to this address.
    Datagrams { address: SocketAddr, datagrams: Vec<(SocketAddr, Vec<u8>)> },
    /// Nothing to act upon.
    Progress,
}

impl Relays {
    /// The room names its servers. Those that are there already stay.
    pub(super) fn told(&mut self, mut servers: Vec<TurnServer>) {
        servers.sort_by_key(|server| server.transport);
        servers.truncate(MAX_SERVERS);
        self.known = servers;
    }

    /// The SFU names a UDP address.
    pub(super) fn udp_named(&mut self, remote: SocketAddr) {
        let (v4, v6) = &mut self.named;
        *(if remote.is_ipv4() { v4 } else { v6 }) = true;
    }

    /// An offer is answered: direct paths are being checked.
    pub(super) fn answered(&mut self, now: Instant) {
        // Each further offer, as for another track, changes nothing about what is under way.
        let under_way = self.try_at.is_some() || !self.opening.is_empty() || !self.open.is_empty();
        if !self.known.is_empty() && !under_way {
            self.untried = self.known.iter().cloned().collect();
            self.try_at = Some(now + RELAY_DELAY);
        }
    }

    /// Does what is due; true if anything was. `up`: whether media flows, by whichever path.
    pub(super) fn tick(&mut self, up: bool, now: Instant) -> bool {
        let mut busy = false;
        for connection in &mut self.open {
            busy |= connection.tick(now);
        }
        if self.try_at.is_none_or(|at| now < at) {
            return busy;
        }
        self.try_at = None;
        if up {
            return true;
        }
        let Some(server) = self.untried.pop_front() else { return true };
        let (v4, v6) = self.named;
        if v4 || v6 {
            tracing::debug!(host = server.host, port = server.port, transport = ?server.transport, "trying a TURN server");
            self.opening.push(open(server, !v4));
        } else {
            // The SFU may name one yet.
            self.untried.push_front(server);
        }
        self.try_at = (!self.untried.is_empty()).then(|| now + NEXT_DELAY);
        true
    }

    /// When [`Relays::tick`] is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.open.iter().filter_map(RelayConnection::deadline).chain(self.try_at).min()
    }

    /// Sends a datagram from this address of ours; false if it is none at a TURN server.
    pub(super) fn send(&mut self, from: SocketAddr, to: SocketAddr, datagram: &[u8]) -> bool {
        let connection = self.open.iter_mut().find(|connection| connection.address() == Some(from));
        connection.map(|connection| connection.send(to, datagram)).is_some()
    }

    /// What has happened.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Relayed> {
        for i in 0..self.opening.len() {
            let Poll::Ready(opened) = self.opening[i].as_mut().poll(cx) else { continue };
            drop(self.opening.swap_remove(i));
            match opened {
                Ok(connection) => self.open.push(connection),
                Err(error) => tracing::debug!(%error, "no connection to a TURN server"),
            }
            return Poll::Ready(Relayed::Progress);
        }
        for i in 0..self.open.len() {
            let Poll::Ready(arrived) = self.open[i].poll(cx) else { continue };
            return Poll::Ready(self.arrived(i, arrived));
        }
        Poll::Pending
    }

    fn arrived(&mut self, i: usize, arrived: io::Result<Arrived>) -> Relayed {
        use crate::relay::RelayEvent;
        let (address, local, server) = (self.open[i].address(), self.open[i].local(), self.open[i].server());
        match arrived {
            Ok(Arrived::Datagrams(datagrams)) => match address {
                Some(address) if !datagrams.is_empty() => Relayed::Datagrams { address, datagrams },
                _ => Relayed::Progress,
            },
            Ok(Arrived::Event(RelayEvent::Open(address))) => {
                tracing::debug!(%server, %address, "an address at a TURN server");
                Relayed::Opened { address, local }
            }
            Ok(Arrived::Event(RelayEvent::Closed(address))) => {
                tracing::debug!(%server, "no address at this TURN server");
                self.open.swap_remove(i);
                Relayed::Closed { address, local }
            }
            Err(error) => {
                tracing::debug!(%server, %error, "the connection to a TURN server is gone");
                self.open.swap_remove(i);
                Relayed::Closed { address, local }
            }
        }
    }

    /// Gives all addresses back.
    pub(super) fn release(&mut self) {
        self.open.iter_mut().for_each(RelayConnection::release);
    }
}
