//! A relay on loopback for an RTSP library that would choose for itself where to connect. The library connects to the relay; the
//! relay connects to an address that the guard allows, with TLS where the URL asks for it, and rewrites requests to the server's
//! own name and with the login, and keeps the session alive. The library sees neither the login nor redirects.

use crate::rtsp::{Login, Rewriter};
use crate::socket::{ReadHalf, Socket, WriteHalf, connect};
use crate::{Address, Error};
use model::PullGuard;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often the listener is polled for a connection.
const ACCEPT_INTERVAL: Duration = Duration::from_millis(5);
/// Connections through one relay: a client connects again when its server hangs up while packets come over UDP.
const MAX_CONNECTIONS: usize = 16;
/// How often it is looked whether something plays by now, which is to be kept alive.
const NOT_PLAYING: Duration = Duration::from_secs(1);
/// Bytes relayed at once.
const RELAY_CHUNK: usize = 32 << 10;

/// A running relay. Dropping it closes its connections.
#[derive(Debug)]
pub struct Relay {
    here: String,
    path: String,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    ended: AtomicBool,
    redirect: Mutex<Option<String>>,
    /// What is described ends by itself.
    ends: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
}

impl Shared {
    fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
        for stream in self.open.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            // It may be closed already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Closes this stream along with the relay.
    fn track(&self, stream: TcpStream) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).push(stream);
        if self.ended.load(Ordering::Relaxed) {
            self.end();
        }
    }
}

impl Relay {
    /// Connects to the server and listens for the library.
    ///
    /// # Errors
    /// Why the server can't be reached.
    pub fn open(guard: &PullGuard, to: &Address, within: Duration) -> Result<Self, Error> {
        let first = connect(guard, to, within)?;
        let unreachable = |e: io::Error| Error::Unreachable(to.authority(), e);
        let server = first.peer().map_err(unreachable)?;
        // Of the server's own address family: packets over UDP come to an address of the same.
        let loopback: IpAddr = if server.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
        let listener = TcpListener::bind((loopback, 0)).map_err(unreachable)?;
        listener.set_nonblocking(true).map_err(unreachable)?;
        let here = format!("rtsp://{}", listener.local_addr().map_err(unreachable)?);
        let shared = Arc::<Shared>::default();
        let acceptor =
            Acceptor { guard: guard.clone(), to: to.clone(), within, here: here.clone(), shared: Arc::clone(&shared) };
        spawn(move || acceptor.run(&listener, first)).map_err(unreachable)?;
        Ok(Self { here, path: to.path_and_query(), shared })
    }

    /// The URL for the library.
    pub fn location(&self) -> String {
        format!("{}{}", self.here, self.path)
    }

    /// Whether what plays ends by itself, as a recording does.
    pub fn ends(&self) -> bool {
        self.shared.ends.load(Ordering::Relaxed)
    }

    /// Where the server has redirected us to, if it has.
    pub fn redirect(&self) -> Option<String> {
        self.shared.redirect.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.end();
    }
}

/// The thread that accepts connections.
struct Acceptor {
    guard: PullGuard,
    to: Address,
    within: Duration,
    /// The server's URL prefix as the library knows it.
    here: String,
    shared: Arc<Shared>,
}

impl Acceptor {
    fn run(&self, listener: &TcpListener, first: Socket) {
        let mut first = Some(first);
        let mut taken = 0;
        while taken < MAX_CONNECTIONS && !self.shared.ended.load(Ordering::Relaxed) {
            let Ok((client, _)) = listener.accept() else {
                std::thread::sleep(ACCEPT_INTERVAL);
                continue;
            };
            taken += 1;
            let server = first.take().map_or_else(|| connect(&self.guard, &self.to, self.within), Ok);
            let joined = server.map_err(io::Error::other).and_then(|server| self.join(client, server));
            if let Err(fault) = joined {
                eprintln!("no connection to the RTSP server: {fault}");
            }
        }
    }

    /// Relays in both directions until either side closes.
    fn join(&self, mut client: TcpStream, server: Socket) -> io::Result<()> {
        client.set_nonblocking(false)?;
        client.set_nodelay(true)?;
        client.set_write_timeout(Some(self.within))?;
        let login = self.to.login().and_then(|(user, password)| Login::new(user, password, rand::random()));
        let rewriter = Rewriter::new(server.peer()?, (self.here.clone(), self.to.origin()), login);
        self.shared.track(client.try_clone()?);
        self.shared.track(server.stream().try_clone()?);
        let ending = server.stream().try_clone()?;
        let (from, to) = server.split()?;
        let closed = (Mutex::new(false), Condvar::new());
        let pair = Arc::new(Pair { rewriter: Mutex::new(rewriter), to: Mutex::new(to), closed });
        let (from_client, up, keeper) = (client.try_clone()?, Arc::clone(&pair), Arc::clone(&pair));
        spawn(move || keeper.keep_alive())?;
        spawn(move || {
            if let Err(fault) = up.up(from_client) {
                eprintln!("the connection of the RTSP client ended: {fault}");
            }
            // It may be closed already.
            let _ = ending.shutdown(Shutdown::Both);
        })?;
        let shared = Arc::clone(&self.shared);
        spawn(move || {
            let down = pair.down(from, &mut client, &shared.ends);
            pair.close();
            match down {
                Ok(Some(to)) => {
                    *shared.redirect.lock().unwrap_or_else(PoisonError::into_inner) = Some(to);
                    shared.end();
                }
                Ok(None) => {}
                Err(fault) => eprintln!("the connection to the RTSP server ended: {fault}"),
            }
            let _ = client.shutdown(Shutdown::Both);
        })
    }
}

