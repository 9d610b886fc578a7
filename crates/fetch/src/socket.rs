//! One TCP connection, plain or with TLS. Every wait has a timeout.

use crate::deadline_stream::DeadlineStream;
use crate::{Address, Error, Scheme, guard, proxied};
use model::{Proxy, PullGuard};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// The least time to connect to one address, where many share the timeout: a usual round trip between continents.
const LEAST_CONNECT_TIME: Duration = Duration::from_millis(100);

/// A connection.
#[derive(Debug)]
pub(crate) enum Socket {
    Plain(DeadlineStream),
    Tls(Box<StreamOwned<ClientConnection, DeadlineStream>>),
}

impl Read for Socket {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(s) => s.read(buf),
            Self::Tls(s) => s.read(buf),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(s) => s.write(buf),
            Self::Tls(s) => s.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(s) => s.flush(),
            Self::Tls(s) => s.flush(),
        }
    }
}

impl Socket {
    /// The TCP stream.
    pub(crate) fn stream(&self) -> &TcpStream {
        match self {
            Self::Plain(s) => s.stream(),
            Self::Tls(s) => s.sock.stream(),
        }
    }

    /// Sets the deadline of all reads that follow, however many bytes come; `None` removes it.
    pub(crate) fn set_deadline(&mut self, deadline: Option<Instant>) -> io::Result<()> {
        match self {
            Self::Plain(s) => s.set_deadline(deadline),
            Self::Tls(s) => s.sock.set_deadline(deadline),
        }
    }

    /// The peer's address.
    pub(crate) fn peer(&self) -> io::Result<IpAddr> {
        self.stream().peer_addr().map(|a| a.ip().to_canonical())
    }

    /// Splits into two halves for two threads. Reads have no timeout from here on: to end one, shut the stream down.
    pub(crate) fn split(self) -> io::Result<(ReadHalf, WriteHalf)> {
        self.stream().set_read_timeout(None)?;
        let stream = self.stream().try_clone()?;
        // What was decrypted along with the handshake is read first.
        let mut decrypted = Vec::new();
        let tls = match self {
            Self::Plain(_) => None,
            Self::Tls(mut tls) => {
                let waiting = tls.conn.process_new_packets().map_err(io::Error::other)?.plaintext_bytes_to_read();
                decrypted.resize(waiting, 0);
                tls.conn.reader().read_exact(&mut decrypted)?;
                Some(Arc::new(Mutex::new(tls.conn)))
            }
        };
        let reading = ReadHalf { stream: stream.try_clone()?, tls: tls.clone(), decrypted, at: 0 };
        Ok((reading, WriteHalf { stream, tls }))
    }
}

/// Shared by both halves: a key update that is read has to be answered.
type Tls = Arc<Mutex<ClientConnection>>;

fn lock(tls: &Tls) -> MutexGuard<'_, ClientConnection> {
    tls.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The half of a connection that is read from.
#[derive(Debug)]
pub(crate) struct ReadHalf {
    stream: TcpStream,
    tls: Option<Tls>,
    /// Decrypted bytes, of which `at` were read.
    decrypted: Vec<u8>,
    at: usize,
}

impl ReadHalf {
    /// Decrypts `came`, in steps where that is more than the buffer of TLS holds.
    fn decrypt(&mut self, mut came: &[u8]) -> io::Result<()> {
        let Some(tls) = &self.tls else { return Ok(()) };
        let mut tls = lock(tls);
        while !came.is_empty() {
            tls.read_tls(&mut came)?;
            let more = tls.process_new_packets().map_err(io::Error::other)?.plaintext_bytes_to_read();
            let before = self.decrypted.len();
            self.decrypted.resize(before + more, 0);
            tls.reader().read_exact(&mut self.decrypted[before..])?;
        }
        // The answer to a key update.
        while tls.wants_write() {
            tls.write_tls(&mut &self.stream)?;
        }
        Ok(())
    }
}

