//! The receiving side: one [`Endpoint`] per process takes the media of everybody who offers some (WHIP, RFC 9725).
//!
//! All sessions share its UDP port: a datagram of an address not seen yet is assigned by the ICE user fragment in its STUN
//! request, everything after that by its address. [`Endpoint::accept`] turns an offer into an answer and an [`Incoming`],
//! which delivers what is received. Used by the WHIP server.

use crate::incoming::Incoming;
use crate::{Error, Refusal};
use model::{SourceTracks, VideoCodec};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where media comes in, and which addresses to name in answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointConfig {
    /// The UDP ports.
    pub udp: UdpPorts,
    /// The port of ICE-TCP (RFC 6544); `None` switches it off.
    pub tcp_port: Option<u16>,
    /// No UDP at all; needs `tcp_port`.
    pub force_tcp: bool,
    /// The address that ports are opened on; unspecified (`::`, `0.0.0.0`) means all that the filters leave.
    pub bind_address: IpAddr,
    /// The IPv4 address to name in place of the machine's own.
    pub node_ipv4: Option<Ipv4Addr>,
    /// The IPv6 address to name in place of the machine's own.
    pub node_ipv6: Option<Ipv6Addr>,
    /// Ask `stun_servers` for the address that the internet sees. Done in the background: an answer names what is known by
    /// then and never waits.
    pub use_external_ip: bool,
    /// The STUN servers (RFC 8489), `host:port`.
    pub stun_servers: Vec<String>,
    /// Name the machine's own address beside the external one.
    pub advertise_internal_ip: bool,
    /// Name the external address only, even while it is not known.
    pub external_ip_only: bool,
    /// Answer checks but send none (RFC 8445 §2.5): for machines that everybody can reach.
    pub ice_lite: bool,
    /// Interfaces to use, by name.
    pub interfaces: Only<String>,
    /// Addresses to use, as network and number of leading bits that count.
    pub networks: Only<(IpAddr, u8)>,
    /// Whether loopback addresses are used too.
    pub loopback: bool,
}

/// The UDP ports of an [`Endpoint`]; ends of ranges are included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UdpPorts {
    /// One port for all sessions, or several side by side: as many as there are processors are used.
    Shared {
        /// The first.
        first: u16,
        /// The last.
        last: u16,
    },
    /// A port of its own for each session.
    PerSession {
        /// The first.
        first: u16,
        /// The last.
        last: u16,
    },
}

/// What to use and what not; an empty `includes` means all that `excludes` does not name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Only<T> {
    /// Use these alone.
    pub includes: Vec<T>,
    /// Don't use these.
    pub excludes: Vec<T>,
}

impl<T> Default for Only<T> {
    fn default() -> Self {
        Self { includes: Vec::new(), excludes: Vec::new() }
    }
}

impl Default for EndpointConfig {
    /// UDP port 7885 (the Go ingress's) on all addresses but the loopback ones.
    fn default() -> Self {
        Self {
            udp: UdpPorts::Shared { first: 7885, last: 7885 },
            tcp_port: None,
            force_tcp: false,
            bind_address: IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            node_ipv4: None,
            node_ipv6: None,
            use_external_ip: false,
            stun_servers: Vec::new(),
            advertise_internal_ip: false,
            external_ip_only: false,
            ice_lite: false,
            interfaces: Only::default(),
            networks: Only::default(),
            loopback: false,
        }
    }
}

/// In which shape received media is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// RTP packets as they come, all simulcast layers: to be passed on.
    Packets,
    /// Access units in order, of the best layer: to be decoded.
    Frames,
}

/// What to accept of an offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accept {
    /// How media is delivered.
    pub delivery: Delivery,
    /// The video codecs that may be sent to us. The offer's order decides among them.
    pub video: Vec<VideoCodec>,
}

impl Accept {
    /// For a session that is passed on: what the room takes.
    pub fn passed_on() -> Self {
        Self { delivery: Delivery::Packets, video: Self::all() }
    }

    /// For a session that is transcoded: what the transcoder decodes.
    pub fn transcoded() -> Self {
        Self { delivery: Delivery::Frames, video: Self::all() }
    }

    fn all() -> Vec<VideoCodec> {
        vec![VideoCodec::H264, VideoCodec::H265, VideoCodec::Vp8, VideoCodec::Vp9, VideoCodec::Av1]
    }
}

/// The answer to an offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The SDP, with all our candidates in it: we trickle none.
    pub sdp: String,
    /// Names the ICE session on our side, and changes with each restart: fit for an ETag (RFC 9725 §4.3.1). Letters,
    /// digits, `+` and `/`.
    pub ice_session: String,
    /// What the offer will send of what we take.
    pub tracks: SourceTracks,
}

/// See the module. Clones are the same endpoint; it closes with the last of them.
#[derive(Clone, Debug)]
pub struct Endpoint {}

impl Endpoint {
    /// Opens the ports. Needs a tokio runtime with time and IO; spawns what serves them.
    ///
    /// # Errors
    /// [`Error::Socket`] if a port can't be opened.
    pub async fn bind(config: EndpointConfig) -> Result<Self, Error> {
        let _ = config;
        Ok(Self {})
    }

    /// Answers an offer. What it names is refused at once where it can't work; nothing is waited for.
    ///
    /// # Errors
    /// [`Refusal::Unreadable`] if it is no SDP offer, [`Refusal::Unacceptable`] if nothing in it can be used,
    /// [`Refusal::Full`] if no port is left.
    pub fn accept(&self, offer: &str, accept: &Accept) -> Result<(Answer, Incoming), Refusal> {
        let _ = (offer, accept);
        Err(Refusal::Unacceptable("receiving is not built yet".into()))
    }
}
