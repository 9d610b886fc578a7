//! From an address to a byte stream.

use super::config::{Address, ConfigError, Tls};
use super::tls;
use rustls::pki_types::ServerName;
use std::io;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Why a server can't be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    #[error("{address}: {source}")]
    Tcp { address: Address, source: io::Error },
    #[error("{address}: TLS: {source}")]
    Tls { address: Address, source: io::Error },
    #[error("{address}: \"{name}\" can't be a name in a certificate; set server_name")]
    ServerName { address: Address, name: String },
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("{address}: {source}")]
    Redis { address: Address, source: ::redis::RedisError },
    #[error("{address}: no answer within {} ms", within.as_millis())]
    TimedOut { address: Address, within: std::time::Duration },
    #[error("{address} is a {role}, not the master")]
    NotMaster { address: Address, role: String },
    #[error("no sentinel knows a master \"{master_name}\" ({last})")]
    NoMaster { master_name: String, last: String },
    #[error("no address")]
    NoAddress,
}

/// A connection's bytes, encrypted or not.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Connects. The host's name is resolved each time, as masters move. Has no deadline of its own.
pub(super) async fn dial(address: &Address, tls: Option<&Tls>) -> Result<Box<dyn Stream>, DialError> {
    let tcp_error = |source| DialError::Tcp { address: address.clone(), source };
    let tcp = TcpStream::connect((address.host.as_str(), address.port)).await.map_err(tcp_error)?;
    tcp.set_nodelay(true).map_err(tcp_error)?;
    let Some(tls) = tls else { return Ok(Box::new(tcp)) };
    let connector = TlsConnector::from(tls::client_config(tls)?);
    let name = if tls.server_name.is_empty() { &address.host } else { &tls.server_name };
    let name = ServerName::try_from(name.clone())
        .map_err(|_| DialError::ServerName { address: address.clone(), name: name.clone() })?;
    let stream =
        connector.connect(name, tcp).await.map_err(|source| DialError::Tls { address: address.clone(), source })?;
    Ok(Box::new(stream))
}
