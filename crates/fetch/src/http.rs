//! An HTTP/1.1 client (RFC 9112), as far as fetching needs one: GET, ranges, redirects, every body framing, persistent connections,
//! cookies, logins.

mod cookies;
mod head;
mod version;

pub use version::Version;

use cookies::Jar;
use head::Head;

use crate::body::{Chunks, Framing};
use crate::guard::{is_inside, is_outside};
use crate::inflate::Inflate;
use crate::login::Login;
use crate::proxied::proxy;
use crate::socket::{Socket, connect, timed_out};
use crate::{Address, Error, Scheme, Titles};
use base64::Engine as _;
use model::{Proxy, PullGuard, PullLimits};
use std::io::{Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// Redirects that are followed. Browsers follow 20; no media source needs more than a few.
const MAX_REDIRECTS: usize = 10;
/// Bytes of a response head. Servers allow 8 to 16 KiB for that of a request.
const MAX_HEAD: usize = 32 << 10;
/// Timeouts within which a small file has to be complete: a playlist, a key, the beginning of a file. One is for its first byte.
const SMALL_FILE_TIMEOUTS: u32 = 2;
/// Timeouts after which no further redirect is followed: one each for looking up, connecting and answering.
const REDIRECT_TIMEOUTS: u32 = 3;
/// Idle connections kept for another request: those for video, audio, and the two playlists of a live stream.
const MAX_IDLE: usize = 4;
/// Servers whose challenge is remembered: that of playlists, and those of segments and keys.
const MAX_LOGINS: usize = 8;
/// Bytes read from a socket at once.
const READ_CHUNK: usize = 64 << 10;

/// The client of one pull. Clones share idle connections, cookies, logins, the guard and the count of fetched bytes.
#[derive(Clone, Debug)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    guard: PullGuard,
    timeout: Duration,
    allowed: Option<u64>,
    fetched: AtomicU64,
    idle: Mutex<Vec<(Address, Buffered)>>,
    jar: Mutex<Jar>,
    /// Of servers that asked for more than the login as it is (Digest), with an address that holds it.
    logins: Mutex<Vec<(Address, Login)>>,
}

/// A connection, and what was read from it but not used yet.
#[derive(Debug)]
struct Buffered {
    socket: Socket,
    read: Vec<u8>,
    at: usize,
}

impl Buffered {
    /// The unused bytes; reads more if there are none. Empty at the end of the connection.
    fn fill(&mut self) -> std::io::Result<&[u8]> {
        if self.at == self.read.len() {
            self.read.resize(READ_CHUNK, 0);
            self.at = 0;
            let n = loop {
                match self.socket.read(&mut self.read) {
                    Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                    // A server that closes without a TLS close_notify. The framing knows whether anything is missing.
                    Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => break Ok(0),
                    other => break other,
                }
            };
            self.read.truncate(*n.as_ref().unwrap_or(&0));
            n?;
        }
        Ok(&self.read[self.at..])
    }
}

/// A response whose body can be read.
#[derive(Debug)]
pub struct Response {
    /// Where it came from, after redirects.
    pub address: Address,
    /// 200 or 206.
    pub status: u16,
    /// The content type without parameters, in lower case; empty if the server names none.
    pub content_type: String,
    /// The body's length in bytes, if it is known.
    pub length: Option<u64>,
    /// Of a 206: the offset of the first byte, and the length of the whole file if the server names it.
    pub range: Option<(u64, Option<u64>)>,
    /// What tells this version of the file from another.
    pub version: Version,
    /// Whether the body comes compressed: `length` and `range` count something else, and are not given.
    pub compressed: bool,
    /// Whether the server is an Icecast or SHOUTcast server, whose streams have no end.
    pub radio: bool,
    titles: Option<Titles>,
    /// Of a compressed body.
    inflate: Option<Inflate>,
    connection: Option<Buffered>,
    framing: Framing,
    keep: bool,
    client: Client,
    /// When the body has to be complete, and how long it was given for that.
    deadline: Option<(Instant, Duration)>,
}

impl Client {
    /// A client with this guard and these limits.
    pub fn new(guard: PullGuard, limits: &PullLimits) -> Self {
        let (timeout, allowed) = (limits.timeout, limits.bytes);
        let (fetched, idle) = (AtomicU64::new(0), Mutex::default());
        let (jar, logins) = (Mutex::default(), Mutex::default());
        Self { inner: Arc::new(Inner { guard, timeout, allowed, fetched, idle, jar, logins }) }
    }

    /// The rules about hosts that this client keeps.
    pub fn guard(&self) -> &PullGuard {
        &self.inner.guard
    }