impl Read for ReadHalf {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.tls.is_none() {
            return self.stream.read(buf);
        }
        while self.at == self.decrypted.len() {
            (self.decrypted, self.at) = (Vec::new(), 0);
            let mut came = vec![0; 16 << 10];
            match self.stream.read(&mut came)? {
                0 => return Ok(0),
                n => self.decrypt(&came[..n])?,
            }
        }
        let n = buf.len().min(self.decrypted.len() - self.at);
        buf[..n].copy_from_slice(&self.decrypted[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}

/// The half that is written to.
#[derive(Debug)]
pub(crate) struct WriteHalf {
    stream: TcpStream,
    tls: Option<Tls>,
}

impl WriteHalf {
    /// Sends all of `bytes`.
    pub(crate) fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(tls) = &self.tls else { return self.stream.write_all(bytes) };
        let mut tls = lock(tls);
        // Less than its buffer holds (64 KiB).
        for piece in bytes.chunks(16 << 10) {
            tls.writer().write_all(piece)?;
            while tls.wants_write() {
                tls.write_tls(&mut self.stream)?;
            }
        }
        Ok(())
    }
}

/// Whether an error is a timeout.
pub(crate) fn timed_out(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// Connects to the host of `to`, at an address that the guard allows. `within` is the timeout of the look-up, of connecting, of the
/// TLS handshake, and of each read and write afterwards.
pub(crate) fn connect(guard: &PullGuard, to: &Address, within: Duration) -> Result<Socket, Error> {
    if let Some(proxy) = proxied::proxy(guard, to) {
        proxied::check(guard, to, within)?;
        let addresses = guard::look_up(&proxy.host, proxy.port, within)?;
        return connect_any(&addresses, &proxy.to_string(), within)
            .and_then(|stream| finish(stream, Some(proxy), to, within));
    }
    let host = to.host();
    let addresses = guard::resolve(guard, &host, to.port(), to.is_from_outside(), within)?;
    let inside = addresses.iter().any(|address| guard::is_inside(guard, &host, address.ip()));
    let connected =
        connect_any(&addresses, &to.authority(), within).and_then(|stream| finish(stream, None, to, within));
    connected.map_err(|error| if inside { error.concealed(&to.authority()) } else { error })
}

/// Connects to one of these addresses of `authority`.
fn connect_any(addresses: &[SocketAddr], authority: &str, within: Duration) -> Result<TcpStream, Error> {
    let until = Instant::now() + within;
    let mut fault = None;
    for (i, address) in addresses.iter().enumerate() {
        // The time left is divided, so that an address that swallows packets leaves time for the next one.
        let left = until.saturating_duration_since(Instant::now()) / (addresses.len() - i) as u32;
        match TcpStream::connect_timeout(address, left.max(LEAST_CONNECT_TIME)) {
            Ok(stream) => return Ok(stream),
            Err(e) => fault = Some(e),
        }
    }
    let authority = authority.to_owned();
    Err(match fault {
        Some(e) if e.kind() == io::ErrorKind::ConnectionRefused => Error::Refused(authority),
        Some(e) if timed_out(&e) => Error::Timeout { host: authority, what: "take the connection", after: within },
        Some(e) => Error::Unreachable(authority, e),
        None => Error::Unresolved(authority),
    })
}

/// Prepares a connection, through a proxy if it leads to one.
fn finish(stream: TcpStream, proxy: Option<&Proxy>, to: &Address, within: Duration) -> Result<Socket, Error> {
    let prepared = stream.set_nodelay(true).and_then(|()| DeadlineStream::new(stream, within));
    let mut stream = prepared.map_err(|e| Error::Unreachable(to.authority(), e))?;
    if !matches!(to.scheme, Scheme::Https | Scheme::Rtsps) {
        return Ok(Socket::Plain(stream));
    }
    if let Some(proxy) = proxy {
        proxied::open(&mut stream, proxy, to, within)?;
    }
    let fault = |why: String| Error::Tls { host: to.authority(), why };
    let name = ServerName::try_from(to.host()).map_err(|_| fault("its name can't be in a certificate".into()))?;
    let client = ClientConnection::new(config().map_err(fault)?, name).map_err(|e| fault(e.to_string()))?;
    let unreachable = |e| Error::Unreachable(to.authority(), e);
    stream.set_deadline(Some(Instant::now() + within)).map_err(unreachable)?;
    let mut stream = StreamOwned::new(client, stream);
    while stream.conn.is_handshaking() {
        match stream.conn.complete_io(&mut stream.sock) {
            Ok(_) => {}
            Err(e) if timed_out(&e) => {
                return Err(Error::Timeout { host: to.authority(), what: "finish TLS", after: within });
            }
            Err(e) => return Err(handshake_fault(to.authority(), e)),
        }
    }
    stream.sock.set_deadline(None).map_err(unreachable)?;
    Ok(Socket::Tls(Box::new(stream)))
}

/// Why TLS was not agreed on: what is wrong with the server's, or a connection that broke.
fn handshake_fault(host: String, error: io::Error) -> Error {
    match error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()) {
        Some(found) => Error::Tls { host, why: tls_text(found) },
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            Error::Handshake(host, io::Error::new(error.kind(), "it hung up"))
        }
        None => Error::Handshake(host, error),
    }
}

/// What is wrong with a server's TLS, as text for people.
fn tls_text(error: &rustls::Error) -> String {
    use rustls::CertificateError as Bad;
    match error {
        rustls::Error::InvalidMessage(_) => "it does not speak TLS there".into(),
        rustls::Error::InvalidCertificate(bad) => match bad {
            Bad::UnknownIssuer | Bad::BadSignature => "its certificate is from nobody that this system trusts".into(),
            Bad::Expired | Bad::ExpiredContext { .. } => "its certificate has expired".into(),
            Bad::NotValidYet | Bad::NotValidYetContext { .. } => "its certificate is not valid yet".into(),
            Bad::NotValidForName | Bad::NotValidForNameContext { .. } => "its certificate is for another name".into(),
            other => format!("its certificate is refused ({other})"),
        },
        other => other.to_string(),
    }
}

/// The TLS configuration, with the root certificates of this system. They are read once: it takes some milliseconds.
fn config() -> Result<Arc<ClientConfig>, String> {
    static CONFIG: OnceLock<Result<Arc<ClientConfig>, String>> = OnceLock::new();
    CONFIG
        .get_or_init(|| {
            let mut roots = RootCertStore::empty();
            let (found, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if found == 0 {
                return Err("this system has no certificates to trust (on Debian: install ca-certificates)".into());
            }
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
            let config = builder.map_err(|e| e.to_string())?.with_root_certificates(roots).with_no_client_auth();
            Ok(Arc::new(config))
        })
        .clone()
}
