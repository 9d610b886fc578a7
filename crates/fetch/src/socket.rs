//! One connection, plain or with TLS, with a deadline for every wait.

use crate::{Address, Error, Scheme, guard};
use model::PullGuard;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// A connection.
#[derive(Debug)]
pub(crate) enum Socket {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
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
    let prepared = stream
        .set_nodelay(true)
        .and_then(|()| stream.set_read_timeout(Some(within)))
        .and_then(|()| stream.set_write_timeout(Some(within)));
    prepared.map_err(|e| Error::Unreachable(to.authority(), e))?;
    if to.scheme != Scheme::Https {
        return Ok(Socket::Plain(stream));
    }
    let fault = |why: String| Error::Tls { host: to.authority(), why };
    let name = ServerName::try_from(to.host()).map_err(|_| fault("its name can't be in a certificate".into()))?;
    let client = ClientConnection::new(config().map_err(fault)?, name).map_err(|e| fault(e.to_string()))?;
    let mut stream = StreamOwned::new(client, stream);
    while stream.conn.is_handshaking() {
        match stream.conn.complete_io(&mut stream.sock) {
            Ok(_) => {}
            Err(e) if timed_out(&e) => {
                return Err(Error::Timeout { host: to.authority(), what: "finish TLS", after: within });
            }
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Err(fault("it hung up".into())),
            Err(e) => return Err(fault(e.to_string())),
        }
    }
    Ok(Socket::Tls(Box::new(stream)))
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
