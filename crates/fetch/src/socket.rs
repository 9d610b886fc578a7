//! One connection, plain or with TLS, with a deadline for every wait.

use crate::timed::Timed;
use crate::{Address, Error, Scheme, guard};
use model::PullGuard;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{self, Read, Write};
use std::net::{IpAddr, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// A connection.
#[derive(Debug)]
pub(crate) enum Socket {
    Plain(Timed),
    Tls(Box<StreamOwned<ClientConnection, Timed>>),
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
    /// What lies below TLS, if that is there.
    pub(crate) fn stream(&self) -> &TcpStream {
        match self {
            Self::Plain(s) => s.stream(),
            Self::Tls(s) => s.sock.stream(),
        }
    }

    /// Lets no read last beyond this, however many bytes come.
    pub(crate) fn set_until(&mut self, until: Option<Instant>) -> io::Result<()> {
        match self {
            Self::Plain(s) => s.set_until(until),
            Self::Tls(s) => s.sock.set_until(until),
        }
    }

    /// The address at the other end.
    pub(crate) fn peer(&self) -> io::Result<IpAddr> {
        self.stream().peer_addr().map(|a| a.ip().to_canonical())
    }

    /// Two halves for two threads. Reading waits without end from here on: who needs a deadline shuts the stream down.
    pub(crate) fn split(self) -> io::Result<(Reading, Writing)> {
        self.stream().set_read_timeout(None)?;
        let stream = self.stream().try_clone()?;
        // What was decrypted with the handshake comes out first.
        let mut there = Vec::new();
        let tls = match self {
            Self::Plain(_) => None,
            Self::Tls(mut tls) => {
                let waiting = tls.conn.process_new_packets().map_err(io::Error::other)?.plaintext_bytes_to_read();
                there.resize(waiting, 0);
                tls.conn.reader().read_exact(&mut there)?;
                Some(Arc::new(Mutex::new(tls.conn)))
            }
        };
        let reading = Reading { stream: stream.try_clone()?, tls: tls.clone(), there, at: 0 };
        Ok((reading, Writing { stream, tls }))
    }
}

type Tls = Arc<Mutex<ClientConnection>>;

fn lock(tls: &Tls) -> MutexGuard<'_, ClientConnection> {
    tls.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The half of a connection that is read from.
#[derive(Debug)]
pub(crate) struct Reading {
    stream: TcpStream,
    tls: Option<Tls>,
    /// What was decrypted and not yet taken.
    there: Vec<u8>,
    at: usize,
}

impl Reading {
    /// Decrypts what came; more than its buffer holds comes out in between.
    fn decrypt(&mut self, mut came: &[u8]) -> io::Result<()> {
        let Some(tls) = &self.tls else { return Ok(()) };
        let mut tls = lock(tls);
        while !came.is_empty() {
            tls.read_tls(&mut came)?;
            let there = tls.process_new_packets().map_err(io::Error::other)?.plaintext_bytes_to_read();
            let before = self.there.len();
            self.there.resize(before + there, 0);
            tls.reader().read_exact(&mut self.there[before..])?;
        }
        // An answer to a change of keys.
        while tls.wants_write() {
            tls.write_tls(&mut &self.stream)?;
        }
        Ok(())
    }
}

impl Read for Reading {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.tls.is_none() {
            return self.stream.read(buf);
        }
        while self.at == self.there.len() {
            (self.there, self.at) = (Vec::new(), 0);
            let mut came = vec![0; 16 << 10];
            match self.stream.read(&mut came)? {
                0 => return Ok(0),
                n => self.decrypt(&came[..n])?,
            }
        }
        let n = buf.len().min(self.there.len() - self.at);
        buf[..n].copy_from_slice(&self.there[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}

/// The half that is written to.
#[derive(Debug)]
pub(crate) struct Writing {
    stream: TcpStream,
    tls: Option<Tls>,
}

impl Writing {
    /// Sends all of it.
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

/// Whether an error says that the time was up.
pub(crate) fn timed_out(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// Connects to an address of this host that the guard lets pass.
pub(crate) fn connect(guard: &PullGuard, to: &Address, within: Duration) -> Result<Socket, Error> {
    let host = to.host();
    let addresses = guard::resolve(guard, &host, to.port(), within)?;
    let until = Instant::now() + within;
    let mut fault = None;
    for (i, address) in addresses.iter().enumerate() {
        // What is left is shared out, so that one address that swallows packets leaves time for the next.
        let left = until.saturating_duration_since(Instant::now()) / (addresses.len() - i) as u32;
        match TcpStream::connect_timeout(address, left.max(Duration::from_millis(100))) {
            Ok(stream) => return finish(stream, to, within),
            Err(e) => fault = Some(e),
        }
    }
    let authority = to.authority();
    Err(match fault {
        Some(e) if e.kind() == io::ErrorKind::ConnectionRefused => Error::Refused(authority),
        Some(e) if timed_out(&e) => Error::Timeout { host: authority, what: "take the connection", after: within },
        Some(e) => Error::Unreachable(authority, e),
        None => Error::Unresolved(host),
    })
}

fn finish(stream: TcpStream, to: &Address, within: Duration) -> Result<Socket, Error> {
    let prepared = stream.set_nodelay(true).and_then(|()| Timed::new(stream, within));
    let mut stream = prepared.map_err(|e| Error::Unreachable(to.authority(), e))?;
    if !matches!(to.scheme, Scheme::Https | Scheme::Rtsps) {
        return Ok(Socket::Plain(stream));
    }
    let fault = |why: String| Error::Tls { host: to.authority(), why };
    let name = ServerName::try_from(to.host()).map_err(|_| fault("its name can't be in a certificate".into()))?;
    let client = ClientConnection::new(config().map_err(fault)?, name).map_err(|e| fault(e.to_string()))?;
    let unreachable = |e| Error::Unreachable(to.authority(), e);
    stream.set_until(Some(Instant::now() + within)).map_err(unreachable)?;
    let mut stream = StreamOwned::new(client, stream);
    while stream.conn.is_handshaking() {
        match stream.conn.complete_io(&mut stream.sock) {
            Ok(_) => {}
            Err(e) if timed_out(&e) => {
                return Err(Error::Timeout { host: to.authority(), what: "finish TLS", after: within });
            }
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Err(fault("it hung up".into())),
            Err(e) => return Err(fault(tls_words(&e))),
        }
    }
    stream.sock.set_until(None).map_err(unreachable)?;
    Ok(Socket::Tls(Box::new(stream)))
}

/// What is wrong with a server's TLS, for people.
fn tls_words(error: &io::Error) -> String {
    use rustls::CertificateError as Bad;
    let Some(error) = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()) else { return error.to_string() };
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

/// TLS with the roots that this system trusts. They are read once: it takes some milliseconds.
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
