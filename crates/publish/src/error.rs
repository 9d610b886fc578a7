//! What can go wrong while joining a room. `Display` is the text of the session's fault, for people.

use model::{Blame, Fault};
use std::time::Duration;

/// Faults of publishing. Each names the server, never the token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// `ws_url` is no address of a server.
    #[error("the address of LiveKit, {0:?}, is not a ws:// or wss:// URL")]
    Address(String),
    /// No connection.
    #[error("cannot reach LiveKit at {at}: {source}")]
    Unreachable {
        /// Scheme, host and port.
        at: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A connection, but no answer in time.
    #[error("cannot reach LiveKit at {at}: no answer within {within:?}")]
    Timeout {
        /// Scheme, host and port.
        at: String,
        /// How long we waited.
        within: Duration,
    },
    /// The proxy of the environment does not lead there.
    #[error("the proxy {proxy} does not lead to LiveKit at {at}: {why}")]
    Proxy {
        /// Host and port of the proxy.
        proxy: String,
        /// Scheme, host and port.
        at: String,
        /// Why.
        why: String,
    },
    /// HTTP 401: the token's signature, its time, or what it grants.
    #[error("LiveKit refused the token: {0}; check api_key and api_secret")]
    Token(String),
    /// Any other HTTP status in place of a WebSocket.
    #[error("LiveKit at {at} answered {status}: {text}")]
    Refused {
        /// Scheme, host and port.
        at: String,
        /// The HTTP status.
        status: u16,
        /// The server's text.
        text: String,
    },
}

impl Error {
    /// The HTTP status that came in place of a WebSocket, if one did.
    pub(crate) fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            Self::Token(_) => Some(401),
            _ => None,
        }
    }

    /// Whose fault it is, and whether to try again.
    pub fn fault(&self) -> Fault {
        let retry = match self {
            Self::Address(_) | Self::Token(_) => false,
            Self::Refused { status, .. } => *status >= 500 || *status == 429,
            Self::Unreachable { .. } | Self::Timeout { .. } | Self::Proxy { .. } => true,
        };
        Fault { blame: Blame::Room, retry, text: self.to_string() }
    }
}