    /// The time within which a small file has to be complete.
    pub fn small_file_timeout(&self) -> Duration {
        self.inner.timeout * SMALL_FILE_TIMEOUTS
    }

    /// Requests `address` and follows redirects. `range` is the first and the last byte; without the last, it is to the end.
    ///
    /// # Errors
    /// Whatever keeps a body from coming.
    pub fn get(&self, address: &Address, range: Option<(u64, Option<u64>)>) -> Result<Response, Error> {
        let (mut at, begun, most) = (address.clone(), Instant::now(), self.inner.timeout * REDIRECT_TIMEOUTS);
        for _ in 0..=MAX_REDIRECTS {
            if begun.elapsed() > most {
                return Err(Error::Slow {
                    host: address.authority(),
                    what: "lead to anything by its redirects",
                    after: most,
                });
            }
            let whole = range == Some((0, None));
            let answer = match self.ask(&at, range) {
                // Some servers refuse a range even from the first byte on, which asks for nothing but what they have.
                Err(e) if whole && may_refuse_ranges(&e) => match self.ask(&at, None) {
                    Err(_) => return Err(e),
                    answer => answer,
                },
                answer => answer,
            };
            match answer? {
                Answer::Body(response) => return Ok(*response),
                Answer::Moved(from, to) => at = from.redirected(&to)?,
                Answer::Challenged(_) => return Err(Error::Forbidden { host: at.authority(), status: 401 }),
            }
        }
        Err(Error::Redirects(MAX_REDIRECTS))
    }

    /// Fetches a small file of at most `most` bytes, which has to be complete within [`Client::small_file_timeout`].
    ///
    /// # Errors
    /// As [`Client::get`]; [`Error::TooLarge`] beyond `most`; [`Error::Slow`].
    pub fn get_small(
        &self,
        address: &Address,
        range: Option<(u64, Option<u64>)>,
        most: usize,
    ) -> Result<(Address, Vec<u8>), Error> {
        let mut response = self.get(address, range)?;
        response.set_deadline(self.small_file_timeout())?;
        Self::whole(response, most)
    }

    /// Fetches a whole file of at most `most` bytes, however long it takes, while bytes keep coming.
    ///
    /// # Errors
    /// As [`Client::get`]; [`Error::TooLarge`] beyond `most`.
    pub fn get_whole(
        &self,
        address: &Address,
        range: Option<(u64, Option<u64>)>,
        most: usize,
    ) -> Result<(Address, Vec<u8>), Error> {
        Self::whole(self.get(address, range)?, most)
    }

    fn whole(mut response: Response, most: usize) -> Result<(Address, Vec<u8>), Error> {
        let mut all = Vec::new();
        while let Some(piece) = response.next_piece(most + 1 - all.len().min(most))? {
            all.extend_from_slice(&piece);
            if all.len() > most {
                return Err(Error::TooLarge {
                    size: response.length.unwrap_or(all.len() as u64),
                    allowed: most as u64,
                });
            }
        }
        Ok((response.address.clone(), all))
    }

    /// Asks; once more with the login, where the server says how it wants that.
    fn ask(&self, to: &Address, range: Option<(u64, Option<u64>)>) -> Result<Answer, Error> {
        match self.once(to, range)? {
            Answer::Challenged(said) if self.challenged(to, &said) => self.once(to, range),
            answer => Ok(answer),
        }
    }

    /// Takes a server's challenges; whether one of them can be answered with more than was sent already.
    fn challenged(&self, to: &Address, said: &[String]) -> bool {
        let mut logins = self.inner.logins.lock().unwrap_or_else(PoisonError::into_inner);
        let known = logins.iter().position(|(of, _)| of.same_origin(to) && of.login() == to.login());
        let made = match known {
            Some(at) => Some(logins.remove(at).1),
            None => to.login().and_then(|(user, password)| Login::new(user, password, rand::random())),
        };
        let Some(mut login) = made else { return false };
        if login.challenged(said.iter().map(String::as_str)).is_none() || !login.is_digest() {
            return false;
        }
        if logins.len() == MAX_LOGINS {
            logins.remove(0);
        }
        logins.push((to.clone(), login));
        true
    }

    fn once(&self, to: &Address, range: Option<(u64, Option<u64>)>) -> Result<Answer, Error> {
        if let Some(connection) = self.take_idle(to) {
            // An idle connection may have been closed meanwhile, or be out of step; then a new one is made.
            match self.exchange(connection, to, range) {
                Err(
                    Error::Broken(..)
                    | Error::Truncated(_)
                    | Error::Protocol { .. }
                    | Error::Timeout { .. }
                    | Error::Inside { .. },
                ) => {}
                other => return other,
            }
        }
        let socket = connect(&self.inner.guard, to, self.inner.timeout)?;
        self.exchange(Buffered { socket, read: Vec::new(), at: 0 }, to, range)
    }

