//! The ports of the receiving side: the sockets that sessions share or have for themselves, the tasks that read them, and the
//! addresses to name in answers.

mod addresses;
mod config;
mod external_address;
mod mux;
mod reader;
mod tcp;

pub use addresses::machine_addresses;
pub use config::{EndpointConfig, Filter, UdpPorts};
pub(crate) use mux::{Datagram, Registration, is_check};

use crate::transport::{Transport, host_candidate};
use crate::udp::Udp;
use crate::{Error, Refusal};
use external_address::ExternalAddresses;
use model::AddressKind;
use mux::Mux;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use str0m::net::TcpType;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

/// Ports of a range that are tried for one session.
const MAX_PORT_TRIES: usize = 64;

/// The sockets of one port, one for each address.
pub(crate) type Sockets = Arc<[Arc<Udp>]>;

/// All ports of an endpoint. They close when it is dropped.
#[derive(Debug)]
pub(crate) struct Ports {
    config: EndpointConfig,
    locals: Vec<IpAddr>,
    /// For each shared port its sockets.
    shared: Vec<Sockets>,
    tcp: Vec<SocketAddr>,
    mux: Mux,
    external: ExternalAddresses,
    /// Whose turn it is among the shared ports, or in the range.
    next: AtomicUsize,
    tasks: Vec<AbortHandle>,
}

/// The ports of one session.
#[derive(Debug)]
pub(crate) struct SessionPorts {
    pub(crate) sockets: Sockets,
    /// UDP and TCP addresses at which the session is reached.
    pub(crate) locals: Vec<(Transport, SocketAddr)>,
    /// The sockets are the session's own.
    exclusive: bool,
}

/// A session's registration at the ports; dropping it ends it.
#[derive(Debug)]
pub(crate) struct SessionInbox {
    pub(crate) registration: Registration,
    pub(crate) datagrams: mpsc::Receiver<Datagram>,
    readers: Vec<AbortHandle>,
}

impl Drop for SessionInbox {
    fn drop(&mut self) {
        self.readers.iter().for_each(AbortHandle::abort);
    }
}

impl Drop for Ports {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Ports {
    /// Opens them, and spawns what reads them.
    ///
    /// # Errors
    /// [`Error::Port`] if a port can't be opened, [`Error::NoAddress`] if the filters leave no address.
    pub(crate) async fn open(config: EndpointConfig) -> Result<Self, Error> {
        let locals = addresses::to_bind(&config, &addresses::of_this_machine())?;
        let (mux, external) = (Mux::default(), ExternalAddresses::default());
        let mut tasks = Vec::new();
        let mut shared = Vec::new();
        for port in shared_ports(&config) {
            let sockets = open_udp(&locals, port)?;
            for socket in sockets.iter() {
                tasks.push(tokio::spawn(reader::read_shared(socket.clone(), mux.clone())).abort_handle());
            }
            shared.push(sockets);
        }
        let mut tcp = Vec::new();
        for &ip in config.tcp_port.as_ref().map_or(&[][..], |_| &locals) {
            let address = SocketAddr::new(ip, config.tcp_port.unwrap_or_default());
            let fault = |source| Error::Port { protocol: "TCP", address, source };
            let listener = TcpListener::bind(address).await.map_err(fault)?;
            tcp.push(listener.local_addr().map_err(fault)?);
            tasks.push(tokio::spawn(tcp::listen(listener, mux.clone())).abort_handle());
        }
        if config.use_external_ip && config.node_ipv4.is_none() {
            let refreshing = external.clone().refresh(locals.clone(), config.stun_servers.clone());
            tasks.push(tokio::spawn(refreshing).abort_handle());
        }
        tracing::debug!(?locals, udp = ?config.udp, ?tcp, "media ports are open");
        Ok(Self { config, locals, shared, tcp, mux, external, next: AtomicUsize::new(0), tasks })
    }

    /// The UDP addresses that all sessions share; empty where each has its own.
    pub(crate) fn udp_addresses(&self) -> Vec<SocketAddr> {
        self.shared.iter().flat_map(|s| s.iter()).map(|u| u.address).collect()
    }

    /// Whether a check may be sent to a candidate of a client's (a `candidate:` line): anybody with a key names any address, and what is
    /// sent to a private one knocks at this machine's neighbours. A client there sends checks itself, and answers go where those came
    /// from.
    pub(crate) fn may_check(&self, candidate: &str) -> bool {
        let outside =
            |c: str0m::Candidate| matches!(AddressKind::of(c.addr().ip()), AddressKind::Public | AddressKind::Tunnel);
        self.config.check_private || str0m::Candidate::from_sdp_string(candidate).is_ok_and(outside)
    }

    /// Whether we answer checks and send none (RFC 8445 §2.5).
    pub(crate) fn ice_lite(&self) -> bool {
        self.config.ice_lite
    }

