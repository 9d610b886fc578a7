//! The `rtc_config` section (WebRTC of WHIP, with the keys of LiveKit's `RTCConfig`): its types, and how it is read.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::fault::shortened;
use super::section::{Known, Port, Section};
use super::turn::{self, TurnServer};

/// The default UDP port of WHIP (like the Go ingress).
pub const DEFAULT_UDP_PORT: u16 = 7885;

/// WebRTC of WHIP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RtcConfig {
    /// The UDP ports for media.
    pub udp: UdpPorts,
    /// The port of ICE over TCP; `None` switches it off.
    pub tcp_port: Option<u16>,
    /// Listen on 3478 as well; without effect.
    pub use_stun_port_as_ice: bool,
    /// The addresses in candidates, in place of the local ones; the local ones are used where there is none.
    pub node_ip: NodeIp,
    /// STUN servers, `host:port`: asked for the external address if `use_external_ip`, and offered to WHIP clients.
    pub stun_servers: Vec<String>,
    /// TURN servers, offered to WHIP clients.
    pub turn_servers: Vec<TurnServer>,
    /// Ask STUN servers for the external address.
    pub use_external_ip: bool,
    /// Don't test whether the external address reaches us; without effect.
    pub skip_external_ip_validation: bool,
    /// Offer the internal address beside the external one.
    pub advertise_internal_ip: bool,
    /// Offer the external address only.
    pub external_ip_only: bool,
    /// ICE-lite.
    pub use_ice_lite: bool,
    /// Send ICE checks to candidates of clients that are private or link-local addresses.
    pub check_private_candidates: bool,
    /// Which interfaces to use, by name.
    pub interfaces: Filter<String>,
    /// Which addresses to use.
    pub ips: Filter<IpNet>,
    /// Offer the loopback address as well.
    pub enable_loopback_candidate: bool,
    /// Resolve mDNS candidates; without effect.
    pub use_mdns: bool,
    /// Use no UDP.
    pub force_tcp: bool,
    /// Batches of datagrams; without effect.
    pub batch_io: BatchIo,
    /// SCTP's congestion window; without effect: WHIP has no data channel.
    pub sctp: Sctp,
    /// How long ICE waits before it takes a pair of each kind; without effect.
    pub acceptance_min_wait: AcceptanceMinWait,
}

/// The UDP ports for media.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UdpPorts {
    /// One port for all sessions, or several of them in parallel (as many as there are CPUs are used).
    Shared(PortRange),
    /// One port per session.
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

/// Addresses for candidates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct NodeIp {
    pub v4: Option<Ipv4Addr>,
    pub v6: Option<Ipv6Addr>,
}

/// Selects by name or network. Empty `includes` selects all that is not in `excludes`.
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

/// A network (CIDR).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpNet {
    /// An address in it.
    pub address: IpAddr,
    /// The length of the prefix in bits: up to 32 or 128.
    pub prefix: u8,
}

/// Batches of datagrams, sent with one call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchIo {
    /// Datagrams per call; 0 switches it off.
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
            turn_servers: Vec::new(),
            use_external_ip: false,
            skip_external_ip_validation: false,
            advertise_internal_ip: false,
            external_ip_only: false,
            use_ice_lite: false,
            check_private_candidates: false,
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

/// In the notation of the configuration: `7885`, `50000-60000`.
impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.start == self.end { write!(f, "{}", self.start) } else { write!(f, "{}-{}", self.start, self.end) }
    }
}

impl IpNet {
    /// Whether an address is in it.
    pub fn contains(self, address: IpAddr) -> bool {
        model::in_range(address, self.address, self.prefix)
    }
}

