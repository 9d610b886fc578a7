//! The `rtc_config` section (WHIP's WebRTC side, the keys of LiveKit's `RTCConfig`): its types, and how it is read.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// The UDP port of WHIP unless told otherwise (as the Go ingress).
pub const DEFAULT_UDP_PORT: u16 = 7885;

/// WHIP's WebRTC side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RtcConfig {
    /// Where media comes in.
    pub udp: UdpPorts,
    /// ICE over TCP; `None` switches it off.
    pub tcp_port: Option<u16>,
    /// Listen on 3478 as well.
    pub use_stun_port_as_ice: bool,
    /// The addresses to write into candidates in place of the local ones; found out by itself where there is none.
    pub node_ip: NodeIp,
    /// STUN servers, `host:port`; LiveKit's defaults where empty.
    pub stun_servers: Vec<String>,
    /// Ask STUN servers for the external address.
    pub use_external_ip: bool,
    /// Don't test whether the external address reaches us.
    pub skip_external_ip_validation: bool,
    /// Offer the internal address beside the external one.
    pub advertise_internal_ip: bool,
    /// Offer the external address only.
    pub external_ip_only: bool,
    /// ICE-lite.
    pub use_ice_lite: bool,
    /// Which interfaces to use, by name.
    pub interfaces: Filter<String>,
    /// Which addresses to use.
    pub ips: Filter<IpNet>,
    /// Offer the loopback address as well.
    pub enable_loopback_candidate: bool,
    /// Resolve mDNS candidates.
    pub use_mdns: bool,
    /// No UDP at all.
    pub force_tcp: bool,
    /// Sending many datagrams with one call.
    pub batch_io: BatchIo,
    /// SCTP's congestion window; `None` is the library's default. WHIP has no data channel.
    pub sctp: Sctp,
    /// How long ICE waits before it takes a pair of each kind; `None` is the library's default.
    pub acceptance_min_wait: AcceptanceMinWait,
}

/// Where media comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UdpPorts {
    /// One port for all, or several of them side by side (as many as there are CPUs are used).
    Shared(PortRange),
    /// A port for each session.
    PerSession(PortRange),
}

/// Ports from `start` to `end`, both included; neither is 0 and `end` is not below `start`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct PortRange {
    pub start: u16,
    pub end: u16,
}

impl PortRange {
    /// A single port.
    pub fn one(port: u16) -> Self {
        Self { start: port, end: port }
    }

    /// Whether a port is in it.
    pub fn contains(self, port: u16) -> bool {
        (self.start..=self.end).contains(&port)
    }
}

/// Addresses to write into candidates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct NodeIp {
    pub v4: Option<Ipv4Addr>,
    pub v6: Option<Ipv6Addr>,
}

/// What to use and what not; nothing in `includes` means all that is not in `excludes`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Filter<T> {
    pub includes: Vec<T>,
    pub excludes: Vec<T>,
}

impl<T> Default for Filter<T> {
    fn default() -> Self {
        Self { includes: Vec::new(), excludes: Vec::new() }
    }
}

/// An address and how many of its leading bits count (CIDR).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpNet {
    /// The address.
    pub address: IpAddr,
    /// The bits that count: up to 32 or 128.
    pub prefix: u8,
}

/// Sending many datagrams with one call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchIo {
    /// Datagrams in a call; 0 switches it off.
    pub batch_size: u32,
    /// How long a datagram may wait for others.
    pub max_flush_interval: Duration,
}

/// SCTP's congestion window, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Sctp {
    pub min_cwnd: Option<u32>,
    pub fast_rtx_wnd: Option<u32>,
    pub cwnd_ca_step: Option<u32>,
}

/// How long ICE waits before it takes a pair of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct AcceptanceMinWait {
    pub host: Option<Duration>,
    pub srflx: Option<Duration>,
    pub prflx: Option<Duration>,
    pub relay: Option<Duration>,
}

impl Default for RtcConfig {
    fn default() -> Self {
        Self {
            udp: UdpPorts::Shared(PortRange::one(DEFAULT_UDP_PORT)),
            tcp_port: None,
            use_stun_port_as_ice: false,
            node_ip: NodeIp::default(),
            stun_servers: Vec::new(),
            use_external_ip: false,
            skip_external_ip_validation: false,
            advertise_internal_ip: false,
            external_ip_only: false,
            use_ice_lite: false,
            interfaces: Filter::default(),
            ips: Filter::default(),
            enable_loopback_candidate: false,
            use_mdns: false,
            force_tcp: false,
            batch_io: BatchIo::default(),
            sctp: Sctp::default(),
            acceptance_min_wait: AcceptanceMinWait::default(),
        }
    }
}
