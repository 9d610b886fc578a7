//! What a call can end with other than an answer.

use crate::{BusError, Code};
use std::time::Duration;

/// A failure, as an answer carries it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What kind it is.
    pub code: Code,
    /// The text for people; must hold no secret.
    pub message: String,
}

impl Failure {
    /// A failure with this text.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// Why a call has no answer.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A server answered with a failure.
    #[error(transparent)]
    Remote(#[from] Failure),
    /// Nobody bid for the request. The text is psrpc's own.
    #[error("no response from servers")]
    NoServers {
        /// Whether the bus said that nobody even listens.
        nobody_listens: bool,
    },
    /// There were bids, but none that wanted the request.
    #[error("no servers available (received {received} responses)")]
    NoneWilling {
        /// How many bids came.
        received: usize,
    },
    /// A server took the request and did not answer in time.
    #[error("request timed out")]
    TimedOut,
    /// The answer is not the message the method promises.
    #[error("malformed result")]
    MalformedResult(#[source] prost::DecodeError),
    /// The bus did not carry the request.
    #[error(transparent)]
    Bus(#[from] BusError),
}

impl Error {
    /// The psrpc code that says the same.
    pub fn code(&self) -> Code {
        match self {
            Self::Remote(failure) => failure.code,
            Self::NoServers { .. } | Self::NoneWilling { .. } | Self::Bus(_) => Code::Unavailable,
            Self::TimedOut => Code::DeadlineExceeded,
            Self::MalformedResult(_) => Code::MalformedResult,
        }
    }

    /// Whether the same call may succeed a little later.
    pub fn retryable(&self) -> bool {
        self.code().retryable()
    }

    pub(crate) fn not_connected(name: &str, since: Duration, reason: &str) -> Self {
        Self::Bus(BusError::Down { name: name.to_owned(), since, reason: reason.to_owned() })
    }
}
