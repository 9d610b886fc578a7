//! WHIP's part in the service: its ports, and what becomes of each offer.

use crate::config::{Config, Filter, RtcConfig, TlsConfig, UdpPorts};
use crate::control::ControlPlane;
use crate::http;
use crate::inputs::whip::{Links, Parts, Request, Server};
use crate::load::Capacity;
use crate::sessions::{Admitted, Sessions};
use crate::telemetry::{Metrics, PublishStatus};
use crate::tls::{self, Tls};
use model::{Blame, Fault, InputKind, Secret};
use rtc::{Accept, Endpoint, EndpointConfig, Only};
use std::net::IpAddr;
use std::sync::Arc;
use tracing::{info, warn};

/// Asked for our external address where that is wanted and no server is configured: LiveKit's own choice.
const STUN_SERVERS: [&str; 3] = ["global.stun.twilio.com:3478", "stun.l.google.com:19302", "stun1.l.google.com:19302"];

/// Opens WHIP's ports; `None` if it is switched off, and then no media port is opened either.
///
/// # Errors
/// What keeps a port from being opened, in words.
pub(crate) async fn open(
    config: &Config,
    control: Arc<dyn ControlPlane>,
    load: Capacity,
) -> Result<Option<Server>, Fault> {
    if !config.whip.enabled() {
        return Ok(None);
    }
    let endpoint = Endpoint::bind(endpoint(&config.rtc, config.bind_address))
        .await
        .map_err(|e| Fault::new(Blame::Us, format!("rtc_config: WHIP's media ports can't be opened: {e}")))?;
    let mut server = Server::new(Parts {
        media: Arc::new(endpoint),
        control,
        load,
        links: Links::new(&config.rtc),
        max_connections: config.whip.max_connections as usize,
        max_connections_per_address: config.whip.max_connections_per_address as usize,
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
    Ok(Some(server))
}

/// The next offer; never where WHIP is off. Cancel safe.
pub(crate) async fn next(server: &mut Option<Server>) -> Request {
    match server {
        Some(server) => server.next().await,
        None => std::future::pending().await,
    }
}

/// Lets an offer in or sends it away.
pub(crate) async fn answer(sessions: Arc<Sessions>, metrics: Metrics, request: Request) {
    let (peer, agent, app) = (request.peer, request.agent.clone(), request.app.clone());
    let (key, mut admitted) = match admit(&sessions, &request.keys).await {
        Ok(admitted) => admitted,
        Err((key, fault)) => {
            if let Some(unlogged) = request.may_log() {
                warn!(%peer, agent, app, %key, reason = %fault, unlogged, "WHIP client refused");
            }
            metrics.publish(InputKind::Whip, PublishStatus::from(&fault));
            return request.reject(&fault);
        }
    };
    let (resource, transcode) = (admitted.resource_id(), admitted.transcode());
    let accept = if transcode { Accept::transcoded() } else { Accept::passed_on() };
    let accept = match request.first_choice(&accept).filter(|_| !transcode) {
        Some(format) => match sessions.room_takes(&mut admitted, format).await {
            Some(codecs) => accept.only(codecs),
            None => accept,
        },
        None => accept,
    };
    match request.accept(&key, resource.clone(), &accept).await {
        Ok(source) => {
            info!(%peer, agent, app, %key, resourceID = %resource, transcode, "WHIP client accepted");
            metrics.publish(InputKind::Whip, PublishStatus::Success);
            sessions.start(admitted, source);
        }
        Err(fault) => {
            warn!(%peer, agent, app, %key, reason = %fault, "WHIP offer refused");
            metrics.publish(InputKind::Whip, PublishStatus::from(&fault));
            sessions.withdraw(admitted, &fault).await;
        }
    }
}

/// Admits the first key that somebody has; else gives the last fault.
async fn admit(sessions: &Sessions, keys: &[Secret]) -> Result<(Secret, Admitted), (Secret, Fault)> {
    let mut refused = (Secret::default(), Fault::new(Blame::Unknown, "no stream key was given"));
    for key in keys {
        match sessions.admit(key, InputKind::Whip).await {
            Ok(admitted) => return Ok((key.clone(), admitted)),
            Err(fault) => {
                let unknown = fault.blame == Blame::Unknown;
                refused = (key.clone(), fault);
                if !unknown {
                    break;
                }
            }
        }
    }
    Err(refused)
}

/// The `rtc_config` section as the endpoint takes it.
fn endpoint(rtc: &RtcConfig, bind_address: IpAddr) -> EndpointConfig {
    fn only<T, U>(filter: &Filter<T>, each: impl Fn(&T) -> U) -> Only<U> {
        Only {
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
