//! TLS for the servers that strangers reach (RTMPS, WHIP), with a certificate that may be renewed while they run.

use rustls::ServerConfig;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// How long a certificate that was replaced on disk may still be shown to new connections. A check costs two system calls.
const CERTIFICATE_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Where certificate and key are, both PEM.
#[derive(Clone, Debug)]
pub struct Files {
    /// The certificate, followed by those that lead to the root.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Why TLS can't be offered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file cannot be read, or is no PEM of its kind.
    #[error("{path}: {source}")]
    Pem {
        /// Which.
        path: PathBuf,
        /// Why.
        source: pem::Error,
    },
    /// Certificate and key do not fit.
    #[error("certificate and key do not fit: {0}")]
    Certificate(#[from] rustls::Error),
    /// The port can't be used.
    #[error(transparent)]
    Port(#[from] io::Error),
}

/// A certificate that follows its files.
#[derive(Debug)]
pub(crate) struct Tls {
    files: Files,
    /// Whose certificate it is, for logs.
    of: &'static str,
    current: Mutex<Current>,
}

struct Current {
    acceptor: TlsAcceptor,
    stamp: Stamp,
    checked: Instant,
}

impl std::fmt::Debug for Current {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Current").field("stamp", &self.stamp).finish_non_exhaustive()
    }
}

/// When the files were written last; `None` for one that is not there just now.
type Stamp = [Option<SystemTime>; 2];

impl Tls {
    pub(crate) fn new(files: Files, of: &'static str) -> Result<Self, Error> {
        let stamp = stamp(&files);
        let current = Current { acceptor: load(&files)?, stamp, checked: Instant::now() };
        Ok(Self { files, of, current: Mutex::new(current) })
    }

    /// The handshake with one peer, with the certificate that is valid now.
    pub(crate) fn accept<S: AsyncRead + AsyncWrite + Send + Unpin>(
        &self,
        stream: S,
        deadline: Duration,
    ) -> impl Future<Output = io::Result<TlsStream<S>>> + Send + use<S> {
        let accept = self.acceptor(Instant::now()).accept(stream);
        async move {
            let timed_out = || io::Error::new(io::ErrorKind::TimedOut, "the TLS handshake did not end in time");
            tokio::time::timeout(deadline, accept).await.unwrap_or_else(|_| Err(timed_out())).map_err(explained)
        }
    }

    fn acceptor(&self, now: Instant) -> TlsAcceptor {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if now.duration_since(current.checked) >= CERTIFICATE_CHECK_INTERVAL {
            current.checked = now;
            let stamp = stamp(&self.files);
            if stamp != current.stamp {
                // Also after a failure: the next change of the files is the next chance. Two files that are replaced one
                // after the other change twice.
                current.stamp = stamp;
                match load(&self.files) {
                    Ok(acceptor) => {
                        current.acceptor = acceptor;
                        tracing::info!(certificate = %self.files.certificate.display(), "{} certificate renewed", self.of);
                    }
                    Err(error) => tracing::error!(%error, "{} certificate not renewed; the old one stays", self.of),
                }
            }
        }
        current.acceptor.clone()
    }
}

/// What a peer lacks, in words: the library has names for it that only its own code explains.
fn explained(error: io::Error) -> io::Error {
    use rustls::PeerIncompatible as Lacks;
    let lacks = match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::PeerIncompatible(lacks)) => lacks,
        _ => return error,
    };
    let text = match lacks {
        Lacks::Tls12NotOffered
        | Lacks::Tls12NotOfferedOrEnabled
        | Lacks::ServerDoesNotSupportTls12Or13
        | Lacks::SupportedVersionsExtensionRequired => {
            "it offers TLS 1.1 or older, and 1.2 is the oldest that is taken"
        }
        Lacks::NoCipherSuitesInCommon => {
            "it offers no cipher suite that is taken: these are ECDHE with AES-GCM or ChaCha20-Poly1305, not key exchange by RSA"
        }
        _ => return error,
    };
    io::Error::new(error.kind(), format!("{text} ({error})"))
}

fn stamp(files: &Files) -> Stamp {
    [&files.certificate, &files.key].map(|f| std::fs::metadata(f).and_then(|m| m.modified()).ok())
}

fn load(files: &Files) -> Result<TlsAcceptor, Error> {
    let pem = |path: &PathBuf| {
        let path = path.clone();
        move |source| Error::Pem { path, source }
    };
    let chain = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(|certificates| certificates.collect::<Result<Vec<_>, _>>())
        .map_err(pem(&files.certificate))?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(pem(&files.key))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// A new certificate, signed by itself.
    fn renew(files: &Files) {
        let request = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost";
        let mut command = Command::new("openssl");
        command.args(request.split(' ')).arg("-out").arg(&files.certificate).arg("-keyout").arg(&files.key);
        assert!(command.output().unwrap().status.success());
    }

    #[test]
    fn what_a_peer_lacks_is_told_in_words() {
        use rustls::PeerIncompatible as Lacks;
        let told = |error| explained(io::Error::new(io::ErrorKind::InvalidData, error)).to_string();
        assert!(told(rustls::Error::PeerIncompatible(Lacks::Tls12NotOffered)).contains("TLS 1.1 or older"));
        assert!(told(rustls::Error::PeerIncompatible(Lacks::NoCipherSuitesInCommon)).contains("ECDHE"));
        assert_eq!(told(rustls::Error::DecryptError), rustls::Error::DecryptError.to_string());
    }

    #[test]
    fn a_certificate_follows_its_files_and_outlives_a_broken_one() {
        let directory = std::env::temp_dir().join(format!("tls-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let files = Files { certificate: directory.join("certificate.pem"), key: directory.join("key.pem") };
        assert!(matches!(Tls::new(files.clone(), "test"), Err(Error::Pem { .. })));
        renew(&files);
        let tls = Tls::new(files.clone(), "test").unwrap();
        let now = Instant::now();
        let shown = |after: Duration| Arc::as_ptr(tls.acceptor(now + after).config());
        let first = shown(Duration::ZERO);
        // Times of files may be coarse: make the change certain.
        let touch = |path: &PathBuf, seconds| {
            let file = std::fs::File::options().append(true).open(path).unwrap();
            file.set_modified(SystemTime::now() + Duration::from_secs(seconds)).unwrap();
        };
        renew(&files);
        touch(&files.certificate, 60);
        assert_eq!(shown(CERTIFICATE_CHECK_INTERVAL / 2), first, "not looked at on every accept");
        let second = shown(CERTIFICATE_CHECK_INTERVAL);
        assert_ne!(second, first);
        std::fs::write(&files.certificate, "no certificate").unwrap();
        touch(&files.certificate, 120);
        assert_eq!(shown(CERTIFICATE_CHECK_INTERVAL * 2), second);
        std::fs::remove_file(&files.certificate).unwrap();
        assert_eq!(shown(CERTIFICATE_CHECK_INTERVAL * 3), second);
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
