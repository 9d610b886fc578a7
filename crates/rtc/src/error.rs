//! What can go wrong between us and a peer.

use model::Kind;
use std::io;

/// Faults of a peer connection. All of them end that connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The engine gave up; the connection is of no more use.
    #[error("the WebRTC engine gave up: {0}")]
    Engine(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The other side's session description can't be read or doesn't answer our offer.
    #[error("unusable session description: {0}")]
    Answer(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// An answer came, but no offer of ours waits for one.
    #[error("a session description came that answers no offer")]
    UnexpectedAnswer,
    /// The other side took none of the codecs offered for a track.
    #[error("the other side takes no {} of ours", .0.as_str())]
    NoCommonCodec(Kind),
    /// A port for received media can't be opened.
    #[error("cannot open {protocol} port {address} for media: {source}")]
    Port {
        /// "UDP" or "TCP".
        protocol: &'static str,
        /// Where.
        address: std::net::SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// No address is left to receive media at.
    #[error("no address of this machine is left for media: {0}")]
    NoAddress(String),
    /// No socket could be opened.
    #[error("cannot open a socket for media on {address}: {source}")]
    Socket {
        /// Where.
        address: std::net::IpAddr,
        /// Why not.
        source: io::Error,
    },
}

/// Why an offer or a fragment of one is not taken. The text is for the client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// It can't be read (HTTP 400).
    #[error("unreadable session description: {0}")]
    Unreadable(String),
    /// It can be read, but there is nothing in it that can be used (HTTP 406).
    #[error("{0}")]
    Unacceptable(String),
    /// The fragment is not of the ICE session that runs (HTTP 412).
    #[error("the fragment belongs to another ICE session than the one that runs")]
    OtherIceSession,
    /// The session is over (HTTP 404).
    #[error("the session is over")]
    Gone,
    /// All media ports are taken (HTTP 503).
    #[error("no media port is free")]
    Full,
}