/// `address/bits`.
impl fmt::Display for IpNet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// Reads the `rtc_config` section. Also returns the TCP port, to be compared with the other ports.
pub(super) fn read(mut section: Section<'_, '_>, known: &mut Vec<Known>) -> (RtcConfig, Port) {
    let tcp = section.port("tcp_port", None);
    let force_tcp = section.flag("force_tcp");
    if let (true, None, Some(at)) = (force_tcp, tcp.port, section.at()) {
        section.fault(at, "force_tcp", "needs tcp_port beside it");
    }
    let config = RtcConfig {
        udp: udp(&mut section),
        tcp_port: tcp.port,
        use_stun_port_as_ice: section.flag("use_stun_port_as_ice"),
        node_ip: section.parsed("node_ip", node_ip).map(|n| n.value).unwrap_or_default(),
        stun_servers: section.list("stun_servers", stun_server),
        turn_servers: turn::servers(&mut section, known),
        use_external_ip: section.flag("use_external_ip"),
        skip_external_ip_validation: section.flag("skip_external_ip_validation"),
        advertise_internal_ip: section.flag("advertise_internal_ip"),
        external_ip_only: section.flag("external_ip_only"),
        use_ice_lite: section.flag("use_ice_lite"),
        check_private_candidates: section.flag("check_private_candidates"),
        interfaces: filter(section.section("interfaces"), |name| Ok(name.to_owned()), known),
        ips: filter(section.section("ips"), net, known),
        enable_loopback_candidate: section.flag("enable_loopback_candidate"),
        use_mdns: section.flag("use_mdns"),
        force_tcp,
        batch_io: batch_io(section.section("batch_io"), known),
        sctp: Sctp {
            min_cwnd: window(&mut section, "sctp_min_cwnd"),
            fast_rtx_wnd: window(&mut section, "sctp_fast_rtx_wnd"),
            cwnd_ca_step: window(&mut section, "sctp_cwnd_ca_step"),
        },
        acceptance_min_wait: AcceptanceMinWait {
            host: section.go_duration("host_acceptance_min_wait"),
            srflx: section.go_duration("srflx_acceptance_min_wait"),
            prflx: section.go_duration("prflx_acceptance_min_wait"),
            relay: section.go_duration("relay_acceptance_min_wait"),
        },
    };
    without_effect(&section);
    known.push(section.finish());
    (config, tcp)
}

/// Warns of LiveKit's keys that have no effect in this program.
fn without_effect(section: &Section<'_, '_>) {
    const NO_DATA: &str = "has no effect: WHIP has no data channel";
    const NO_WAIT: &str = "has no effect: the first pair of addresses that works is taken";
    for (key, why) in [
        ("use_stun_port_as_ice", "has no effect: choose udp_port 3478 where that port is wanted"),
        ("skip_external_ip_validation", "has no effect: the external address is not tested"),
        ("use_mdns", "has no effect: clients are found by the checks that they send"),
        ("batch_io", "has no effect: datagrams are read and sent in batches wherever several wait"),
        ("sctp_min_cwnd", NO_DATA),
        ("sctp_fast_rtx_wnd", NO_DATA),
        ("sctp_cwnd_ca_step", NO_DATA),
        ("host_acceptance_min_wait", NO_WAIT),
        ("srflx_acceptance_min_wait", NO_WAIT),
        ("prflx_acceptance_min_wait", NO_WAIT),
        ("relay_acceptance_min_wait", NO_WAIT),
    ] {
        if let Some(at) = section.at_set(key) {
            section.warn(at, key, why);
        }
    }
}

/// Reads the UDP ports. A port range for sessions takes precedence over shared ports, as in LiveKit.
fn udp(section: &mut Section<'_, '_>) -> UdpPorts {
    let shared = section.parsed("udp_port", port_range);
    let start = section.port("port_range_start", None);
    let end = section.port("port_range_end", None);
    match (start.port.zip(start.at), end.port.zip(end.at)) {
        (Some((start, _)), Some((end, at))) if end < start => {
            section.fault(at, "port_range_end", format!("{end} is below port_range_start, which is {start}"));
        }
        (Some((start, at)), Some((end, _))) => {
            if shared.is_some() {
                section.warn(at, "port_range_start", "is used, so udp_port has no effect");
            }
            return UdpPorts::PerSession(PortRange { start, end });
        }
        (Some((_, at)), None) => section.fault(at, "port_range_start", "needs port_range_end beside it"),
        (None, Some((_, at))) => section.fault(at, "port_range_end", "needs port_range_start beside it"),
        (None, None) => {}
    }
    UdpPorts::Shared(shared.and_then(|s| s.value).unwrap_or(PortRange::one(DEFAULT_UDP_PORT)))
}

/// Reads `7885`, `7885-7890`, or 0 for the default.
fn port_range(text: &str) -> Result<Option<PortRange>, String> {
    let port = |text: &str| text.trim().parse::<u16>().ok();
    let range = match text.split_once('-') {
        None => port(text).map(|p| PortRange { start: p, end: p }),
        Some((start, end)) => port(start).zip(port(end)).map(|(start, end)| PortRange { start, end }),
    };
    match range {
        Some(PortRange { start: 0, end: 0 }) => Ok(None),
        Some(range) if range.start > 0 && range.start <= range.end => Ok(Some(range)),
        _ => {
            Err(format!("{:?} is neither a port (1 to 65535) nor a range of ports such as 7885-7890", shortened(text)))
        }
    }
}

