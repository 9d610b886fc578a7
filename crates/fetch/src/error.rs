//! What can go wrong with a pull, in words for whoever wrote the address. None shows a login or a query.

use std::time::Duration;

/// Why something could not be fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum Error {
    #[error("unsupported URL type: {0} can't be pulled; http, https, srt, rtsp and rtsps can")]
    Scheme(String),
    #[error("the URL can't be understood: {0}")]
    Address(&'static str),
    /// The guard's word.
    #[error("{host} must not be pulled from: {why}")]
    Denied { host: String, why: String },
    #[error("the name {0} has no address")]
    Unresolved(String),
    #[error("looking up the name {0} took longer than {1:?}")]
    LookupTimeout(String, Duration),
    #[error("{0} refused the connection: is its server running?")]
    Refused(String),
    #[error("{0} can't be reached: {1}")]
    Unreachable(String, #[source] std::io::Error),
    /// Nothing came in time.
    #[error("{host} did not {what} within {after:?}")]
    Timeout { host: String, what: &'static str, after: Duration },
    /// Something came, and not enough of it.
    #[error("{host} is too slow: it did not {what} within {after:?}")]
    Slow { host: String, what: &'static str, after: Duration },
    #[error("TLS with {host} failed: {why}")]
    Tls { host: String, why: String },
    /// 404 and 410. Opens with the Go ingress's text: users filter for it.
    #[error("File not found: {host} answers {status}")]
    NotFound { host: String, status: u16 },
    /// 401, 403 and 407.
    #[error("{host} does not let us in: it answers {status}{}", if *.status == 401 { " (a login is wanted or wrong)" } else { "" })]
    Forbidden { host: String, status: u16 },
    #[error("the file is empty")]
    Empty,
    /// Any other status that is no success.
    #[error("{host} answers with an error: {status}")]
    Status { host: String, status: u16 },
    #[error("more than {0} redirects")]
    Redirects(usize),
    #[error("{host} does not speak HTTP as expected: {what}")]
    Protocol { host: String, what: &'static str },
    #[error("the connection to {0} broke: {1}")]
    Broken(String, #[source] std::io::Error),
    #[error("the connection to {0} ended before all had come")]
    Truncated(String),
    #[error("the file on {0} changed while it was read")]
    Changed(String),
    #[error("the playlist can't be used: {0}")]
    Playlist(&'static str),
    /// A live one that nobody adds to.
    #[error("the live playlist on {host} has had nothing new for {after:?}")]
    Stands { host: String, after: Duration },
    #[error("more than the allowed {0} bytes would be fetched")]
    TooMuch(u64),
    #[error("the file says it has {size} bytes, and {allowed} are allowed")]
    TooLarge { size: u64, allowed: u64 },
    #[error("a temporary file could not be used: {0}")]
    Temporary(#[source] std::io::Error),
}

impl Error {
    /// Whether it was decided here, so that what is live is not tried again: it may come back from any other fault.
    pub fn is_verdict(&self) -> bool {
        matches!(self, Self::Denied { .. } | Self::TooMuch(_))
    }

    /// Whether the same may succeed a little later.
    pub fn passes(&self) -> bool {
        match self {
            Self::Refused(_)
            | Self::Unreachable(..)
            | Self::LookupTimeout(..)
            | Self::Timeout { .. }
            | Self::Slow { .. }
            | Self::Broken(..)
            | Self::Truncated(_) => true,
            Self::Status { status, .. } => *status >= 500 || *status == 429,
            _ => false,
        }
    }
}
