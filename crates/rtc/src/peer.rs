//! An engine with its sockets and its clock, in one task: whoever polls [`Peer::next`] drives it.

use crate::engine::{Config, Engine, Event, Frame, Lines, Transport};
use crate::tcp::{self, Tcp};
use crate::udp::{Outbox, Room, Udp};
use crate::{Error, address};
use model::{Kind, Packet};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::time::Sleep;

/// How long UDP may try alone before TCP is tried too: several round trips around the world.
const TCP_DELAY: Duration = Duration::from_secs(1);
/// The same while the server has named no UDP address: one may follow in the next message, or never, where the server
/// remembers that UDP failed us.
const TCP_ALONE_DELAY: Duration = Duration::from_millis(150);
/// Nothing at all received for so long means that the way is broken: the other side answers a check of ours every 3 s, and
/// reports on our media every second. Much sooner than ICE's own verdict, and longer than a check that gets lost.
const SILENCE: Duration = Duration::from_secs(5);
/// Addresses of ours at the most. Each server address can bring one more.
const MAX_SOCKETS: usize = 8;
/// Ways over TCP remembered at the most.
const MAX_TCP: usize = 4;
/// How often one socket is read in one go, so that no socket and no timer starves.
const BURST: usize = 16;
/// The longest datagram that can come over TCP; longer ones are cut, and then refused as damaged.
const DATAGRAM: usize = 2048;

/// A peer connection. Its methods don't wait; [`Peer::next`] does.
pub struct Peer {
    engine: Engine,
    loopback: bool,
    lose_one_in: u32,
    sent: u32,
    udp: Vec<Udp>,
    tcp: Option<Tcp>,
    opening: Option<Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>>,
    /// The server's TCP addresses; those of them not tried yet, and from when on to try.
    tcp_known: Vec<SocketAddr>,
    tcp_remotes: VecDeque<SocketAddr>,
    tcp_at: Option<Instant>,
    /// New ways were offered, for which every address is to be tried anew once the answer is there.
    restarting: bool,
    /// Media goes over TCP, and the server is about to close that connection for the new ways.
    renew_tcp: bool,
    /// The server has named a UDP address.
    udp_remote: bool,
    heard: Instant,
    timer: Pin<Box<Sleep>>,
    buffer: Box<[u8; DATAGRAM]>,
    room: Room,
    outbox: Outbox,
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peer").field("engine", &self.engine).field("udp", &self.udp).finish_non_exhaustive()
    }
}

impl Peer {
    /// A peer connection whose first offer holds the addresses from which `toward` is reached. `loopback` says whether
    /// loopback addresses may be among them. Needs a tokio runtime with time and IO.
    pub fn new(config: &Config, toward: &[SocketAddr], loopback: bool) -> Result<Self, Error> {
        let now = Instant::now();
        let mut peer = Self {
            engine: Engine::new(config, now),
            loopback,
            lose_one_in: 0,
            sent: 0,
            udp: Vec::new(),
            tcp: None,
            opening: None,
            tcp_known: Vec::new(),
            tcp_remotes: VecDeque::new(),
            tcp_at: None,
            restarting: false,
            renew_tcp: false,
            udp_remote: false,
            heard: now,
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            buffer: Box::new([0; DATAGRAM]),
            // Reports come one by one.
            room: Room::new(1),
            outbox: Outbox::default(),
        };
        for remote in toward {
            peer.bind_toward(*remote)?;
        }
        // These are in the offer; only later ones are news.
        while let Some(Event::LocalCandidate(_)) = peer.engine.event() {}
        peer.flush()?;
        Ok(peer)
    }

    /// For tests of repair: leaves out one of so many datagrams once media flows; 0 leaves out none.
    #[doc(hidden)]
    pub fn lose_one_in(&mut self, n: u32) {
        self.lose_one_in = n;
    }

    /// See [`Engine::offer`].
    pub fn offer(&mut self, add: &Lines, restart: bool) -> Result<Option<String>, Error> {
        let offer = self.engine.offer(add, restart);
        self.restarting |= restart;
        self.flush()?;
        Ok(offer)
    }

    /// See [`Engine::answer`].
    pub fn answer(&mut self, sdp: &str) -> Result<(), Error> {
        self.engine.answer(sdp)?;
        self.heard = Instant::now();
        if std::mem::take(&mut self.restarting) && !self.tcp_known.is_empty() {
            // UDP may be what has failed; and a connection over TCP belongs to the ways before (the server ends it).
            self.renew_tcp = self.tcp.is_some();
            self.tcp_remotes = self.tcp_known.iter().copied().collect();
            self.tcp_at = Some(self.heard + if self.renew_tcp { Duration::ZERO } else { TCP_DELAY });
        }
        self.hurry()
    }

