//! What can go wrong with a pull, in a text for whoever wrote the URL. No text shows a login or a query.

use model::{Blame, Fault};
use std::time::Duration;

/// Why something could not be fetched. [`Error::blame`] says whose doing it is, [`Error::retry`] whether another attempt can
/// help.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum Error {
    #[error("unsupported URL type: {0} can't be pulled; http, https, srt, rtsp and rtsps can")]
    Scheme(String),
    #[error("the URL can't be understood: {0}")]
    Address(&'static str),
    /// The guard refuses the address.
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
    /// Something came in time, but not all of it.
    #[error("{host} is too slow: it did not {what} within {after:?}")]
    Slow { host: String, what: &'static str, after: Duration },
    /// A proxy of the environment does not lead there.
    #[error("the proxy {proxy} does not lead to {host}: {why}")]
    Proxy { proxy: String, host: String, why: String },
    #[error("TLS with {host} failed: {why}")]
    Tls { host: String, why: String },
    /// The connection broke before TLS was agreed on.
    #[error("TLS with {0} failed: {1}")]
    Handshake(String, #[source] std::io::Error),
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
    /// A text in place of media, with a status of success.
    #[error("{0} answers with a web page in place of media")]
    Page(String),
    #[error("the connection to {0} broke: {1}")]
    Broken(String, #[source] std::io::Error),
    #[error("the connection to {0} ended before all had come")]
    Truncated(String),
    #[error("the file on {0} changed while it was read")]
    Changed(String),
    #[error("the playlist can't be used: {0}")]
    Playlist(&'static str),
    /// A live playlist that does not grow.
    #[error(
        "the live playlist on {host} has had nothing new for {after:?}, and no EXT-X-ENDLIST says that it has ended"
    )]
    Stalled { host: String, after: Duration },
    #[error("more than the allowed {0} bytes would be fetched")]
    TooMuch(u64),
    #[error("the file says it has {size} bytes, and {allowed} are allowed")]
    TooLarge { size: u64, allowed: u64 },
    #[error("a temporary file could not be used: {0}")]
    Temporary(#[source] std::io::Error),
    /// This pull got no allowance for a temporary file.
    #[error(
        "the index of this file is at its end and its server takes no range requests, so it would have to be kept on disk here; that many \
         pulls may do so already (url.max_temporary_files): try again later"
    )]
    NoTemporary,
    /// In place of what would tell whether a port of a private network is open: whoever writes URLs is not to find out by words.
    #[error("{host} gives nothing that can be pulled (this server's log says why)")]
    Inside { host: String, retry: bool },
}

impl Error {
    /// Whose doing it is: the settings of the ingress where the URL may not be or can't be pulled, this machine's where its disk
    /// fails, and else the source's.
    pub fn blame(&self) -> Blame {
        match self {
            Self::Scheme(_) | Self::Address(_) | Self::Denied { .. } => Blame::Spec,
            Self::Temporary(_) | Self::NoTemporary => Blame::Us,
            _ => Blame::Source,
        }
    }

    /// Whether the connection was not made, or did not hold.
    fn is_of_connection(&self) -> bool {
        matches!(
            self,
            Self::Refused(_)
                | Self::Unreachable(..)
                | Self::LookupTimeout(..)
                | Self::Timeout { .. }
                | Self::Slow { .. }
                | Self::Handshake(..)
                | Self::Broken(..)
                | Self::Truncated(_)
        )
    }

    /// Whether the same request may succeed a little later.
    pub fn retry(&self) -> bool {
        match self {
            _ if self.is_of_connection() => true,
            Self::NoTemporary => true,
            Self::Inside { retry, .. } => *retry,
            Self::Status { status, .. } => *status >= 500 || *status == 429,
            _ => false,
        }
    }

    /// Whether the same request may succeed a little later in the middle of a stream, whose server has answered before: also a name that
    /// was found before, and an answer that was malformed once.
    pub fn may_pass(&self) -> bool {
        let passing = matches!(self, Self::Unresolved(_) | Self::Protocol { .. } | Self::Page(_) | Self::Inside { .. });
        self.retry() || passing
    }

    /// Whether it may be the fault of one file alone: others of the same stream may come.
    pub fn is_of_one_file(&self) -> bool {
        match self {
            _ if self.is_of_connection() => false,
            Self::NoTemporary | Self::Temporary(_) => false,
            Self::Inside { retry, .. } => !retry,
            _ => !self.is_policy(),
        }
    }

    /// Whether our own rules end the pull. A live source is not tried again then; after any other error it may come back.
    pub fn is_policy(&self) -> bool {
        matches!(self, Self::Denied { .. } | Self::TooMuch(_))
    }

    /// This error as it is told of a server in a private network that the configuration does not allow by name: nothing about whether
    /// and how it answered, which goes to the log. What a web server says in its own words stays.
    pub fn concealed(self, host: &str) -> Self {
        match self {
            Self::Refused(_)
            | Self::Unreachable(..)
            | Self::Timeout { .. }
            | Self::Slow { .. }
            | Self::Tls { .. }
            | Self::Handshake(..)
            | Self::Protocol { .. }
            | Self::Broken(..)
            | Self::Truncated(_) => {
                eprintln!("{self}");
                Self::Inside { host: host.to_owned(), retry: self.retry() }
            }
            other => other,
        }
    }

    /// The fault as people read it.
    pub fn fault(&self) -> Fault {
        Fault { blame: self.blame(), retry: self.retry(), text: self.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closed_open_and_silent_ports_inside_read_the_same() {
        let host = || "10.0.0.1:22".to_owned();
        let words = |error: Error| error.concealed("10.0.0.1:22").to_string();
        let timeout = Error::Timeout { host: host(), what: "take the connection", after: Duration::from_secs(10) };
        let text = words(Error::Refused(host()));
        for error in
            [timeout, Error::Protocol { host: host(), what: "its answer is no HTTP" }, Error::Truncated(host())]
        {
            assert_eq!(words(error), text);
        }
        assert!(text.contains("10.0.0.1:22") && !text.contains("refused"));
        assert!(Error::Refused(host()).concealed("x").retry() && !Error::Inside { host: host(), retry: false }.retry());
        let told = Error::NotFound { host: host(), status: 404 };
        assert!(words(told).contains("404"), "a web server's own words");
    }

    #[test]
    fn a_fault_keeps_blame_retry_and_text() {
        let busy = Error::Status { host: "h".into(), status: 503 };
        assert_eq!(busy.fault(), Fault::transient(Blame::Source, "h answers with an error: 503"));
        let denied = Error::Denied { host: "h".into(), why: "no".into() };
        assert_eq!(denied.fault(), Fault::new(Blame::Spec, "h must not be pulled from: no"));
        let gone = Error::NotFound { host: "h".into(), status: 404 };
        assert_eq!((gone.may_pass(), gone.is_of_one_file()), (false, true));
        let name = Error::Unresolved("h".into());
        assert_eq!((name.retry(), name.may_pass(), name.is_of_one_file()), (false, true, true));
        let away = Error::Refused("h".into());
        assert_eq!((away.may_pass(), away.is_of_one_file()), (true, false));
        assert!(!Error::TooMuch(1).is_of_one_file() && !Error::TooMuch(1).may_pass());
        let disk = Error::Temporary(std::io::ErrorKind::StorageFull.into());
        assert_eq!((disk.blame(), disk.retry()), (Blame::Us, false));
    }
}
