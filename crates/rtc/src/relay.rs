//! An address at a TURN server (RFC 8656): whoever sends to it is heard here, where the network lets nothing else through. Without
//! sockets and without a clock of its own.

mod framing;
mod pair;

pub(crate) use framing::Outbox;
pub use pair::Pair;

use framing::Deframer;
use model::Secret;
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};
use turn_client_proto::api::{DelayedMessageOrChannelSend, Transmit, TurnConfig, TurnEvent, TurnPollRet, TurnRecvRet};
use turn_client_proto::client::TurnClient;
use turn_client_proto::prelude::{DelayedTransmitBuild, TurnClientApi};
use turn_client_proto::tcp::TurnClientTcp;
use turn_client_proto::types::{AddressFamily, TransportType, TurnCredentials};
use turn_client_proto::udp::TurnClientUdp;

/// Addresses of the other side that are sent to at most: it has a few candidates, and each is a permission to refresh.
const MAX_PEERS: usize = 16;
/// Datagrams that wait for the server's permission; more are lost, and ICE repeats its checks.
const MAX_HELD: usize = 16;
/// Steps of the client in a row that all ask for another at once; it takes three.
const MAX_STEPS: usize = 32;
/// When to go on after that.
const PAUSE: Duration = Duration::from_millis(50);
/// How long a request is repeated (RFC 8489 §6.2.1 has 39.5 s): 0.25, 0.5, 1 and 2 s apart, then given up after as much again. Who waits
/// for a room waits 15 s at most.
const FIRST_REPEAT: Duration = Duration::from_millis(250);
const LAST_REPEAT: Duration = Duration::from_secs(2);
const REPEATS: u32 = 4;

/// Datagrams that wait for the server's permission, each with whom it is for.
type Held = VecDeque<(SocketAddr, Vec<u8>)>;

/// How the server is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// One message a datagram.
    Datagrams,
    /// Messages one behind the other: TCP, or TLS over it.
    Stream,
}

/// What becomes of an address at a TURN server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelayEvent {
    /// It is there.
    Open(SocketAddr),
    /// There is none, or not this one any more: the server refuses, does not answer, or speaks no TURN.
    Closed(Option<SocketAddr>),
}

/// A client of one TURN server. After each call, take what is to be sent from [`Relay::transmit`] and what happened from [`Relay::event`].
pub struct Relay {
    client: TurnClient,
    /// Where the client's count of time begins.
    origin: Instant,
    local: SocketAddr,
    server: SocketAddr,
    /// Of a stream, what arrived of the next message.
    incoming: Option<Deframer>,
    address: Option<SocketAddr>,
    closed: bool,
    /// To whom may be sent, or is asked whether we may.
    peers: Vec<Peer>,
    held: Held,
    out: VecDeque<Vec<u8>>,
    events: VecDeque<RelayEvent>,
    deadline: Option<Instant>,
}

/// Without the client, which holds the password.
impl std::fmt::Debug for Relay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Relay").field("server", &self.server).field("address", &self.address).finish_non_exhaustive()
    }
}

/// Somebody who is sent to.
#[derive(Debug)]
struct Peer {
    address: SocketAddr,
    /// A channel is asked for.
    channel: bool,
}

impl Relay {
    /// Asks `server` for an address; `local` is where we reach it from. `v6`: an IPv6 address.
    pub fn new(
        carrier: Carrier,
        local: SocketAddr,
        server: SocketAddr,
        (username, password): (&str, &Secret),
        v6: bool,
        now: Instant,
    ) -> Self {
        let mut config = TurnConfig::new(TurnCredentials::new(username, password.expose()));
        config.set_address_family(if v6 { AddressFamily::IPV6 } else { AddressFamily::IPV4 });
        config.set_request_retransmits(FIRST_REPEAT, LAST_REPEAT, REPEATS, LAST_REPEAT);
        let (client, incoming) = match carrier {
            Carrier::Datagrams => (TurnClient::Udp(TurnClientUdp::allocate(local, server, config)), None),
            Carrier::Stream => {
                (TurnClient::Tcp(TurnClientTcp::allocate(local, server, config)), Some(Deframer::default()))
            }
        };
        let mut relay = Self {
            client,
            origin: now,
            local,
            server,
            incoming,
            address: None,
            closed: false,
            peers: Vec::new(),
            held: VecDeque::new(),
            out: VecDeque::new(),
            events: VecDeque::new(),
            deadline: None,
        };
        relay.tick(now);
        relay
    }

    /// The address, once and as long as there is one.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Takes what came from the server: a datagram, or any piece of the stream. `take` is given what others sent to our address.
    pub fn receive(&mut self, bytes: &[u8], now: Instant, mut take: impl FnMut(SocketAddr, &[u8])) {
        let Some(incoming) = &mut self.incoming else {
            self.message(bytes, now, &mut take);
            return self.tick(now);
        };
        incoming.extend(bytes);
        loop {
            match self.incoming.as_mut().map(Deframer::next) {
                Some(Ok(Some(message))) => self.message(&message, now, &mut take),
                Some(Err(framing::Nonsense)) => {
                    tracing::debug!(server = %self.server, "the TURN server sends what is no TURN");
                    self.close();
                    return;
                }
                Some(Ok(None)) | None => return self.tick(now),
            }
        }
    }

    fn message(&mut self, message: &[u8], now: Instant, take: &mut impl FnMut(SocketAddr, &[u8])) {
        if message.is_empty() || self.closed {
            return;
        }
        let transmit = Transmit::new(message, self.client.transport(), self.server, self.local);
        let now = self.count(now);
        if let TurnRecvRet::PeerData(data) = self.client.recv(transmit, now) {
            take(data.peer, data.data());
        }
    }

