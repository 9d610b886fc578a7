//! The tasks that read the UDP sockets. To whom datagrams belong is decided by their source address and first bytes alone.

use super::mux::{Datagram, Mux};
use crate::transport::{Transport, is_media};
use crate::udp::{ReceiveBatch, Udp};
use bytes::BytesMut;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

/// The longest datagram that is taken: no path has a larger one for media.
const MAX_DATAGRAM: usize = 2048;
/// Memory for datagrams, taken in pieces of this many bytes: some fifty packets of media share one.
const CHUNK: usize = 64 << 10;
/// Messages of one or more datagrams that are read before others get their turn: of a shared port, and of a session's own.
const SHARED_MESSAGES: usize = 32;
const EXCLUSIVE_MESSAGES: usize = 8;
/// How long to let media gather before it is read: a frame is a dozen datagrams that come one by one, and each that is taken
/// alone wakes four tasks on its way to the room. A viewer notices nothing: the timer's own grain is a millisecond.
const GATHER_TIME: Duration = Duration::from_millis(1);

/// Reads a socket that sessions share.
pub(super) async fn read_shared(socket: Arc<Udp>, mux: Mux) {
    read(socket, SHARED_MESSAGES, |datagram| _ = mux.dispatch(datagram)).await;
}

/// Reads a socket that one session has for itself.
pub(super) fn read_exclusive(socket: Arc<Udp>, inbox: mpsc::Sender<Datagram>) -> AbortHandle {
    let reading = async move {
        // A full inbox loses the datagram, as a busy network would.
        read(socket, EXCLUSIVE_MESSAGES, |datagram| _ = inbox.try_send(datagram)).await;
    };
    tokio::spawn(reading).abort_handle()
}

/// Reads a socket for ever.
async fn read(socket: Arc<Udp>, messages: usize, hand_on: impl Fn(Datagram)) {
    let mut batch = ReceiveBatch::new(messages);
    let mut buffer = BytesMut::new();
    let mut media = false;
    loop {
        let ready = poll_fn(|cx| socket.poll_ready(cx)).await;
        // Handshakes are not kept waiting; of media the rest of a frame is on its way.
        if media {
            tokio::time::sleep(GATHER_TIME).await;
        }
        media = false;
        match ready.and_then(|()| socket.read(&mut batch)) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
            // ICMP errors of somebody's closed port come out here; they are nobody else's business.
            Err(error) => tracing::trace!(%error, "receiving media"),
        }
        for (from, datagram) in batch.datagrams().filter(|(_, d)| d.len() <= MAX_DATAGRAM) {
            if buffer.capacity() - buffer.len() < datagram.len() {
                buffer = BytesMut::with_capacity(CHUNK);
            }
            buffer.extend_from_slice(datagram);
            let (data, to) = (buffer.split().freeze(), socket.address);
            media |= is_media(&data);
            hand_on(Datagram { transport: Transport::Udp, from, to, data, reply_to: None });
        }
        // Others shall have their turn, also while somebody floods the port.
        tokio::task::yield_now().await;
    }
}
