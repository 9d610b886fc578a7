//! How datagrams travel, what kind they are, and the ICE candidates of our own addresses. Pure.

use std::net::SocketAddr;
use str0m::Candidate;
use str0m::net::{Protocol, TcpType};

/// How a datagram travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// UDP.
    Udp,
    /// TCP, with a length before each datagram (RFC 4571).
    Tcp,
}

impl From<Transport> for Protocol {
    fn from(transport: Transport) -> Self {
        match transport {
            Transport::Udp => Self::Udp,
            Transport::Tcp => Self::Tcp,
        }
    }
}

/// The transport of what the engine sends. We never give it a candidate of another protocol.
pub(crate) fn of_protocol(protocol: Protocol) -> Transport {
    if protocol == Protocol::Tcp { Transport::Tcp } else { Transport::Udp }
}

/// A host candidate of ours (RFC 8839 §5.1). `tcp` says who opens connections over TCP (RFC 6544 §4.5).
///
/// # Errors
/// In the engine's text, for an address that can be no candidate (unspecified, or of port 0).
pub(crate) fn host_candidate(transport: Transport, address: SocketAddr, tcp: TcpType) -> Result<Candidate, String> {
    let candidate = match transport {
        Transport::Udp => Candidate::host(address, "udp"),
        Transport::Tcp => Candidate::builder().tcp().host(address).tcptype(tcp).build(),
    };
    candidate.map_err(|e| e.to_string())
}

/// A candidate of ours at a TURN server, which is reached from `local`.
///
/// # Errors
/// As [`host_candidate`].
pub(crate) fn relayed_candidate(address: SocketAddr, local: SocketAddr) -> Result<Candidate, String> {
    Candidate::relayed(address, local, Protocol::Udp).map_err(|e| e.to_string())
}

/// Whether a datagram is DTLS (RFC 7983 §7).
pub(crate) fn is_dtls(datagram: &[u8]) -> bool {
    datagram.first().is_some_and(|b| (20..=63).contains(b))
}

/// Whether a datagram is RTP or RTCP (RFC 7983 §7).
pub(crate) fn is_media(datagram: &[u8]) -> bool {
    datagram.first().is_some_and(|b| (128..=191).contains(b))
}
