//! ICE-TCP, passive side (RFC 6544): others connect to us, each datagram behind its length (RFC 4571).

use super::mux::{Datagram, Mux};
use crate::framing;
use crate::transport::Transport;
use bytes::Bytes;
use model::{ConnectionLimits, ConnectionSlot, LogBudget, Refusal};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

/// Connections at a time, of which most belong to a session; a stranger's is closed after [`IDENTIFY_TIMEOUT`], or gives way to a
/// younger one before that.
const MAX_CONNECTIONS: usize = 1024;
/// Connections of one address (IPv6: of one /64) that have not named their session. Clients open a few, and name it at once.
const MAX_STRANGERS_PER_ADDRESS: usize = 64;
/// How long a connection may take to name its session.
const IDENTIFY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long it may then be silent: sessions end after less.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a client may take to read what we sent it.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// Datagrams that may wait for it: answers to checks, and reports, no media.
const OUTGOING_QUEUE: usize = 64;
/// Bytes read at once.
const READ_BUFFER: usize = 16 << 10;
/// The longest datagram that can come; longer ones are cut, and then refused as damaged.
const MAX_DATAGRAM: usize = 2048;

type Limits = ConnectionLimits<oneshot::Sender<()>>;

/// Takes connections for ever.
pub(super) async fn listen(listener: TcpListener, mux: Mux) {
    let limits = Arc::new(Limits::new(MAX_CONNECTIONS, MAX_STRANGERS_PER_ADDRESS));
    let log = LogBudget::default();
    loop {
        match listener.accept().await {
            Ok((stream, from)) => {
                let (token, eviction) = oneshot::channel();
                let entered = limits.enter(Some(from.ip()), token);
                let Ok(slot) = entered.inspect_err(|refusal| note(&log, from, *refusal)) else { continue };
                tokio::spawn(run(stream, from, slot, eviction, mux.clone()));
            }
            Err(error) => {
                if let Some(unlogged) = log.may_log() {
                    tracing::warn!(%error, unlogged, "no more ICE-TCP connections for now");
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn note(log: &LogBudget, from: SocketAddr, refusal: Refusal) {
    if let Some(unlogged) = log.may_log() {
        tracing::warn!(%from, reason = refusal.label(), unlogged, "ICE-TCP connection refused");
    }
}

async fn run(
    stream: TcpStream,
    from: SocketAddr,
    slot: ConnectionSlot<oneshot::Sender<()>>,
    eviction: oneshot::Receiver<()>,
    mux: Mux,
) {
    tokio::select! {
        ended = serve(stream, from, &slot, mux) => {
            if let Err(e) = ended {
                tracing::trace!(%from, error = %e, "ICE-TCP connection ended");
            }
        }
        // Nothing is ever sent: its sender is dropped when the connection has to give way.
        _ = eviction => tracing::trace!(%from, "ICE-TCP connection gave way"),
    }
}

async fn serve(
    mut stream: TcpStream,
    from: SocketAddr,
    slot: &ConnectionSlot<oneshot::Sender<()>>,
    mux: Mux,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let to = stream.local_addr()?;
    let (mut read, mut write) = stream.split();
    let (reply_to, mut outgoing) = mpsc::channel::<Bytes>(OUTGOING_QUEUE);
    let reading = async {
        let mut incoming = framing::Deframer::default();
        let (mut bytes, mut datagram) = (vec![0; READ_BUFFER], [0; MAX_DATAGRAM]);
        let (mut known, first) = (false, Instant::now() + IDENTIFY_TIMEOUT);
        loop {
            let by = if known { Instant::now() + IDLE_TIMEOUT } else { first };
            let n = timeout_at(by, read.read(&mut bytes)).await??;
            if n == 0 {
                return Ok(());
            }
            incoming.extend(&bytes[..n]);
            while let Some(length) = incoming.next(&mut datagram) {
                let data = &datagram[..length];
                if !known && !mux.knows(data) {
                    return Err(io::ErrorKind::InvalidData.into());
                }
                if !std::mem::replace(&mut known, true) && !slot.publishes() {
                    return Ok(());
                }
                let (data, reply_to) = (Bytes::copy_from_slice(data), Some(reply_to.clone()));
                mux.dispatch(Datagram { transport: Transport::Tcp, from, to, data, reply_to });
            }
        }
    };
    let writing = async {
        while let Some(data) = outgoing.recv().await {
            let Ok(length) = u16::try_from(data.len()) else { continue };
            let framed = [&length.to_be_bytes()[..], &data].concat();
            timeout(WRITE_TIMEOUT, write.write_all(&framed)).await??;
        }
        Ok(())
    };
    tokio::select! {
        ended = reading => ended,
        ended = writing => ended,
    }
}
