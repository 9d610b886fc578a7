//! TLS towards Redis, from the settings of the Go programs' `tls` block.

use super::config::{ConfigError, Tls};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::path::Path;
use std::sync::Arc;

/// Reads the files and makes what a handshake needs. Names its crypto provider itself: with two of them in the program,
/// rustls knows no default.
pub(super) fn client_config(tls: &Tls) -> Result<Arc<ClientConfig>, ConfigError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| ConfigError::Tls(e.to_string()))?;
    let builder = if tls.insecure {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(AcceptAny(provider)))
    } else {
        builder.with_root_certificates(roots(tls.ca_cert_file.as_deref())?)
    };
    let config = match (&tls.client_cert_file, &tls.client_key_file) {
        (Some(cert), Some(key)) => {
            let chain = certificates("client_cert_file", cert)?;
            let key_der =
                PrivateKeyDer::from_pem_file(key).map_err(|e| file_error("client_key_file", key, e.to_string()))?;
            builder
                .with_client_auth_cert(chain, key_der)
                .map_err(|e| file_error("client_key_file", key, e.to_string()))?
        }
        (None, None) => builder.with_no_client_auth(),
        _ => return Err(ConfigError::Tls("client_cert_file and client_key_file need each other".into())),
    };
    Ok(Arc::new(config))
}

fn roots(file: Option<&Path>) -> Result<RootCertStore, ConfigError> {
    let mut store = RootCertStore::empty();
    let Some(file) = file else {
        // Certificates of the system that can't be read are skipped, as long as some can.
        let system = rustls_native_certs::load_native_certs();
        store.add_parsable_certificates(system.certs);
        if store.is_empty() {
            return Err(ConfigError::Tls("the system has no certificate authorities; set ca_cert_file".into()));
        }
        return Ok(store);
    };
    for certificate in certificates("ca_cert_file", file)? {
        store.add(certificate).map_err(|e| file_error("ca_cert_file", file, e.to_string()))?;
    }
    Ok(store)
}

fn certificates(key: &'static str, file: &Path) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_file_iter(file).and_then(Iterator::collect);
    match read {
        Ok(certificates) if certificates.is_empty() => Err(file_error(key, file, "holds no certificate".into())),
        Ok(certificates) => Ok(certificates),
        Err(e) => Err(file_error(key, file, e.to_string())),
    }
}

fn file_error(key: &'static str, path: &Path, reason: String) -> ConfigError {
    ConfigError::File { key, path: path.to_owned(), reason }
}

/// Accepts any certificate, but not a peer that does not hold the key to it.
#[derive(Debug)]
struct AcceptAny(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