    fn exchange(
        &self,
        mut connection: Buffered,
        to: &Address,
        range: Option<(u64, Option<u64>)>,
    ) -> Result<Answer, Error> {
        let direct = proxy(&self.inner.guard, to).is_none();
        let inside =
            direct && connection.socket.peer().is_ok_and(|peer| is_inside(&self.inner.guard, &to.host(), peer));
        // Until it has spoken HTTP, words tell nothing about the ports of a private network.
        let told = |error: Error| if inside { error.concealed(&to.authority()) } else { error };
        let request = self.request(to, range);
        let sent = connection.socket.write_all(request.as_bytes()).and_then(|()| connection.socket.flush());
        sent.map_err(|e| told(self.io_fault(to, e, "take the request")))?;
        let broken = |e| Error::Broken(to.authority(), e);
        connection.socket.set_deadline(Some(Instant::now() + self.inner.timeout)).map_err(broken)?;
        loop {
            let head = self.read_head(&mut connection, to).map_err(told)?;
            // Interim responses (RFC 9110 §15.2) are passed over.
            if head.status >= 200 {
                connection.socket.set_deadline(None).map_err(broken)?;
                self.take_cookies(to, &head.cookies);
                // A range from the first byte on can only be refused if there is no first byte.
                if head.status == 416 && range.is_some_and(|(from, _)| from == 0) {
                    return Err(Error::Empty);
                }
                return self.judge(head, connection, to);
            }
        }
    }

    fn judge(&self, head: Head, connection: Buffered, to: &Address) -> Result<Answer, Error> {
        let (host, status) = (to.authority(), head.status);
        // What a proxy leads to may be anybody's.
        let peer = connection.socket.peer();
        let peer = if proxy(&self.inner.guard, to).is_none() { peer } else { Err(std::io::ErrorKind::Other.into()) };
        let address = to.clone().answered_by(peer);
        match status {
            200 | 206 => {}
            300 if head.location.is_none() => return Err(Error::Status { host, status }),
            300..=303 | 307 | 308 => {
                let to = head.location.ok_or(Error::Protocol { host, what: "a redirect leads nowhere" })?;
                return Ok(Answer::Moved(address, to));
            }
            404 | 410 => return Err(Error::NotFound { host, status }),
            401 if !head.challenges.is_empty() => return Ok(Answer::Challenged(head.challenges)),
            401 | 403 | 407 => return Err(Error::Forbidden { host, status }),
            _ => return Err(Error::Status { host, status }),
        }
        let inflate = match head.encoding.as_deref().map(Inflate::of) {
            None => None,
            Some(Some(inflate)) => Some(inflate),
            Some(None) => return Err(Error::Protocol { host, what: "it compresses what it was asked not to" }),
        };
        let framing = match (head.chunked, head.length) {
            (true, _) => Framing::Chunked(Chunks::default()),
            (false, Some(length)) => Framing::Length(length),
            (false, None) => Framing::UntilClose,
        };
        // Of a compressed body both count something else.
        let length = head.length.filter(|_| !head.chunked && inflate.is_none());
        let range = head.range.filter(|_| status == 206 && inflate.is_none());
        Ok(Answer::Body(Box::new(Response {
            address,
            status,
            content_type: head.content_type,
            length,
            range,
            version: head.version,
            compressed: inflate.is_some(),
            radio: head.radio,
            titles: head.titles.and_then(Titles::every),
            inflate,
            connection: Some(connection),
            keep: head.keep && framing != Framing::UntilClose,
            framing,
            client: self.clone(),
            deadline: None,
        })))
    }