/// Reads an IPv4 address, an IPv6 address, or one of each separated by a comma.
fn node_ip(text: &str) -> Result<NodeIp, String> {
    let wrong = || {
        let text = shortened(text);
        format!("{text:?} is not an address: an IPv4 address, an IPv6 address or both with a comma between are allowed")
    };
    let mut node_ip = NodeIp::default();
    for part in text.split(',') {
        match part.trim().parse::<IpAddr>().map_err(|_| wrong())? {
            IpAddr::V4(v4) if node_ip.v4.is_none() => node_ip.v4 = Some(v4),
            IpAddr::V6(v6) if node_ip.v6.is_none() => node_ip.v6 = Some(v6),
            _ => return Err(wrong()),
        }
    }
    Ok(node_ip)
}

/// Checks `host:port`. It is kept as written and not resolved.
fn stun_server(text: &str) -> Result<String, String> {
    let port =
        text.rsplit_once(':').filter(|(host, _)| !host.is_empty()).and_then(|(_, port)| port.parse::<u16>().ok());
    match port {
        Some(1..) => Ok(text.to_owned()),
        _ => Err(format!("{:?} is not host:port, such as stun.example.com:3478", shortened(text))),
    }
}

/// Reads `address/bits`, or one address.
pub(super) fn net(text: &str) -> Result<IpNet, String> {
    let (address, prefix) = text.split_once('/').map_or((text, None), |(a, p)| (a, Some(p)));
    let address = address.parse::<IpAddr>().ok();
    let net = address.and_then(|address| {
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Some(most), |p| p.parse::<u8>().ok().filter(|p| *p <= most))?;
        Some(IpNet { address, prefix })
    });
    net.ok_or_else(|| format!("{:?} is not a network, such as 10.0.0.0/8 or fd00::/8", shortened(text)))
}

fn filter<T>(
    mut section: Section<'_, '_>,
    read: impl Fn(&str) -> Result<T, String>,
    known: &mut Vec<Known>,
) -> Filter<T> {
    let filter = Filter { includes: section.list("includes", &read), excludes: section.list("excludes", &read) };
    known.push(section.finish());
    filter
}

fn batch_io(mut section: Section<'_, '_>, known: &mut Vec<Known>) -> BatchIo {
    // Linux sends up to 1024 datagrams with one call (UIO_MAXIOV).
    let batch_size = section.int("batch_size", 0..=1024).map_or(0, |b| b.value);
    let max_flush_interval = section.go_duration("max_flush_interval").unwrap_or_default();
    known.push(section.finish());
    BatchIo { batch_size: u32::try_from(batch_size).unwrap_or(0), max_flush_interval }
}

/// Reads a window in bytes; 0 is none.
fn window(section: &mut Section<'_, '_>, key: &'static str) -> Option<u32> {
    let given = section.int(key, 0..=i64::from(u32::MAX))?;
    u32::try_from(given.value).ok().filter(|w| *w != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_ranges() {
        assert_eq!(port_range("7885"), Ok(Some(PortRange::one(7885))));
        assert_eq!(port_range("7885 - 7890"), Ok(Some(PortRange { start: 7885, end: 7890 })));
        assert_eq!(port_range("0"), Ok(None));
        for text in ["", "x", "-1", "0-5", "7890-7885", "1-2-3", "65536", "70000-80000"] {
            assert!(port_range(text).is_err(), "{text}");
        }
    }

    #[test]
    fn node_ips() {
        let both = NodeIp { v4: Some(Ipv4Addr::new(1, 2, 3, 4)), v6: Some(Ipv6Addr::LOCALHOST) };
        assert_eq!(node_ip("1.2.3.4, ::1"), Ok(both));
        assert_eq!(node_ip("::1"), Ok(NodeIp { v4: None, v6: both.v6 }));
        for text in ["", "host", "1.2.3.4,", "1.2.3.4,5.6.7.8", "::1,::2", "1.2.3.4,::1,::2"] {
            assert!(node_ip(text).is_err(), "{text}");
        }
    }

    #[test]
    fn networks() {
        assert_eq!(net("10.0.0.0/8").map(|n| n.to_string()), Ok("10.0.0.0/8".to_owned()));
        assert_eq!(net("fd00::/8").map(|n| n.to_string()), Ok("fd00::/8".to_owned()));
        assert_eq!(net("10.1.2.3").map(|n| n.prefix), Ok(32));
        for text in ["", "10.0.0.0/33", "fd00::/129", "eth0", "10.0.0.0/", "10.0.0.0/-1"] {
            assert!(net(text).is_err(), "{text}");
        }
    }
}
