//! A UDP socket, read and written many datagrams at a time: a frame comes and goes as a dozen of them, and each call into the kernel
//! costs about as much as all that is done to a packet in between.

use crate::Error;
use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::io::{self, ErrorKind, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::task::{Context, Poll, ready};
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// Bytes that the kernel may hold in each direction, if it lets us: two seconds of 16 Mbit/s, for stalls of this process.
const SOCKET_BUFFER: usize = 4 * 1024 * 1024;
/// Bytes of a message that the kernel hands out: it puts datagrams of one sender that are equally long together (UDP_GRO), as many
/// as make the longest IP packet.
const MAX_MESSAGE: usize = 64 << 10;
/// Bytes that are handed to the kernel at once at most, all headers included (RFC 791 §3.1: 65,535).
const MAX_BATCH: usize = 65_000;

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
        let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
        let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
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

    /// Reads what waits, as far as the buffers go: [`ErrorKind::WouldBlock`] if nothing does.
    pub(crate) fn read(&self, batch: &mut ReceiveBatch) -> io::Result<()> {
        self.socket.try_io(Interest::READABLE, || batch.fill(self))
    }

    /// Reads what waits once something does.
    pub(crate) fn poll_read(&self, cx: &mut Context<'_>, batch: &mut ReceiveBatch) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_ready(cx))?;
            match self.read(batch) {
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

/// Buffers for what is read at once; by default for nothing.
#[derive(Default)]
pub(crate) struct ReceiveBatch {
    /// Pages of it that are never written to take no memory.
    memory: Vec<u8>,
    meta: Vec<RecvMeta>,
    filled: usize,
}

impl std::fmt::Debug for ReceiveBatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReceiveBatch").field("messages", &self.meta.len()).field("filled", &self.filled).finish()
    }
}

impl ReceiveBatch {
    /// A buffer for that many messages of the kernel, each of one or more datagrams.
    pub(crate) fn new(messages: usize) -> Self {
        Self { memory: vec![0; messages * MAX_MESSAGE], meta: vec![RecvMeta::default(); messages], filled: 0 }
    }

    fn fill(&mut self, udp: &Udp) -> io::Result<()> {
        self.filled = 0;
        let mut slices: Vec<_> = self.memory.chunks_mut(MAX_MESSAGE).map(IoSliceMut::new).collect();
        self.filled = udp.batch.recv((&udp.socket).into(), &mut slices, &mut self.meta)?;
        Ok(())
    }

    /// The datagrams last read, each with its source address.
    pub(crate) fn datagrams(&self) -> impl Iterator<Item = (SocketAddr, &[u8])> {
        let messages = self.memory.chunks(MAX_MESSAGE).zip(&self.meta).take(self.filled);
        messages.flat_map(|(memory, meta)| {
            let message = memory.get(..meta.len).unwrap_or_default();
            message.chunks(meta.stride.max(1)).map(|datagram| (meta.addr, datagram))
        })
    }
}

/// Gathers datagrams that go from one address to one other and are of one length, but for the last, so that they are sent together
/// (GSO).
#[derive(Debug, Default)]
pub(crate) struct SendBatch {
    /// The address to send from, and to.
    addresses: Option<(SocketAddr, SocketAddr)>,
    datagrams: Vec<u8>,
    segment: usize,
    count: usize,
}

impl SendBatch {
    /// Takes a datagram, and sends what was there if it does not go with it.
    pub(crate) fn push(&mut self, sockets: &[Udp], from: SocketAddr, to: SocketAddr, datagram: &[u8]) {
        if !self.goes_with(sockets, from, to, datagram) {
            self.send(sockets);
            (self.addresses, self.segment) = (Some((from, to)), datagram.len());
        }
        self.datagrams.extend_from_slice(datagram);
        self.count += 1;
    }

    fn goes_with(&self, sockets: &[Udp], from: SocketAddr, to: SocketAddr, datagram: &[u8]) -> bool {
        // A shorter one is the last.
        let whole = self.datagrams.len() == self.count * self.segment;
        let max = sockets.iter().find(|u| u.address == from).map_or(1, |u| u.batch.max_gso_segments());
        self.addresses == Some((from, to))
            && whole
            && (1..=self.segment).contains(&datagram.len())
            && self.count < max
            && self.datagrams.len() + datagram.len() <= MAX_BATCH
    }

    /// Sends what is there.
    pub(crate) fn send(&mut self, sockets: &[Udp]) {
        if let Some((from, to)) = self.addresses.take()
            && let Some(udp) = sockets.iter().find(|u| u.address == from)
        {
            udp.send_segments(to, &self.datagrams, self.segment);
        }
        self.datagrams.clear();
        self.count = 0;
    }
}
