//! Where media comes in: ports, addresses and filters.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The ports that media comes in at, and the addresses to name in answers.
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
    /// Ask `stun_servers` for our external address. Done in the background: an answer names what is known by then and never
    /// waits.
    pub use_external_ip: bool,
    /// The STUN servers (RFC 8489), `host:port`.
    pub stun_servers: Vec<String>,
    /// Name the machine's own address beside the external one.
    pub advertise_internal_ip: bool,
    /// Name the external address only, even while it is not known.
    pub external_ip_only: bool,
    /// Answer checks but send none (RFC 8445 §2.5): for machines that everybody can reach.
    pub ice_lite: bool,
    /// Send checks to candidates of clients that are private, link-local or loopback addresses.
    pub check_private: bool,
    /// Interfaces to use, by name.
    pub interfaces: Filter<String>,
    /// Addresses to use, as network and number of leading bits that count.
    pub networks: Filter<(IpAddr, u8)>,
    /// Whether loopback addresses are used too.
    pub loopback: bool,
}

/// The UDP ports of an [`Endpoint`](crate::Endpoint); ends of ranges are included.
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
pub struct Filter<T> {
    /// Use these alone.
    pub includes: Vec<T>,
    /// Don't use these.
    pub excludes: Vec<T>,
}

impl<T> Default for Filter<T> {
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
            check_private: false,
            interfaces: Filter::default(),
            networks: Filter::default(),
            loopback: false,
        }
    }
}
