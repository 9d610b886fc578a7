//! Opens WHIP's HTTP ports and its media ports as the configuration says.

use super::ice_servers::IceServers;
use super::server::{Parts, Server};
use crate::config::{Filter, RtcConfig, TlsConfig, UdpPorts};
use crate::http;
use crate::inputs::context::Context;
use crate::inputs::listener::Listener;
use crate::tls::{self, Tls};
use model::{Blame, Fault};
use rtc::{Endpoint, EndpointConfig};
use std::net::IpAddr;
use std::sync::Arc;

/// Asked for our external address where that is wanted and no server is configured: LiveKit's own choice.
const STUN_SERVERS: [&str; 3] = ["global.stun.twilio.com:3478", "stun.l.google.com:19302", "stun1.l.google.com:19302"];

/// Opens WHIP's ports; `None` if it is switched off, and then no media port is opened either.
///
/// # Errors
/// What keeps a port from being opened, by its configuration key.
pub(crate) async fn open(context: &Context<'_>) -> Result<Option<Box<dyn Listener>>, Fault> {
    let config = context.config;
    if !config.whip.enabled() {
        return Ok(None);
    }
    let endpoint = Endpoint::bind(endpoint(&config.rtc, config.bind_address))
        .await
        .map_err(|e| Fault::new(Blame::Us, format!("rtc_config: WHIP's media ports can't be opened: {e}")))?;
    let mut server = Server::new(Parts {
        media: Arc::new(endpoint),
        control: context.control.clone(),
        capacity: context.capacity.clone(),
        ice_servers: IceServers::new(&config.rtc).or_of_rooms(context.participants.clone()),
        max_connections: config.whip.max_connections as usize,
        max_connections_per_address: config.whip.max_connections_per_address as usize,
        proxies: http::Proxies { trusted: config.whip.forwarded_from.clone(), header: config.whip.forwarded_header },
    });
    if let Some(port) = config.whip.port {
        let listener = http::listen(config.bind_address, port, "whip_port").await?;
        server.listen(listener).map_err(|e| Fault::new(Blame::Us, format!("whip_port: port {port}: {e}")))?;
    }
    if let Some(TlsConfig { port, cert_file, key_file }) = &config.whip.tls {
        let unusable = |e: &dyn std::fmt::Display| Fault::new(Blame::Us, format!("whip_tls_port: {e}"));
        let files = tls::Files { certificate: cert_file.clone(), key: key_file.clone() };
        let tls = Tls::new(files, "WHIP").map_err(|e| unusable(&e))?;
        let listener = http::listen(config.bind_address, *port, "whip_tls_port").await?;
        server.listen_tls(listener, tls).map_err(|e| unusable(&e))?;
    }
    Ok(Some(Box::new(server)))
}

/// The `rtc_config` section as the endpoint takes it.
fn endpoint(rtc: &RtcConfig, bind_address: IpAddr) -> EndpointConfig {
    fn only<T, U>(filter: &Filter<T>, each: impl Fn(&T) -> U) -> rtc::Filter<U> {
        rtc::Filter {
            includes: filter.includes.iter().map(&each).collect(),
            excludes: filter.excludes.iter().map(&each).collect(),
        }
    }
    let stun_servers = match &rtc.stun_servers[..] {
        [] => STUN_SERVERS.map(str::to_owned).to_vec(),
        configured => configured.to_vec(),
    };
    EndpointConfig {
        udp: match rtc.udp {
            UdpPorts::Shared(range) => rtc::UdpPorts::Shared { first: range.start, last: range.end },
            UdpPorts::PerSession(range) => rtc::UdpPorts::PerSession { first: range.start, last: range.end },
        },
        tcp_port: rtc.tcp_port,
        force_tcp: rtc.force_tcp,
        bind_address,
        node_ipv4: rtc.node_ip.v4,
        node_ipv6: rtc.node_ip.v6,
        use_external_ip: rtc.use_external_ip,
        stun_servers,
        advertise_internal_ip: rtc.advertise_internal_ip,
        external_ip_only: rtc.external_ip_only,
        ice_lite: rtc.use_ice_lite,
        check_private: rtc.check_private_candidates,
        interfaces: only(&rtc.interfaces, String::clone),
        networks: only(&rtc.ips, |net| (net.address, net.prefix)),
        loopback: rtc.enable_loopback_candidate,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{IpNet, PortRange};

    #[test]
    fn what_is_configured_reaches_the_endpoint() {
        let address: IpAddr = "10.0.0.0".parse().unwrap();
        let rtc = RtcConfig {
            udp: UdpPorts::PerSession(PortRange { start: 5, end: 9 }),
            tcp_port: Some(7881),
            enable_loopback_candidate: true,
            ips: Filter { includes: vec![IpNet { address, prefix: 8 }], excludes: Vec::new() },
            interfaces: Filter { includes: Vec::new(), excludes: vec!["docker0".into()] },
            stun_servers: vec!["stun.example:3478".into()],
            ..RtcConfig::default()
        };
        let made = endpoint(&rtc, "127.0.0.1".parse().unwrap());
        assert_eq!(made.udp, rtc::UdpPorts::PerSession { first: 5, last: 9 });
        assert_eq!((made.tcp_port, made.loopback, made.use_external_ip), (Some(7881), true, false));
        assert_eq!((made.networks.includes, made.interfaces.excludes), (vec![(address, 8)], vec!["docker0".into()]));
        assert_eq!(made.stun_servers, ["stun.example:3478"]);
        assert_eq!(endpoint(&RtcConfig::default(), address).stun_servers, STUN_SERVERS);
    }
}
