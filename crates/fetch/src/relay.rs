//! A relay on loopback for an RTSP library that would choose for itself where to connect. The library connects to the relay; the
//! relay connects to an address that the guard allows, with TLS where the URL asks for it, and rewrites requests to the server's
//! own name and with the login, and keeps the session alive. The library sees neither the login nor redirects. Whoever else finds the
//! port on this machine does not get through: the library shows a [`Token`].

use crate::rtsp::{Login, Rewriter, Token};
use crate::socket::{ReadHalf, Socket, WriteHalf, connect};
use crate::{Address, Error, guard};
use model::PullGuard;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often the listener is polled for a connection.
const ACCEPT_INTERVAL: Duration = Duration::from_millis(5);
/// Connections through one relay: a client connects again when its server hangs up while packets come over UDP.
const MAX_CONNECTIONS: usize = 16;
/// How often it is looked whether something plays by now, which is to be kept alive.
const NOT_PLAYING: Duration = Duration::from_secs(1);
/// Connections that have not shown the token yet. Only programs on this machine can make any; the library shows it at once.
const MAX_UNKNOWN: usize = 32;
/// How long one may take to show it.
const TOKEN_DEADLINE: Duration = Duration::from_secs(2);
/// Bytes relayed at once.
const RELAY_CHUNK: usize = 32 << 10;

/// A running relay. Dropping it closes its connections.
#[derive(Debug)]
pub struct Relay {
    here: String,
    path: String,
    token: Token,
    server: Address,
    inside: bool,
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
        let token = Token::new(rand::random());
        let inside = guard::is_inside(guard, &to.host(), server);
        let answering = to.clone().answered_by(Ok(server));
        let acceptor = Acceptor {
            guard: guard.clone(),
            to: to.clone(),
            within,
            here: here.clone(),
            token: token.clone(),
            first: Mutex::new(Some(first)),
            taken: AtomicUsize::new(0),
            shared: Arc::clone(&shared),
        };
        spawn(move || Arc::new(acceptor).run(&listener)).map_err(unreachable)?;
        Ok(Self { here, path: to.path_and_query(), token, server: answering, inside, shared })
    }

    /// The server, from which redirects lead on.
    pub fn server(&self) -> &Address {
        &self.server
    }

    /// Whether the server is in a private network, about whose ports words are to tell nothing.
    pub fn is_inside(&self) -> bool {
        self.inside
    }

    /// The name under which the library is to come (`User-Agent`), in place of its own.
    pub fn client_name(&self, own: &str) -> String {
        self.token.shown_by(own)
    }

    /// The URL for the library.
    pub fn location(&self) -> String {
        format!("{}{}", self.here, self.path)
    }

    /// Whether what plays ends by itself, as a recording does.
    pub fn ends(&self) -> bool {
        self.shared.ends.load(Ordering::Relaxed)
    }

    /// [`Relay::ends`], for who asks later.
    pub fn ends_later(&self) -> impl Fn() -> bool + Send + Sync + 'static {
        let shared = Arc::clone(&self.shared);
        move || shared.ends.load(Ordering::Relaxed)
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
    token: Token,
    /// The connection to the server that was made to see whether it can be reached.
    first: Mutex<Option<Socket>>,
    /// Connections of the library.
    taken: AtomicUsize,
    shared: Arc<Shared>,
}

impl Acceptor {
    fn run(self: Arc<Self>, listener: &TcpListener) {
        let unknown = Arc::<AtomicUsize>::default();
        while self.taken.load(Ordering::Relaxed) < MAX_CONNECTIONS && !self.shared.ended.load(Ordering::Relaxed) {
            let Ok((client, _)) = listener.accept() else {
                std::thread::sleep(ACCEPT_INTERVAL);
                continue;
            };
            if unknown.load(Ordering::Relaxed) >= MAX_UNKNOWN {
                continue;
            }
            unknown.fetch_add(1, Ordering::Relaxed);
            let (acceptor, unknown) = (Arc::clone(&self), Arc::clone(&unknown));
            // A machine without threads has no connection for the library either, which tells.
            let _ = spawn(move || {
                let first = acceptor.first_request(&client);
                unknown.fetch_sub(1, Ordering::Relaxed);
                if let Err(fault) = first.and_then(|first| acceptor.take(client, first)) {
                    eprintln!("no connection to the RTSP server: {fault}");
                }
            });
        }
    }