    /// The ports for a new session.
    ///
    /// # Errors
    /// [`Refusal::Full`].
    pub(crate) fn for_session(&self) -> Result<SessionPorts, Refusal> {
        let (sockets, exclusive) = self.sockets()?;
        let udp = sockets.iter().map(|u| (Transport::Udp, u.address));
        let locals = udp.chain(self.tcp.iter().map(|a| (Transport::Tcp, *a))).collect();
        Ok(SessionPorts { sockets, locals, exclusive })
    }

    /// The sockets for a new session, and whether they are its own.
    fn sockets(&self) -> Result<(Sockets, bool), Refusal> {
        let UdpPorts::PerSession { first, last } = self.config.udp else {
            let turn = self.next.fetch_add(1, Ordering::Relaxed);
            let empty = || Arc::from(Vec::new());
            let count = self.shared.len().max(1);
            return Ok((self.shared.get(turn % count).cloned().unwrap_or_else(empty), false));
        };
        if self.config.force_tcp {
            return Ok((Arc::from(Vec::new()), false));
        }
        let count = usize::from(last.saturating_sub(first)) + 1;
        let from = self.next.fetch_add(1, Ordering::Relaxed);
        let ports = (0..count).map(|i| first + u16::try_from((from + i) % count).unwrap_or(0));
        // Others may sit on ports of the range: the next one is as good.
        ports
            .take(MAX_PORT_TRIES)
            .find_map(|port| open_udp(&self.locals, port).ok())
            .map(|s| (s, true))
            .ok_or(Refusal::Full)
    }

    /// Registers a session under its ICE user fragment: what is for it arrives from here on.
    pub(crate) fn register(&self, ports: &SessionPorts, ufrag: String) -> SessionInbox {
        let (registration, inbox, datagrams) = self.mux.register(ufrag);
        let own = ports.sockets.iter().filter(|_| ports.exclusive);
        let readers = own.map(|s| reader::read_exclusive(s.clone(), inbox.clone())).collect();
        SessionInbox { registration, datagrams, readers }
    }

    /// The candidates to name in answers for these addresses, as `candidate:` lines.
    pub(crate) fn candidates(&self, locals: &[(Transport, SocketAddr)]) -> Vec<String> {
        let external = self.external.get();
        let mut lines: Vec<String> = Vec::new();
        for (transport, local) in locals {
            for ip in addresses::to_name(&self.config, local.ip(), &external) {
                let named = SocketAddr::new(ip, local.port());
                let Ok(candidate) = host_candidate(*transport, named, TcpType::Passive) else { continue };
                let line = candidate.to_sdp_string().trim_start_matches("a=").trim_end().to_owned();
                if !lines.contains(&line) {
                    lines.push(line);
                }
            }
        }
        lines
    }
}

fn shared_ports(config: &EndpointConfig) -> Vec<u16> {
    let UdpPorts::Shared { first, last } = config.udp else { return Vec::new() };
    if config.force_tcp {
        return Vec::new();
    }
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    (first..=last.max(first)).take(processors).collect()
}

fn open_udp(locals: &[IpAddr], port: u16) -> Result<Sockets, Error> {
    let open = |ip: &IpAddr| {
        let address = SocketAddr::new(*ip, port);
        Udp::open(address).map(Arc::new).map_err(|source| Error::Port { protocol: "UDP", address, source })
    };
    locals.iter().map(open).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[tokio::test]
    async fn candidates_follow_the_config() {
        let config = EndpointConfig {
            udp: UdpPorts::Shared { first: 0, last: 0 },
            bind_address: Ipv4Addr::LOCALHOST.into(),
            loopback: true,
            node_ipv4: Some("203.0.113.1".parse().unwrap()),
            ..Default::default()
        };
        let ports = Ports::open(config).await.unwrap();
        let named = |ip: &str| ports.candidates(&[(Transport::Udp, SocketAddr::new(ip.parse().unwrap(), 5000))]);
        assert!(named("10.0.0.1")[0].contains(" 203.0.113.1 5000 typ host"), "{:?}", named("10.0.0.1"));
        assert!(named("127.0.0.1")[0].contains(" 127.0.0.1 5000 typ host"));
    }

    #[tokio::test]
    async fn private_candidates_are_not_checked_unless_configured() {
        let mut config = EndpointConfig {
            udp: UdpPorts::Shared { first: 0, last: 0 },
            bind_address: Ipv4Addr::LOCALHOST.into(),
            loopback: true,
            ..Default::default()
        };
        let strict = Ports::open(config.clone()).await.unwrap();
        config.check_private = true;
        let open = Ports::open(config).await.unwrap();
        for (address, outside) in [
            ("198.51.100.7", true),
            ("2606:4700::7", true),
            ("10.0.0.1", false),
            ("127.0.0.1", false),
            ("169.254.1.1", false),
            ("fe80::1", false),
            ("fd00::1", false),
        ] {
            let line = format!("candidate:1 1 udp 2130706431 {address} 5000 typ host");
            assert_eq!((strict.may_check(&line), open.may_check(&line)), (outside, true), "{address}");
        }
        assert!(!strict.may_check("candidate:nonsense"));
    }
}