    /// Sends a datagram from our address, once the server lets us. `media`: there is more to come for the same address.
    pub fn send(&mut self, to: SocketAddr, datagram: &[u8], media: bool, now: Instant) {
        let Some(own) = self.address.filter(|own| !self.closed && own.is_ipv4() == to.is_ipv4()) else { return };
        let known = self.peers.iter().position(|peer| peer.address == to);
        let Some(index) = known.or_else(|| self.admit(to)) else { return };
        let at = self.count(now);
        if !self.client.have_permission(TransportType::Udp, to.ip()) {
            // Asked for once; the client refreshes it.
            let asked = self.held.iter().any(|(held, _)| held.ip() == to.ip());
            if !asked && let Err(error) = self.client.create_permission(TransportType::Udp, to.ip(), at) {
                tracing::debug!(%own, %to, %error, "the TURN server is not asked for permission");
            }
            if self.held.len() < MAX_HELD {
                self.held.push_back((to, datagram.to_vec()));
            }
            return self.tick(now);
        }
        if media && !std::mem::replace(&mut self.peers[index].channel, true) {
            // 4 bytes before each datagram in place of 36. Without one all goes on as before.
            let _ = self.client.bind_channel(TransportType::Udp, to, at);
            self.tick(now);
        }
        self.pass(to, datagram, at);
    }

    /// Hands a datagram to the server.
    fn pass(&mut self, to: SocketAddr, datagram: &[u8], at: turn_client_proto::types::Instant) {
        if let Ok(Some(sent)) = self.client.send_to(TransportType::Udp, to, datagram, at) {
            let sent: DelayedMessageOrChannelSend<&[u8]> = sent.data;
            self.out.push_back(sent.build());
        }
    }

    fn admit(&mut self, address: SocketAddr) -> Option<usize> {
        if self.peers.len() >= MAX_PEERS {
            return None;
        }
        self.peers.push(Peer { address, channel: false });
        Some(self.peers.len() - 1)
    }

    /// Lets time pass. To be called once [`Relay::deadline`] is reached.
    pub fn tick(&mut self, now: Instant) {
        let at = self.count(now);
        for _ in 0..MAX_STEPS {
            if self.closed {
                return;
            }
            while let Some(transmit) = self.client.poll_transmit(at) {
                self.out.push_back(transmit.data.to_vec());
            }
            while let Some(event) = self.client.poll_event() {
                self.happened(event, at);
            }
            match self.client.poll(at) {
                TurnPollRet::WaitUntil(until) if until > at => {
                    let wait = Duration::from_nanos(u64::try_from(until.as_nanos() - at.as_nanos()).unwrap_or(0));
                    self.deadline = Some(now + wait);
                    return self.check_lost();
                }
                TurnPollRet::Closed => return self.close(),
                // No connections of others' by TCP were asked for.
                _ => {}
            }
        }
        self.deadline = Some(now + PAUSE);
    }

    fn happened(&mut self, event: TurnEvent, at: turn_client_proto::types::Instant) {
        match event {
            TurnEvent::AllocationCreated(_, address) if self.address.is_none() => {
                self.address = Some(address);
                self.events.push_back(RelayEvent::Open(address));
            }
            TurnEvent::AllocationCreateFailed(_) => self.close(),
            TurnEvent::PermissionCreated(_, ip) => {
                let (let_go, held) = self.split_held(ip);
                self.held = held;
                let_go.into_iter().for_each(|(to, datagram)| self.pass(to, &datagram, at));
            }
            TurnEvent::PermissionCreateFailed(_, ip) => {
                tracing::debug!(server = %self.server, %ip, "the TURN server does not let us send there");
                self.held = self.split_held(ip).1;
            }
            // A channel that is not there costs 32 bytes a datagram.
            _ => {}
        }
    }

    /// What waits for this address, and the rest.
    fn split_held(&mut self, ip: IpAddr) -> (Held, Held) {
        std::mem::take(&mut self.held).into_iter().partition(|(to, _)| to.ip() == ip)
    }

    /// An allocation that could not be refreshed is gone without a word.
    fn check_lost(&mut self) {
        if self.address.is_some() && self.client.relayed_addresses().next().is_none() {
            self.close();
        }
    }

    /// Gives the address back.
    pub fn release(&mut self, now: Instant) {
        if self.address.is_some() && !self.closed {
            let at = self.count(now);
            // The server forgets it after a while anyway.
            let _ = self.client.delete(at);
            while let Some(transmit) = self.client.poll_transmit(at) {
                self.out.push_back(transmit.data.to_vec());
            }
        }
        self.closed = true;
        self.deadline = None;
    }

    fn close(&mut self) {
        let address = self.address.take();
        if !std::mem::replace(&mut self.closed, true) {
            self.events.push_back(RelayEvent::Closed(address));
        }
        self.deadline = None;
        self.held.clear();
    }

    /// When [`Relay::tick`] is due.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// The next message for the server. Over a stream its length is made a multiple of four.
    pub fn transmit(&mut self) -> Option<Vec<u8>> {
        self.out.pop_front()
    }

    /// What has happened.
    pub fn event(&mut self) -> Option<RelayEvent> {
        self.events.pop_front()
    }

    /// The client's own count of time, which begins a second in, so that nothing lies before its zero.
    fn count(&self, now: Instant) -> turn_client_proto::types::Instant {
        let since = now.saturating_duration_since(self.origin) + Duration::from_secs(1);
        turn_client_proto::types::Instant::from_nanos(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
    }
}

#[cfg(test)]
mod tests;
