//! A UDP socket of a peer connection.

use crate::Error;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::task::{Context, Poll};
use tokio::io::ReadBuf;
use tokio::net::UdpSocket;

/// What the kernel may hold in each direction, if it lets us: two seconds of 16 Mbit/s, for stalls of this process.
const BUFFER: usize = 4 * 1024 * 1024;

#[derive(Debug)]
pub(crate) struct Udp {
    socket: UdpSocket,
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
        Ok(Self { address: socket.local_addr()?, socket })
    }

    /// Reads a datagram into the spare room of `buffer`.
    pub(crate) async fn recv_into(&self, buffer: &mut bytes::BytesMut) -> io::Result<(usize, SocketAddr)> {
        self.socket.recv_buf_from(buffer).await
    }

    /// Reads one if one waits.
    pub(crate) fn try_recv_into(&self, buffer: &mut bytes::BytesMut) -> io::Result<(usize, SocketAddr)> {
        self.socket.try_recv_buf_from(buffer)
    }

    /// Sends a datagram, or loses it: the socket is full only when this process floods it, and routes come and go.
    pub(crate) fn send(&self, to: SocketAddr, datagram: &[u8]) {
        // Straight to the kernel: tokio's own try_send_to refuses until its reactor has seen the socket writable once.
        if let Err(e) = SockRef::from(&self.socket).send_to(datagram, &to.into()) {
            tracing::trace!(%to, error = %e, "datagram lost at our own socket");
        }
    }

    pub(crate) fn poll_recv(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<(usize, SocketAddr)>> {
        let mut read = ReadBuf::new(buffer);
        self.socket.poll_recv_from(cx, &mut read).map_ok(|from| (read.filled().len(), from))
    }
}
