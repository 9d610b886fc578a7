//! A UDP socket of a peer connection, read and written many datagrams at a time: a picture comes and goes as a dozen of them, and
//! each call into the kernel costs about as much as all that is done to a packet in between.

use crate::Error;
use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::io::{self, ErrorKind, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::task::{Context, Poll, ready};
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// What the kernel may hold in each direction, if it lets us: two seconds of 16 Mbit/s, for stalls of this process.
const BUFFER: usize = 4 * 1024 * 1024;
/// Bytes of what the kernel hands out at once: it puts datagrams of one sender that are equally long together (UDP_GRO), as many
/// as make the longest IP packet.
const MESSAGE: usize = 64 << 10;
/// Bytes that are handed to the kernel at once at the most, all headers included (RFC 791 §3.1: 65,535).
const MOST: usize = 65_000;

#[derive(Debug)]
pub(crate) struct Udp {
    socket: UdpSocket,
    batch: UdpSocketState,
    pub(crate) address: SocketAddr,
}

impl Udp {
    /// Opens a socket at a port that the kernel chooses. Needs a tokio runtime.
    pub(crate) fn bind(ip: IpAddr) -> Result<Self, Error> {
        Self::open(SocketAddr::new(ip, 0)).map_err(|source| Error::Socket { address: ip, source })
    }

    /// Opens a socket at this port. Needs a tokio runtime.
    pub(crate) fn open(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        // Best effort: net.core.rmem_max and wmem_max may be lower, and smaller buffers still work.
        let _ = socket.set_recv_buffer_size(BUFFER);
        let _ = socket.set_send_buffer_size(BUFFER);
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        let socket = UdpSocket::from_std(socket.into())?;
        let batch = UdpSocketState::new((&socket).into())?;
        Ok(Self { address: socket.local_addr()?, socket, batch })
    }

    /// Waits until there is something to read.
    pub(crate) fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_recv_ready(cx)
    }

    /// Reads what waits, as far as there is room: [`ErrorKind::WouldBlock`] if nothing does.
    pub(crate) fn read(&self, room: &mut Room) -> io::Result<()> {
        self.socket.try_io(Interest::READABLE, || room.fill(self))
    }

    /// Reads what waits once something does.
    pub(crate) fn poll_read(&self, cx: &mut Context<'_>, room: &mut Room) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_ready(cx))?;
            match self.read(room) {
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                read => return Poll::Ready(read),
            }
        }
    }

    /// Sends a datagram, or loses it: the socket is full only when this process floods it, and routes come and go.
    pub(crate) fn send(&self, to: SocketAddr, datagram: &[u8]) {
        // Straight to the kernel: tokio's own try_send_to refuses until its reactor has seen the socket writable once.
        if let Err(e) = SockRef::from(&self.socket).send_to(datagram, &to.into()) {
            tracing::trace!(%to, error = %e, "datagram lost at our own socket");
        }
    }

    /// Sends datagrams that lie one behind the other, each of `segment` bytes but the last, which may be shorter.
    fn send_segments(&self, to: SocketAddr, datagrams: &[u8], segment: usize) {
        if datagrams.len() > segment {
            let all =
                Transmit { destination: to, ecn: None, contents: datagrams, segment_size: Some(segment), src_ip: None };
            match self.batch.try_send((&self.socket).into(), &all) {
                // Full: lost, as above.
                Err(e) if e.kind() != ErrorKind::WouldBlock => {
                    tracing::debug!(%to, error = %e, "datagrams can't be sent together");
                }
                _ => return,
            }
        }
        datagrams.chunks(segment.max(1)).for_each(|datagram| self.send(to, datagram));
    }
}

/// Room for what is read at once; of itself for nothing.
#[derive(Default)]
pub(crate) struct Room {
    /// Pages of it that are never written to are no memory.
    memory: Vec<u8>,
    meta: Vec<RecvMeta>,
    filled: usize,
}

impl std::fmt::Debug for Room {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Room").field("messages", &self.meta.len()).field("filled", &self.filled).finish()
    }
}

impl Room {
    /// For so many messages of the kernel's, each of one or more datagrams.
    pub(crate) fn new(messages: usize) -> Self {
        Self { memory: vec![0; messages * MESSAGE], meta: vec![RecvMeta::default(); messages], filled: 0 }
    }

    fn fill(&mut self, udp: &Udp) -> io::Result<()> {
        self.filled = 0;
        let mut slices: Vec<_> = self.memory.chunks_mut(MESSAGE).map(IoSliceMut::new).collect();
        self.filled = udp.batch.recv((&udp.socket).into(), &mut slices, &mut self.meta)?;
        Ok(())
    }

    /// The datagrams last read, and whom they are from.
    pub(crate) fn datagrams(&self) -> impl Iterator<Item = (SocketAddr, &[u8])> {
        let messages = self.memory.chunks(MESSAGE).zip(&self.meta).take(self.filled);
        messages.flat_map(|(memory, meta)| {
            let message = memory.get(..meta.len).unwrap_or_default();
            message.chunks(meta.stride.max(1)).map(|datagram| (meta.addr, datagram))
        })
    }
}

/// Gathers datagrams that go the same way and are of one length, but for the last, so that they are sent together.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// The address to send from, and to.
    way: Option<(SocketAddr, SocketAddr)>,
    datagrams: Vec<u8>,
    segment: usize,
    count: usize,
}

impl Outbox {
    /// Takes a datagram, and sends what was there if it does not go with it.
    pub(crate) fn push(&mut self, sockets: &[Udp], from: SocketAddr, to: SocketAddr, datagram: &[u8]) {
        if !self.goes_with(sockets, from, to, datagram) {
            self.send(sockets);
            (self.way, self.segment) = (Some((from, to)), datagram.len());
        }
        self.datagrams.extend_from_slice(datagram);
        self.count += 1;
    }

    fn goes_with(&self, sockets: &[Udp], from: SocketAddr, to: SocketAddr, datagram: &[u8]) -> bool {
        // A shorter one is the last.
        let whole = self.datagrams.len() == self.count * self.segment;
        let most = sockets.iter().find(|u| u.address == from).map_or(1, |u| u.batch.max_gso_segments());
        self.way == Some((from, to))
            && whole
            && (1..=self.segment).contains(&datagram.len())
            && self.count < most
            && self.datagrams.len() + datagram.len() <= MOST
    }

    /// Sends what is there.
    pub(crate) fn send(&mut self, sockets: &[Udp]) {
        if let Some((from, to)) = self.way.take()
            && let Some(udp) = sockets.iter().find(|u| u.address == from)
        {
            udp.send_segments(to, &self.datagrams, self.segment);
        }
        self.datagrams.clear();
        self.count = 0;
    }
}