    /// Adds a way to reach the other side, from a `candidate:` line, and opens a socket for it where needed.
    pub fn add_remote(&mut self, line: &str) -> Result<(), Error> {
        let Some((transport, remote)) = self.engine.add_remote(line) else { return Ok(()) };
        if remote.ip().is_loopback() && !self.loopback {
            return Ok(());
        }
        match transport {
            Transport::Udp => {
                if !std::mem::replace(&mut self.udp_remote, true) && self.tcp_at.is_some() {
                    self.tcp_at = Some(Instant::now() + TCP_DELAY);
                }
                if let Err(e) = self.bind_toward(remote) {
                    tracing::debug!(%remote, error = %e, "no socket towards a remote candidate");
                }
            }
            Transport::Tcp => {
                if !self.tcp_known.contains(&remote) && self.tcp_known.len() < MAX_TCP {
                    self.tcp_known.push(remote);
                    self.tcp_remotes.push_back(remote);
                    let delay = if self.udp_remote { TCP_DELAY } else { TCP_ALONE_DELAY };
                    self.tcp_at.get_or_insert(Instant::now() + delay);
                }
            }
        }
        self.hurry()
    }

    /// Whether frames can be sent.
    pub fn is_up(&self) -> bool {
        self.engine.is_up()
    }

    /// Whether frames of this kind can be sent, see [`Engine::takes`].
    pub fn takes(&self, kind: Kind) -> bool {
        self.engine.takes(kind)
    }

    /// Sends a frame, see [`Engine::write`].
    pub fn write(&mut self, kind: Kind, layer: usize, frame: &Frame<'_>) -> Result<(), Error> {
        let now = Instant::now();
        self.engine.write(kind, layer, frame, now);
        self.engine.tick(now)?;
        self.flush()
    }

    /// See [`Engine::rest`].
    pub fn rest(&mut self, layer: usize) {
        self.engine.rest(layer);
    }

    /// See [`Engine::forget`].
    pub fn forget(&mut self, layer: usize) {
        self.engine.forget(layer);
    }

