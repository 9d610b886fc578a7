//! ICE-TCP, passive side (RFC 6544): others connect to us, each datagram behind its length (RFC 4571).

use super::mux::{Datagram, Mux};
use crate::framing;
use crate::transport::Transport;
use bytes::Bytes;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, timeout, timeout_at};

/// Connections at a time, of which most belong to a session; a stranger's is closed after [`IDENTIFY_TIMEOUT`].
const MAX_CONNECTIONS: usize = 1024;
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

/// Takes connections for ever.
pub(super) async fn listen(listener: TcpListener, mux: Mux) {
    let capacity = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(permit) = capacity.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, from)) => {
                let mux = mux.clone();
                tokio::spawn(async move {
                    if let Err(e) = serve(stream, from, mux).await {
                        tracing::trace!(%from, error = %e, "ICE-TCP connection ended");
                    }
                    drop(permit);
                });
            }
            Err(e) => {
                tracing::warn!(error = %e, "no more ICE-TCP connections for now");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve(mut stream: TcpStream, from: SocketAddr, mux: Mux) -> io::Result<()> {
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
                known = true;
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