fn spawn(work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new().name("relay".into()).spawn(work).map(drop)
}

/// What the two directions of one connection share.
struct Pair {
    rewriter: Mutex<Rewriter>,
    to: Mutex<WriteHalf>,
    /// Whether the server's side has ended.
    closed: (Mutex<bool>, Condvar),
}

impl Pair {
    fn rewriter(&self) -> MutexGuard<'_, Rewriter> {
        self.rewriter.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        self.to.lock().unwrap_or_else(PoisonError::into_inner).write_all(bytes)
    }

    fn close(&self) {
        *self.closed.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.closed.1.notify_all();
    }

    /// Keeps the session alive until the server's side ends.
    fn keep_alive(&self) {
        let mut closed = self.closed.0.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let every = self.rewriter().keep_alive_every();
            let waits = self.closed.1.wait_timeout(closed, every.unwrap_or(NOT_PLAYING));
            let waited;
            (closed, waited) = waits.unwrap_or_else(PoisonError::into_inner);
            if *closed {
                return;
            }
            let request = if waited.timed_out() && every.is_some() { self.rewriter().keep_alive() } else { Vec::new() };
            // The side that reads finds out why.
            if !request.is_empty() && self.send(&request).is_err() {
                return;
            }
        }
    }

    /// From the library to the server, until the library closes.
    fn up(&self, mut from: TcpStream) -> io::Result<()> {
        let mut chunk = vec![0; RELAY_CHUNK];
        loop {
            let n = from.read(&mut chunk)?;
            if n == 0 {
                return Ok(());
            }
            let requests = self.rewriter().from_client(&chunk[..n]).map_err(io::Error::other)?;
            self.send(&requests)?;
        }
    }

    /// From the server to the library, until the server closes or redirects; returns where to.
    fn down(&self, mut from: ReadHalf, to: &mut TcpStream, ends: &AtomicBool) -> io::Result<Option<String>> {
        let mut chunk = vec![0; RELAY_CHUNK];
        loop {
            let n = from.read(&mut chunk)?;
            if n == 0 {
                return Ok(None);
            }
            let answer = {
                let mut rewriter = self.rewriter();
                let answer = rewriter.from_server(&chunk[..n]).map_err(io::Error::other)?;
                ends.store(rewriter.ends(), Ordering::Relaxed);
                answer
            };
            to.write_all(&answer.client)?;
            if answer.redirect.is_some() {
                return Ok(answer.redirect);
            }
            if !answer.server.is_empty() {
                self.send(&answer.server)?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::HostRule;

    /// Runs a server that answers the first request of each connection with `answer` and hangs up when its client does.
    fn server(answer: &'static [u8]) -> Address {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let address = format!("rtsp://user:word@localhost:{port}/live?x=1");
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                std::thread::spawn(move || {
                    let mut asked = [0; 4096];
                    let n = stream.read(&mut asked).unwrap();
                    assert!(
                        String::from_utf8_lossy(&asked[..n])
                            .starts_with(&format!("OPTIONS rtsp://localhost:{port}/live "))
                    );
                    stream.write_all(answer).unwrap();
                    let _ = stream.read(&mut asked);
                });
            }
        });
        Address::parse(&address).unwrap()
    }

    fn through(relay: &Relay) -> TcpStream {
        let authority = relay.location().strip_prefix("rtsp://").unwrap().split('/').next().unwrap().to_owned();
        let mut client = TcpStream::connect(&authority).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        client.write_all(format!("OPTIONS rtsp://{authority}/live RTSP/1.0\r\nCSeq: 1\r\n\r\n").as_bytes()).unwrap();
        client
    }

    const WITHIN: Duration = Duration::from_secs(20);

    #[test]
    fn requests_pass_and_the_login_does_not() {
        let to = server(b"RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n");
        let relay = Relay::open(&PullGuard::default(), &to, WITHIN).unwrap();
        assert!(relay.location().ends_with("/live?x=1") && !relay.location().contains("word"));
        // The relay makes the second connection when the library does.
        for _ in 0..2 {
            let mut client = through(&relay);
            let mut answer = [0; 28];
            client.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n");
        }
        let mut client = through(&relay);
        drop(relay);
        assert!(matches!(client.read_to_end(&mut Vec::new()), Ok(_) | Err(_)), "it ends with the relay");
    }

    #[test]
    fn a_redirect_is_reported_and_not_relayed() {
        let to = server(b"RTSP/1.0 301 Moved\r\nLocation: rtsp://169.254.169.254/x\r\n\r\n");
        let relay = Relay::open(&PullGuard::default(), &to, WITHIN).unwrap();
        let mut said = Vec::new();
        let _ = through(&relay).read_to_end(&mut said);
        assert_eq!((said.len(), relay.redirect().as_deref()), (0, Some("rtsp://169.254.169.254/x")));
    }

    #[test]
    fn the_guard_applies_to_a_relay() {
        let to = server(b"");
        let guard = PullGuard { deny: vec![HostRule::Range("127.0.0.0".parse().unwrap(), 8)], ..PullGuard::default() };
        assert!(matches!(Relay::open(&guard, &to, WITHIN), Err(Error::Denied { .. })));
    }
}