    fn request(&self, to: &Address, range: Option<(u64, Option<u64>)>) -> String {
        // Without TLS the proxy itself is asked (RFC 9112 §3.2.2).
        let asked = proxy(&self.inner.guard, to).filter(|_| to.scheme == Scheme::Http);
        let mut text = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: livekit-ingress/{}\r\nAccept: */*\r\nAccept-Encoding: identity\r\n",
            if asked.is_some() {
                format!("http://{}{}", to.authority(), to.path_and_query())
            } else {
                to.path_and_query()
            },
            to.authority(),
            env!("CARGO_PKG_VERSION"),
        );
        if let Some(login) = asked.and_then(Proxy::authorization) {
            text.push_str(&format!("Proxy-Authorization: {}\r\n", login.expose()));
        }
        if let Some(login) = self.authorization(to) {
            text.push_str(&format!("Authorization: {login}\r\n"));
        }
        let jar = self.inner.jar.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cookies) = jar.for_request(to, unix_time()) {
            text.push_str(&format!("Cookie: {cookies}\r\n"));
        }
        if let Some((from, until)) = range {
            let until = until.map(|u| u.to_string()).unwrap_or_default();
            text.push_str(&format!("Range: bytes={from}-{until}\r\n"));
        }
        text + "\r\n"
    }

    /// The login as the server wants it: Basic, until it asks for more.
    fn authorization(&self, to: &Address) -> Option<String> {
        let mut logins = self.inner.logins.lock().unwrap_or_else(PoisonError::into_inner);
        let known = logins.iter_mut().find(|(of, _)| of.same_origin(to) && of.login() == to.login());
        if let Some((_, login)) = known {
            return login.authorization("GET", &to.path_and_query());
        }
        let (user, password) = to.login()?;
        Some(format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"))))
    }

    fn take_cookies(&self, from: &Address, lines: &[String]) {
        let mut jar = self.inner.jar.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().for_each(|line| jar.take(from, line, unix_time()));
    }

    fn read_head(&self, connection: &mut Buffered, to: &Address) -> Result<Head, Error> {
        let mut bytes = Vec::new();
        loop {
            let begun = !bytes.is_empty();
            let more = connection.fill().map_err(|e| {
                if begun && timed_out(&e) {
                    return Error::Slow {
                        host: to.authority(),
                        what: "finish the head of its answer",
                        after: self.inner.timeout,
                    };
                }
                self.io_fault(to, e, "answer")
            })?;
            if more.is_empty() {
                return Err(Error::Truncated(to.authority()));
            }
            let before = bytes.len();
            bytes.extend_from_slice(more);
            let wrong = |what| Error::Protocol { host: to.authority(), what };
            match Head::parse(&bytes).map_err(wrong)? {
                Some((head, used)) => {
                    connection.at += used - before;
                    return Ok(head);
                }
                None if bytes.len() > MAX_HEAD => return Err(wrong("its answer has no end")),
                None => connection.at = connection.read.len(),
            }
        }
    }

    fn io_fault(&self, to: &Address, error: std::io::Error, what: &'static str) -> Error {
        if timed_out(&error) {
            return Error::Timeout { host: to.authority(), what, after: self.inner.timeout };
        }
        Error::Broken(to.authority(), error)
    }

    fn take_idle(&self, to: &Address) -> Option<Buffered> {
        let mut idle = self.inner.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let found = idle.iter().position(|(origin, _)| origin.same_origin(to))?;
        let (_, connection) = idle.remove(found);
        // One to a private address was made for another purpose.
        let fits = proxy(&self.inner.guard, to).is_some()
            || !to.is_from_outside()
            || connection.socket.peer().is_ok_and(is_outside);
        fits.then_some(connection)
    }

    fn put_idle(&self, origin: Address, connection: Buffered) {
        let mut idle = self.inner.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() == MAX_IDLE {
            idle.remove(0);
        }
        idle.push((origin, connection));
    }

    fn count(&self, bytes: usize) -> Result<(), Error> {
        let before = self.inner.fetched.fetch_add(bytes as u64, Ordering::Relaxed);
        match self.inner.allowed {
            Some(allowed) if before + bytes as u64 > allowed => Err(Error::TooMuch(allowed)),
            _ => Ok(()),
        }
    }
}

fn unix_time() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Whether a server may have answered like this only because it was asked for a range.
fn may_refuse_ranges(error: &Error) -> bool {
    match error {
        Error::Empty | Error::Forbidden { status: 403, .. } => true,
        Error::Status { status, .. } => matches!(status, 400 | 405 | 406 | 412 | 416 | 501),
        _ => false,
    }
}

enum Answer {
    Body(Box<Response>),
    /// From here to there.
    Moved(Address, String),
    /// A login is wanted, in one of these ways.
    Challenged(Vec<String>),
}

impl Response {
    /// Whether the body ends with the connection, so that its end may also be a break.
    pub fn until_close(&self) -> bool {
        self.framing == Framing::UntilClose
    }

    /// Gives all reads from here on one deadline, so that a byte now and then is not enough. After it, reads fail with
    /// [`Error::Slow`].
    ///
    /// # Errors
    /// [`Error::Broken`].
    pub fn set_deadline(&mut self, within: Duration) -> Result<(), Error> {
        self.apply_deadline(Some((Instant::now() + within, within)))
    }

    /// Removes the deadline.
    ///
    /// # Errors
    /// [`Error::Broken`].
    pub fn clear_deadline(&mut self) -> Result<(), Error> {
        self.apply_deadline(None)
    }

    fn apply_deadline(&mut self, deadline: Option<(Instant, Duration)>) -> Result<(), Error> {
        self.deadline = deadline;
        let Some(connection) = &mut self.connection else { return Ok(()) };
        let set = connection.socket.set_deadline(deadline.map(|(at, _)| at));
        set.map_err(|e| Error::Broken(self.address.authority(), e))
    }

    /// The next piece of the body, at most `most` bytes (more if it comes compressed); `None` at its end.
    ///
    /// # Errors
    /// [`Error::Slow`], after which reading may go on; [`Error::Truncated`], [`Error::Broken`], [`Error::Timeout`],
    /// [`Error::TooMuch`].
    pub fn next_piece(&mut self, most: usize) -> Result<Option<Vec<u8>>, Error> {
        loop {
            let ended = match &self.framing {
                Framing::Length(left) => *left == 0,
                Framing::Chunked(chunks) => chunks.ended(),
                Framing::UntilClose => false,
            };
            if ended {
                self.finish();
                return self.inflated();
            }
            let Some(connection) = &mut self.connection else { return Ok(None) };
            let (client, address, deadline) = (&self.client, &self.address, self.deadline);
            let read = connection.fill().map_err(|e| match deadline {
                Some((deadline, after)) if timed_out(&e) && Instant::now() >= deadline => {
                    Error::Slow { host: address.authority(), what: "send all of it", after }
                }
                _ => client.io_fault(address, e, "send more"),
            })?;
            if read.is_empty() {
                self.connection = None;
                if self.framing == Framing::UntilClose {
                    return self.inflated();
                }
                return Err(Error::Truncated(self.address.authority()));
            }
            let read = &read[..read.len().min(most.max(1))];
            let (used, piece) = match &mut self.framing {
                Framing::UntilClose => (read.len(), read.to_vec()),
                Framing::Length(left) => {
                    // The cast holds: `n` is at most the length of `read`.
                    let n = (*left).min(read.len() as u64) as usize;
                    *left -= n as u64;
                    (n, read[..n].to_vec())
                }
                Framing::Chunked(chunks) => {
                    let (used, data) = chunks.take(read).map_err(|what| wrong(address, what))?;
                    (used, read[data].to_vec())
                }
            };
            connection.at += used;
            self.client.count(piece.len())?;
            // Whoever knows how much there is may not ask for the end.
            if self.framing == Framing::Length(0) {
                self.finish();
            }
            let piece = match &mut self.titles {
                Some(titles) => titles.strip(&piece),
                None => piece,
            };
            let piece = match &mut self.inflate {
                Some(inflate) => inflate.push(&piece).map_err(|what| wrong(&self.address, what))?,
                None => piece,
            };
            if !piece.is_empty() {
                return Ok(Some(piece));
            }
        }
    }

    /// At the end of the body: whether a compressed one is complete.
    fn inflated(&mut self) -> Result<Option<Vec<u8>>, Error> {
        let finished = self.inflate.take().map_or(Ok(()), Inflate::finish);
        finished.map(|()| None).map_err(|what| wrong(&self.address, what))
    }

    /// At the end of the body: keeps the connection for another request. One on which more has come than the body is out of step.
    fn finish(&mut self) {
        let in_step = |c: &Buffered| c.at == c.read.len();
        if let Some(mut connection) = self.connection.take().filter(|c| self.keep && in_step(c))
            && connection.socket.set_deadline(None).is_ok()
        {
            self.client.put_idle(self.address.clone(), connection);
        }
    }
}

fn wrong(address: &Address, what: &'static str) -> Error {
    Error::Protocol { host: address.authority(), what }
}

/// Whether these bytes are a whole response head. The cookies in it are sent back as one line, as is checked. For fuzzing.
pub fn reads_head(bytes: &[u8]) -> bool {
    let Ok(Some((head, _))) = Head::parse(bytes) else { return false };
    let (mut jar, Ok(from)) = (Jar::default(), Address::parse("https://a.cdn.example/live/list.m3u8")) else {
        return true;
    };
    head.cookies.iter().for_each(|line| jar.take(&from, line, 0));
    jar.for_request(&from, 0).is_none_or(|sent| !sent.contains(char::is_control))
}

#[cfg(test)]
mod tests;
