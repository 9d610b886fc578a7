//! When media goes over TCP: once UDP has had its chance, and again after an ICE restart. Knows the SFU's TCP addresses. An address
//! that does not answer within [`TCP_DELAY`] does not hold up the next: the first connection that opens is taken.

use super::tcp_connection::{TcpConnection, open};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

/// How long UDP may try alone before TCP is tried too, and one TCP address before the next: several round trips around the world.
const TCP_DELAY: Duration = Duration::from_secs(1);
/// The same while the SFU has named no UDP address: one may follow in the next message, or never, where the SFU remembers that
/// UDP failed us.
const TCP_ALONE_DELAY: Duration = Duration::from_millis(150);
/// TCP addresses of the SFU that are remembered at most.
const MAX_REMOTES: usize = 4;

/// See the [module](self).
#[derive(Default)]
pub(super) struct TcpFallback {
    connection: Option<TcpConnection>,
    opening: Vec<Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>>,
    /// The SFU's TCP addresses; those of them not tried yet, and when to try the next.
    known: Vec<SocketAddr>,
    untried: VecDeque<SocketAddr>,
    try_at: Option<Instant>,
    /// ICE restarts: every address is to be tried again once the answer is there.
    restarting: bool,
    /// Media goes over TCP, and the SFU is about to close that connection because of the restart.
    renew: bool,
    /// The SFU has named a UDP address.
    udp_named: bool,
}

impl TcpFallback {
    /// The SFU names a UDP address.
    pub(super) fn udp_named(&mut self, now: Instant) {
        if !std::mem::replace(&mut self.udp_named, true) && self.try_at.is_some() {
            self.try_at = Some(now + TCP_DELAY);
        }
    }

    /// The SFU names a TCP address.
    pub(super) fn tcp_named(&mut self, remote: SocketAddr, now: Instant) {
        if !self.known.contains(&remote) && self.known.len() < MAX_REMOTES {
            self.known.push(remote);
            self.untried.push_back(remote);
            let delay = if self.udp_named { TCP_DELAY } else { TCP_ALONE_DELAY };
            self.try_at.get_or_insert(now + delay);
        }
    }

    /// An ICE restart is offered.
    pub(super) fn restarting(&mut self) {
        self.restarting = true;
    }

    /// The offer is answered.
    pub(super) fn answered(&mut self, now: Instant) {
        if std::mem::take(&mut self.restarting) && !self.known.is_empty() {
            self.opening.clear();
            // UDP may be what has failed; and a connection over TCP belongs to the ICE session before (the SFU ends it).
            self.renew = self.connection.is_some();
            self.untried = self.known.iter().copied().collect();
            self.try_at = Some(now + if self.renew { Duration::ZERO } else { TCP_DELAY });
        }
    }

    /// Begins to open a connection if one is needed now; true if so. `up`: whether media flows, by whichever path.
    pub(super) fn tick(&mut self, up: bool, now: Instant) -> bool {
        if self.try_at.is_none_or(|at| now < at) {
            return false;
        }
        self.try_at = None;
        let needed = self.renew || (!up && self.connection.is_none());
        if !needed {
            return false;
        }
        let Some(remote) = self.untried.pop_front() else { return false };
        self.opening.push(open(remote));
        // The next one, should this fail.
        self.try_at = (!self.untried.is_empty()).then(|| now + TCP_DELAY);
        true
    }

    /// When [`TcpFallback::tick`] is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.try_at
    }

    /// A connection that has just been opened, or why one could not be. After the first that is open no other is tried.
    pub(super) fn poll_opened(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<TcpConnection>> {
        for i in 0..self.opening.len() {
            let Poll::Ready(opened) = self.opening[i].as_mut().poll(cx) else { continue };
            drop(self.opening.swap_remove(i));
            let opened = opened.and_then(TcpConnection::new);
            if opened.is_ok() {
                self.opening.clear();
                (self.try_at, self.renew) = (None, false);
            }
            return Poll::Ready(opened);
        }
        Poll::Pending
    }

    /// Takes a new connection, or none; gives the one before.
    pub(super) fn replace(&mut self, connection: Option<TcpConnection>) -> Option<TcpConnection> {
        std::mem::replace(&mut self.connection, connection)
    }

    /// The connection, if there is one.
    pub(super) fn connection(&mut self) -> Option<&mut TcpConnection> {
        self.connection.as_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    /// Opens connections by virtual time until one is there; gives its remote address.
    async fn opened(tcp: &mut TcpFallback, up: bool) -> SocketAddr {
        loop {
            tcp.tick(up, tokio::time::Instant::now().into_std());
            let wake = tcp.deadline().map(tokio::time::Instant::from_std);
            tokio::select! {
                opened = std::future::poll_fn(|cx| tcp.poll_opened(cx)) => {
                    if let Ok(connection) = opened {
                        let remote = connection.remote;
                        tcp.replace(Some(connection));
                        return remote;
                    }
                }
                () = tokio::time::sleep_until(wake.unwrap_or_else(tokio::time::Instant::now)), if wake.is_some() => {}
            }
        }
    }

    /// An address of loopback to which connections hang: its queue is full.
    async fn silent() -> (socket2::Socket, SocketAddr, Vec<TcpStream>) {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        socket.listen(0).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        let mut taken = Vec::new();
        while let Ok(Ok(stream)) = tokio::time::timeout(Duration::from_millis(300), TcpStream::connect(address)).await {
            taken.push(stream);
        }
        (socket, address, taken)
    }

    #[tokio::test]
    async fn an_address_that_does_not_answer_does_not_hold_up_the_next() {
        let (_socket, silent, _taken) = silent().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let good = listener.local_addr().unwrap();
        let mut tcp = TcpFallback::default();
        let begin = Instant::now();
        [silent, good].into_iter().for_each(|remote| tcp.tcp_named(remote, begin));
        assert_eq!(opened(&mut tcp, false).await, good);
        assert!((TCP_DELAY..TCP_DELAY * 4).contains(&begin.elapsed()), "{:?}", begin.elapsed());
        assert!(tcp.opening.is_empty() && tcp.deadline().is_none(), "no other is tried");
        // An ICE restart renews the connection, by the same way.
        tcp.restarting();
        tcp.answered(Instant::now());
        assert_eq!(opened(&mut tcp, true).await, good);
        // With media on UDP none is needed.
        tcp.replace(None);
        tcp.restarting();
        tcp.answered(Instant::now());
        assert!(!tcp.tick(true, Instant::now() + TCP_DELAY) && tcp.opening.is_empty());
        assert_eq!(tcp.untried, [silent, good], "none counts as tried");
    }
}