    /// What a client says at first, if that shows the token; nothing is sent to the server before.
    fn first_request(&self, mut client: &TcpStream) -> io::Result<Vec<u8>> {
        let (until, mut said) = (Instant::now() + TOKEN_DEADLINE, Vec::new());
        client.set_nonblocking(false)?;
        let mut chunk = vec![0; RELAY_CHUNK];
        loop {
            let left = until.saturating_duration_since(Instant::now());
            client.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
            let n = client.read(&mut chunk)?;
            said.extend_from_slice(&chunk[..n]);
            match self.token.is_shown(&said) {
                Some(true) => break,
                None if n > 0 && !left.is_zero() => {}
                _ => return Err(io::Error::other("a program that is not this session's client asked the relay")),
            }
        }
        client.set_read_timeout(None)?;
        Ok(said)
    }

    /// Takes a client that has shown the token, with what it said.
    fn take(&self, client: TcpStream, first: Vec<u8>) -> io::Result<()> {
        self.taken.fetch_add(1, Ordering::Relaxed);
        let ready = self.first.lock().unwrap_or_else(PoisonError::into_inner).take();
        let server = ready.map_or_else(|| connect(&self.guard, &self.to, self.within), Ok);
        self.join(client, server.map_err(io::Error::other)?, &first)
    }

    /// Relays in both directions until either side closes.
    fn join(&self, mut client: TcpStream, server: Socket, first: &[u8]) -> io::Result<()> {
        client.set_nodelay(true)?;
        client.set_write_timeout(Some(self.within))?;
        let login = self.to.login().and_then(|(user, password)| Login::new(user, password, rand::random()));
        let rewriter = Rewriter::new(server.peer()?, (self.here.clone(), self.to.origin()), login);
        let rewriter = rewriter.with_token(self.token.clone());
        self.shared.track(client.try_clone()?);
        self.shared.track(server.stream().try_clone()?);
        let ending = server.stream().try_clone()?;
        let (from, to) = server.split()?;
        let closed = (Mutex::new(false), Condvar::new());
        let pair = Arc::new(Pair { rewriter: Mutex::new(rewriter), to: Mutex::new(to), closed });
        pair.request(first)?;
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

    /// What the library asks, to the server.
    fn request(&self, bytes: &[u8]) -> io::Result<()> {
        let requests = self.rewriter().from_client(bytes).map_err(io::Error::other)?;
        self.send(&requests)
    }

    /// From the library to the server, until the library closes.
    fn up(&self, mut from: TcpStream) -> io::Result<()> {
        let mut chunk = vec![0; RELAY_CHUNK];
        loop {
            let n = from.read(&mut chunk)?;
            if n == 0 {
                return Ok(());
            }
            self.request(&chunk[..n])?;
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
                    let asked_for = String::from_utf8_lossy(&asked[..n]);
                    assert!(asked_for.starts_with(&format!("OPTIONS rtsp://localhost:{port}/live ")));
                    assert!(
                        asked_for.ends_with("\r\nUser-Agent: library\r\n\r\n"),
                        "the token stays here: {asked_for}"
                    );
                    stream.write_all(answer).unwrap();
                    let _ = stream.read(&mut asked);
                });
            }
        });
        Address::parse(&address).unwrap()
    }

    fn authority(relay: &Relay) -> String {
        relay.location().strip_prefix("rtsp://").unwrap().split('/').next().unwrap().to_owned()
    }

    fn asked(relay: &Relay, name: &str) -> TcpStream {
        let authority = authority(relay);
        let mut client = TcpStream::connect(&authority).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let said = format!("OPTIONS rtsp://{authority}/live RTSP/1.0\r\nCSeq: 1\r\nUser-Agent: {name}\r\n\r\n");
        client.write_all(said.as_bytes()).unwrap();
        client
    }

    fn through(relay: &Relay) -> TcpStream {
        asked(relay, &relay.client_name("library"))
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
    fn a_stranger_on_this_machine_does_not_get_through() {
        let to = server(b"RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n");
        let relay = Relay::open(&PullGuard::default(), &to, WITHIN).unwrap();
        // Some say nothing, and more than one session ever needs ask without the token, or with another's.
        let silent: Vec<TcpStream> =
            (0..MAX_UNKNOWN / 2).map(|_| TcpStream::connect(authority(&relay)).unwrap()).collect();
        let another = Relay::open(&PullGuard::default(), &to, WITHIN).unwrap();
        for name in ["library".to_owned(), another.client_name("library")].iter().cycle().take(2 * MAX_CONNECTIONS) {
            let mut heard = Vec::new();
            let _ = asked(&relay, name).read_to_end(&mut heard);
            assert_eq!(heard, b"", "{name}");
        }
        let mut answer = [0; 28];
        through(&relay).read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n", "the library still does");
        drop(silent);
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
