//! The paths of a connection that we open: UDP sockets of its own, a TCP connection where UDP does not work, and addresses at TURN
//! servers where neither does.

use super::relays::{Relayed, Relays};
use super::route::local_address_toward;
use super::tcp_fallback::TcpFallback;
use crate::Error;
use crate::driver::Driver;
use crate::roles::sender::Sender;
use crate::runner::{Paths, Runner};
use crate::transport::{Transport, is_media};
use crate::udp::{ReceiveBatch, SendBatch, Udp};
use std::net::SocketAddr;
use std::task::{Context, Poll};
use std::time::Instant;

/// Addresses of ours at most. Each address of the SFU can bring one more.
const MAX_SOCKETS: usize = 8;
/// How often one socket is read in one go, so that no socket and no timer starves.
const MAX_READS: usize = 16;
/// The longest datagram that can come over TCP; longer ones are cut, and then refused as damaged.
const MAX_DATAGRAM: usize = 2048;

/// See the [module](self).
pub(super) struct PeerPaths {
    loopback: bool,
    udp: Vec<Udp>,
    pub(super) tcp: TcpFallback,
    pub(super) relays: Relays,
    received: ReceiveBatch,
    to_send: SendBatch,
    datagram: Box<[u8; MAX_DATAGRAM]>,
    /// For tests: of so many datagrams of media one is lost; 0 for none.
    pub(super) lose_one_in: u32,
    media_sent: u32,
}

impl std::fmt::Debug for PeerPaths {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeerPaths").field("udp", &self.udp).finish_non_exhaustive()
    }
}

impl PeerPaths {
    /// Without any socket. `loopback`: whether loopback addresses are used.
    pub(super) fn new(loopback: bool) -> Self {
        Self {
            loopback,
            udp: Vec::new(),
            tcp: TcpFallback::default(),
            relays: Relays::default(),
            // Reports come one by one.
            received: ReceiveBatch::new(1),
            to_send: SendBatch::default(),
            datagram: Box::new([0; MAX_DATAGRAM]),
            lose_one_in: 0,
            media_sent: 0,
        }
    }

    /// Whether this address of the SFU's is of use.
    pub(super) fn may_reach(&self, remote: SocketAddr) -> bool {
        self.loopback || !remote.ip().is_loopback()
    }

    /// Opens a UDP socket on the address from which `remote` is reached, unless there is one.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub(super) fn bind_toward(&mut self, driver: &mut Driver<Sender>, remote: SocketAddr) -> Result<(), Error> {
        let Some(ip) = local_address_toward(remote) else { return Ok(()) };
        let unwanted = ip.is_loopback() && !self.loopback;
        if unwanted || self.udp.len() >= MAX_SOCKETS || self.udp.iter().any(|u| u.address.ip() == ip) {
            return Ok(());
        }
        let udp = Udp::bind(ip)?;
        driver.add_local(Transport::Udp, udp.address);
        self.udp.push(udp);
        Ok(())
    }

    /// For tests of repair: whether this datagram is lost.
    fn loses(&mut self, datagram: &[u8]) -> bool {
        if self.lose_one_in == 0 || !is_media(datagram) {
            return false;
        }
        self.media_sent = self.media_sent.wrapping_add(1);
        self.media_sent.is_multiple_of(self.lose_one_in)
    }
}

impl Paths for PeerPaths {
    type Role = Sender;

    fn poll_input(runner: &mut Runner<Self>, cx: &mut Context<'_>) -> Result<bool, Error> {
        Ok(poll_udp(runner, cx)? | poll_tcp(runner, cx)? | poll_relays(runner, cx)?)
    }

    fn tick(&mut self, driver: &mut Driver<Sender>, now: Instant) -> bool {
        let up = driver.is_up();
        self.tcp.tick(up, now) | self.relays.tick(up, now)
    }

    fn deadline(&self) -> Option<Instant> {
        [self.tcp.deadline(), self.relays.deadline()].into_iter().flatten().min()
    }

