//! How a connection came to its end, and what each side learns of it.

use model::{Blame, Fault};
use session::SourceEnd;
use std::io;

/// See the [module](self).
#[derive(Debug)]
pub(super) enum End {
    /// The publisher ended its stream.
    Finished,
    /// The peer closed its side.
    Closed,
    /// The socket failed.
    Socket(io::Error),
    /// The peer broke the protocol or a deadline.
    Protocol(rtmp::Error),
    /// The peer does not read.
    WriteTimeout,
    /// The publish was refused by the service, which has logged it.
    Rejected(Fault),
    /// The publish was refused before the service answered.
    Refused(Fault),
    /// It has shown no key, and gave way to a younger connection.
    GaveWay,
    /// The session has let go of the publisher.
    Stopped(Option<Fault>),
}

impl End {
    /// The value of the metric's label.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Closed => "closed",
            Self::Socket(_) => "socket",
            Self::Protocol(error) => error.label(),
            Self::WriteTimeout => "write_timeout",
            Self::Refused(_) | Self::Rejected(_) => "refused",
            Self::GaveWay => "gave_way",
            Self::Stopped(_) => "stopped",
        }
    }

    /// For the log and, where the session ended by it, for the ingress's state.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Finished => "the encoder ended its stream".into(),
            Self::Closed => "the encoder closed the connection".into(),
            Self::Socket(error) => format!("the encoder's connection broke: {error}"),
            Self::Protocol(error) => error.to_string(),
            Self::WriteTimeout => "the encoder does not read the answers".into(),
            Self::Refused(fault) | Self::Rejected(fault) | Self::Stopped(Some(fault)) => fault.text.clone(),
            Self::GaveWay => "it showed no key, and gave way to a younger connection".into(),
            Self::Stopped(None) => "the session has ended".into(),
        }
    }

    /// The session's last event.
    pub(super) fn for_session(&self, parting: bool) -> SourceEnd {
        let text = || self.text();
        match self {
            Self::Finished | Self::Closed | Self::Refused(_) | Self::Rejected(_) | Self::GaveWay | Self::Stopped(_) => {
                SourceEnd::Finished
            }
            Self::Socket(_) if parting => SourceEnd::Finished,
            // An encoder that quits without closing its stream leaves a reset if it had not read all of ours, an ordinary close if it had:
            // the same to everybody (and to the Go ingress).
            Self::Socket(error) if error.kind() == io::ErrorKind::ConnectionReset => SourceEnd::Finished,
            Self::Socket(_) | Self::WriteTimeout | Self::Protocol(rtmp::Error::Idle) => {
                SourceEnd::Lost(Fault::transient(Blame::Source, text()))
            }
            Self::Protocol(_) => SourceEnd::Lost(Fault::new(Blame::Source, text())),
        }
    }

    /// Whether the peer may read a last message.
    pub(super) fn peer_reads(&self) -> bool {
        !matches!(self, Self::Socket(_) | Self::WriteTimeout | Self::GaveWay)
    }
}
