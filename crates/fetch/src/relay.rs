//! A door on loopback for a library that speaks RTSP but chooses for itself whom it connects to: what goes through it goes to a
//! server that the guard let pass, with TLS where the address asks for it, by the server's own name and with the login; neither
//! that nor redirects get out to the library.

use crate::rtsp::{Login, Talk};
use crate::socket::{Reading, Socket, Writing, connect};
use crate::{Address, Error};
use model::PullGuard;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often somebody is looked for at the door.
const LOOK: Duration = Duration::from_millis(5);
/// Connections through one door: a client comes back when its server hangs up on it between packets over UDP.
const MOST: usize = 16;
/// Bytes passed on at once.
const CHUNK: usize = 32 << 10;

/// The door. Dropping it ends what goes through.
#[derive(Debug)]
pub struct Relay {
    here: String,
    path: String,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    ended: AtomicBool,
    moved: Mutex<Option<String>>,
    open: Mutex<Vec<TcpStream>>,
}

impl Shared {
    fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
        for stream in self.open.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            // What is closed already is as good.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Has it end with the rest.
    fn watch(&self, stream: TcpStream) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).push(stream);
        if self.ended.load(Ordering::Relaxed) {
            self.end();
        }
    }
}

impl Relay {
    /// Connects to the server and opens a door to it.
    ///
    /// # Errors
    /// Why the server can't be reached.
    pub fn open(guard: &PullGuard, to: &Address, within: Duration) -> Result<Self, Error> {
        let first = connect(guard, to, within)?;
        let door = |e: io::Error| Error::Unreachable(to.authority(), e);
        let server = first.peer().map_err(door)?;
        // Of the server's own family: what comes over UDP comes to an address of the same.
        let loopback: IpAddr = if server.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
        let listener = TcpListener::bind((loopback, 0)).map_err(door)?;
        listener.set_nonblocking(true).map_err(door)?;
        let here = format!("rtsp://{}", listener.local_addr().map_err(door)?);
        let shared = Arc::<Shared>::default();
        let keeper =
            Keeper { guard: guard.clone(), to: to.clone(), within, here: here.clone(), shared: Arc::clone(&shared) };
        spawn(move || keeper.run(&listener, first)).map_err(door)?;
        Ok(Self { here, path: to.path_and_query(), shared })
    }

    /// What the library is told to connect to.
    pub fn location(&self) -> String {
        format!("{}{}", self.here, self.path)
    }

    /// Where the server wants us to go instead, once it has said so.
    pub fn moved(&self) -> Option<String> {
        self.shared.moved.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.end();
    }
}

struct Keeper {
    guard: PullGuard,
    to: Address,
    within: Duration,
    /// How the library calls the server.
    here: String,
    shared: Arc<Shared>,
}

impl Keeper {
    fn run(&self, listener: &TcpListener, first: Socket) {
        let mut first = Some(first);
        let mut taken = 0;
        while taken < MOST && !self.shared.ended.load(Ordering::Relaxed) {
            let Ok((client, _)) = listener.accept() else {
                std::thread::sleep(LOOK);
                continue;
            };
            taken += 1;
            let server = first.take().map_or_else(|| connect(&self.guard, &self.to, self.within), Ok);
            let joined = server.map_err(io::Error::other).and_then(|server| self.join(client, server));
            if let Err(fault) = joined {
                eprintln!("a connection to the RTSP server did not come to be: {fault}");
            }
        }
    }

    /// Passes on in both directions, until either ends.
    fn join(&self, mut client: TcpStream, server: Socket) -> io::Result<()> {
        client.set_nonblocking(false)?;
        client.set_nodelay(true)?;
        client.set_write_timeout(Some(self.within))?;
        let login = self.to.login().and_then(|(user, password)| Login::new(user, password, rand::random()));
        let talk = Talk::new(server.peer()?, (self.here.clone(), self.to.origin()), login);
        self.shared.watch(client.try_clone()?);
        self.shared.watch(server.stream().try_clone()?);
        let ending = server.stream().try_clone()?;
        let (from, to) = server.split()?;
        let line = Arc::new(Line { talk: Mutex::new(talk), to: Mutex::new(to) });
        let (asks, asking) = (client.try_clone()?, Arc::clone(&line));
        spawn(move || {
            if let Err(fault) = asking.up(asks) {
                eprintln!("the connection of the RTSP client ended: {fault}");
            }
            // What is closed already is as good.
            let _ = ending.shutdown(Shutdown::Both);
        })?;
        let shared = Arc::clone(&self.shared);
        spawn(move || {
            match line.down(from, &mut client) {
                Ok(Some(moved)) => {
                    *shared.moved.lock().unwrap_or_else(PoisonError::into_inner) = Some(moved);
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

/// What both directions of one connection share.
struct Line {
    talk: Mutex<Talk>,
    to: Mutex<Writing>,
}

impl Line {
    fn talk(&self) -> MutexGuard<'_, Talk> {
        self.talk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        self.to.lock().unwrap_or_else(PoisonError::into_inner).write_all(bytes)
    }

    fn up(&self, mut from: TcpStream) -> io::Result<()> {
        let mut chunk = vec![0; CHUNK];
        loop {
            let n = from.read(&mut chunk)?;
            if n == 0 {
                return Ok(());
            }
            let asked = self.talk().asks(&chunk[..n]).map_err(io::Error::other)?;
            self.send(&asked)?;
        }
    }

    fn down(&self, mut from: Reading, to: &mut TcpStream) -> io::Result<Option<String>> {
        let mut chunk = vec![0; CHUNK];
        loop {
            let n = from.read(&mut chunk)?;
            if n == 0 {
                return Ok(None);
            }
            let answer = self.talk().answers(&chunk[..n]).map_err(io::Error::other)?;
            to.write_all(&answer.client)?;
            if answer.moved.is_some() {
                return Ok(answer.moved);
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

    /// A server that answers each connection's first words with `answer` and hangs up when its client does.
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
    fn what_is_said_passes_and_the_login_stays_behind() {
        let to = server(b"RTSP/1.0 200 OK\r\n\r\n");
        let relay = Relay::open(&PullGuard::default(), &to, WITHIN).unwrap();
        assert!(relay.location().ends_with("/live?x=1") && !relay.location().contains("word"));
        // The second connection is made when it is asked for.
        for _ in 0..2 {
            let mut client = through(&relay);
            let mut answer = [0; 19];
            client.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"RTSP/1.0 200 OK\r\n\r\n");
        }
        let mut client = through(&relay);
        drop(relay);
        assert!(matches!(client.read_to_end(&mut Vec::new()), Ok(_) | Err(_)), "it ends with the door");
    }

    #[test]
    fn a_redirect_is_told_and_not_passed_on() {
        let to = server(b"RTSP/1.0 301 Moved\r\nLocation: rtsp://169.254.169.254/x\r\n\r\n");
        let relay = Relay::open(&PullGuard::default(), &to, WITHIN).unwrap();
        let mut said = Vec::new();
        let _ = through(&relay).read_to_end(&mut said);
        assert_eq!((said.len(), relay.moved().as_deref()), (0, Some("rtsp://169.254.169.254/x")));
    }

    #[test]
    fn no_door_leads_past_the_guard() {
        let to = server(b"");
        let guard = PullGuard { deny: vec![HostRule::Range("127.0.0.0".parse().unwrap(), 8)], ..PullGuard::default() };
        assert!(matches!(Relay::open(&guard, &to, WITHIN), Err(Error::Denied { .. })));
    }
}