    /// Queues packets that are passed on, each with whether others were left out before it, and sends them; see
    /// [`Engine::forward`].
    pub fn forward<'a>(&mut self, packets: impl Iterator<Item = (&'a Packet, bool)>) -> Result<(), Error> {
        let now = Instant::now();
        for (packet, fresh) in packets {
            self.engine.forward(packet, fresh, now);
            // The engine sends what is queued as time passes; a burst is one step of it.
        }
        self.engine.tick(now)?;
        self.flush()
    }

    /// Says goodbye.
    pub fn close(&mut self) {
        self.engine.close();
        if let Err(e) = self.flush() {
            tracing::debug!(error = %e, "closing without goodbye");
        }
    }

    /// The next thing that happens; drives the connection while it waits. Can be dropped and called again at any time.
    pub async fn next(&mut self) -> Result<Event, Error> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, Error>> {
        loop {
            if let Some(event) = self.engine.event() {
                return Poll::Ready(Ok(event));
            }
            // Sockets before timers: what has arrived tells more than the time does.
            let mut busy = self.poll_udp(cx)?;
            busy |= self.poll_tcp(cx)?;
            busy |= self.poll_time()?;
            if busy {
                continue;
            }
            // The engine may ask for a time that is past; that was dealt with above, without the timer, which is coarse.
            let deadline = self.deadline();
            self.timer.as_mut().reset(deadline.into());
            if self.timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    fn poll_udp(&mut self, cx: &mut Context<'_>) -> Result<bool, Error> {
        let mut busy = false;
        for i in 0..self.udp.len() {
            for _ in 0..BURST {
                // An error does not count as work: should it persist, the next timer looks again, without spinning.
                let Poll::Ready(Ok(())) = self.udp[i].poll_read(cx, &mut self.room) else { break };
                busy = true;
                self.heard = Instant::now();
                let to = self.udp[i].address;
                let room = std::mem::take(&mut self.room);
                for (from, datagram) in room.datagrams() {
                    self.engine.receive(Transport::Udp, from, to, datagram, self.heard);
                    self.hurry()?;
                }
                self.room = room;
            }
        }
        Ok(busy)
    }

    fn poll_tcp(&mut self, cx: &mut Context<'_>) -> Result<bool, Error> {
        if let Some(opening) = &mut self.opening
            && let Poll::Ready(opened) = opening.as_mut().poll(cx)
        {
            self.opening = None;
            match opened.and_then(Tcp::new) {
                Ok(tcp) => {
                    tracing::debug!(remote = %tcp.remote, "trying media over TCP");
                    if let Some(before) = self.tcp.take() {
                        self.engine.remove_local(Transport::Tcp, before.local);
                    }
                    self.engine.add_local(Transport::Tcp, tcp.local);
                    self.tcp = Some(tcp);
                    self.hurry()?;
                }
                Err(e) => tracing::debug!(error = %e, "no way over TCP"),
            }
            return Ok(true);
        }
        let Some(tcp) = &mut self.tcp else { return Ok(false) };
        let read = match tcp.poll_flush(cx) {
            Poll::Ready(Err(e)) => Poll::Ready(Err(e)),
            _ => tcp.poll_read(cx, &mut self.buffer[..]),
        };
        match read {
            Poll::Pending => Ok(false),
            Poll::Ready(Ok(())) => {
                let (remote, local) = (tcp.remote, tcp.local);
                self.heard = Instant::now();
                while let Some(len) = self.tcp.as_mut().and_then(|t| t.next(&mut self.buffer[..])) {
                    self.engine.receive(Transport::Tcp, remote, local, &self.buffer[..len], self.heard);
                    self.hurry()?;
                }
                Ok(true)
            }
            Poll::Ready(Err(e)) => {
                tracing::debug!(error = %e, "the TCP connection for media is gone");
                let local = tcp.local;
                self.tcp = None;
                self.engine.remove_local(Transport::Tcp, local);
                self.hurry()?;
                Ok(true)
            }
        }
    }

    fn poll_time(&mut self) -> Result<bool, Error> {
        let now = Instant::now();
        if self.engine.is_up() && now.duration_since(self.heard) >= SILENCE {
            self.heard = now;
            self.engine.lost();
            return Ok(true);
        }
        if self.tcp_at.is_some_and(|at| at <= now) {
            self.tcp_at = None;
            let renew = std::mem::take(&mut self.renew_tcp);
            let needed = renew || (!self.engine.is_up() && self.tcp.is_none());
            if needed
                && self.opening.is_none()
                && let Some(remote) = self.tcp_remotes.pop_front()
            {
                self.opening = Some(tcp::open(remote));
                // The next one, should this fail.
                self.tcp_at = (!self.tcp_remotes.is_empty()).then(|| now + TCP_DELAY);
                return Ok(true);
            }
        }
        if self.engine.deadline() <= now {
            self.engine.tick(now)?;
            self.flush()?;
            return Ok(true);
        }
        Ok(false)
    }

    fn deadline(&self) -> Instant {
        let silence = self.engine.is_up().then_some(self.heard + SILENCE);
        [silence, self.tcp_at].into_iter().flatten().fold(self.engine.deadline(), Instant::min)
    }

    fn bind_toward(&mut self, remote: SocketAddr) -> Result<(), Error> {
        let Some(ip) = address::toward(remote) else { return Ok(()) };
        let unwanted = ip.is_loopback() && !self.loopback;
        if unwanted || self.udp.len() >= MAX_SOCKETS || self.udp.iter().any(|u| u.address.ip() == ip) {
            return Ok(());
        }
        let udp = Udp::bind(ip)?;
        self.engine.add_local(Transport::Udp, udp.address);
        self.udp.push(udp);
        Ok(())
    }

    /// Flushes; and while the connection is not up, lets the engine do its next step at once: left alone it waits 50 ms
    /// before each (RFC 8445 §14.2, which spaces checks for agents with many candidate pairs; here are one or two).
    fn hurry(&mut self) -> Result<(), Error> {
        self.flush()?;
        if !self.engine.is_up() {
            self.engine.tick(Instant::now())?;
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        let Self { engine, udp, tcp, lose_one_in, sent, outbox, .. } = self;
        let lossy = *lose_one_in > 0 && engine.is_up();
        let drained = engine.drain(|transport, from, to, datagram| {
            *sent = sent.wrapping_add(1);
            if lossy && sent.is_multiple_of(*lose_one_in) {
                return;
            }
            match transport {
                Transport::Udp => outbox.push(udp, from, to, datagram),
                Transport::Tcp => {
                    if let Some(tcp) = tcp.as_mut().filter(|t| t.remote == to) {
                        tcp.send(datagram);
                    }
                }
            }
        });
        outbox.send(udp);
        drained
    }
}

#[cfg(test)]
mod tests;
