//! ICE-TCP, active side (RFC 6544): we open the connection, for networks that let no UDP through.

use crate::framing::{Deframer, Framer};
use socket2::SockRef;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// How long to try to open it; a server that takes longer is none to send live media to.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);

type Opening = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

/// Starts to open a connection.
pub(super) fn open(remote: SocketAddr) -> Opening {
    Box::pin(async move {
        let stream = tokio::time::timeout(OPEN_TIMEOUT, TcpStream::connect(remote)).await??;
        stream.set_nodelay(true)?;
        Ok(stream)
    })
}

pub(super) struct TcpConnection {
    stream: TcpStream,
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    incoming: Deframer,
    outgoing: Framer,
}

impl TcpConnection {
    pub(super) fn new(stream: TcpStream) -> io::Result<Self> {
        let (local, remote) = (stream.local_addr()?, stream.peer_addr()?);
        Ok(Self { stream, local, remote, incoming: Deframer::default(), outgoing: Framer::default() })
    }

    /// Sends a datagram, at once as far as the kernel takes it; the rest goes with [`TcpConnection::poll_flush`].
    pub(super) fn send(&mut self, datagram: &[u8]) {
        let idle = self.outgoing.waiting().is_empty();
        if !self.outgoing.push(datagram) {
            tracing::trace!("datagram lost: the TCP connection is too slow");
            return;
        }
        if idle && let Ok(n) = SockRef::from(&self.stream).send(self.outgoing.waiting()) {
            self.outgoing.written(n);
        }
    }

    /// Writes what waits. An error means that the connection is gone.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.outgoing.waiting().is_empty() {
            let n = ready!(Pin::new(&mut self.stream).poll_write(cx, self.outgoing.waiting()))?;
            self.outgoing.written(n);
        }
        Poll::Ready(Ok(()))
    }

    /// Reads into [`TcpConnection::next`]. An error means that the connection is gone.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<()>> {
        let mut read = ReadBuf::new(buffer);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut read))?;
        if read.filled().is_empty() {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        self.incoming.extend(read.filled());
        Poll::Ready(Ok(()))
    }

    /// Copies the next datagram read to `to`; returns its length.
    pub(super) fn next(&mut self, to: &mut [u8]) -> Option<usize> {
        self.incoming.next(to)
    }
}