    fn send(&mut self, transport: Transport, from: SocketAddr, to: SocketAddr, datagram: &[u8]) {
        if self.loses(datagram) {
            return;
        }
        match transport {
            Transport::Udp if self.relays.send(from, to, datagram) => {}
            Transport::Udp => self.to_send.push(&self.udp, from, to, datagram),
            Transport::Tcp => {
                if let Some(tcp) = self.tcp.connection().filter(|tcp| tcp.remote == to) {
                    tcp.send(datagram);
                }
            }
        }
    }

    fn flush(&mut self) {
        self.to_send.send(&self.udp);
    }
}

fn poll_udp(runner: &mut Runner<PeerPaths>, cx: &mut Context<'_>) -> Result<bool, Error> {
    let mut busy = false;
    for i in 0..runner.paths.udp.len() {
        for _ in 0..MAX_READS {
            let PeerPaths { udp, received, .. } = &mut runner.paths;
            let to = udp[i].address;
            // An error does not count as work: should it persist, the next timer looks again, without spinning.
            let Poll::Ready(Ok(())) = udp[i].poll_read(cx, received) else { break };
            busy = true;
            let now = Instant::now();
            let received = std::mem::take(received);
            for (from, datagram) in received.datagrams() {
                if runner.driver.receive(Transport::Udp, from, to, datagram, now) {
                    runner.advance(now)?;
                }
            }
            runner.paths.received = received;
        }
    }
    Ok(busy)
}

fn poll_tcp(runner: &mut Runner<PeerPaths>, cx: &mut Context<'_>) -> Result<bool, Error> {
    if let Poll::Ready(opened) = runner.paths.tcp.poll_opened(cx) {
        match opened {
            Ok(tcp) => {
                tracing::debug!(remote = %tcp.remote, "trying media over TCP");
                let local = tcp.local;
                if let Some(before) = runner.paths.tcp.replace(Some(tcp)) {
                    runner.driver.remove_local(Transport::Tcp, before.local);
                }
                runner.driver.add_local(Transport::Tcp, local);
                runner.advance(Instant::now())?;
            }
            Err(error) => tracing::debug!(%error, "no TCP connection for media"),
        }
        return Ok(true);
    }
    let PeerPaths { tcp, datagram, .. } = &mut runner.paths;
    let Some(tcp) = tcp.connection() else { return Ok(false) };
    let (remote, local) = (tcp.remote, tcp.local);
    let read = match tcp.poll_flush(cx) {
        Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
        _ => tcp.poll_read(cx, &mut datagram[..]),
    };
    match read {
        Poll::Pending => Ok(false),
        Poll::Ready(Ok(())) => {
            let now = Instant::now();
            loop {
                let PeerPaths { tcp, datagram, .. } = &mut runner.paths;
                let Some(len) = tcp.connection().and_then(|tcp| tcp.next(&mut datagram[..])) else { return Ok(true) };
                if runner.driver.receive(Transport::Tcp, remote, local, &datagram[..len], now) {
                    runner.advance(now)?;
                }
            }
        }
        Poll::Ready(Err(error)) => {
            tracing::debug!(%error, "the TCP connection for media is gone");
            runner.paths.tcp.replace(None);
            runner.driver.remove_local(Transport::Tcp, local);
            runner.advance(Instant::now())?;
            Ok(true)
        }
    }
}

fn poll_relays(runner: &mut Runner<PeerPaths>, cx: &mut Context<'_>) -> Result<bool, Error> {
    let Poll::Ready(relayed) = runner.paths.relays.poll(cx) else { return Ok(false) };
    let now = Instant::now();
    match relayed {
        Relayed::Opened { address, local } => {
            runner.driver.add_relayed(address, local);
            runner.advance(now)?;
        }
        Relayed::Closed { address, local } => {
            if let Some(address) = address {
                runner.driver.remove_relayed(address, local);
                runner.advance(now)?;
            }
        }
        Relayed::Datagrams { address, datagrams } => {
            for (from, datagram) in datagrams {
                if runner.driver.receive(Transport::Udp, from, address, &datagram, now) {
                    runner.advance(now)?;
                }
            }
        }
        Relayed::Progress => {}
    }
    Ok(true)
}
