//! The receiving side: one [`Endpoint`] per process takes the media of everybody who offers some (WHIP, RFC 9725).
//!
//! All sessions share its UDP port: a datagram of an address not seen yet is assigned by the ICE user fragment in its STUN
//! request, everything after that by its address. [`Endpoint::accept`] turns an offer into an answer and an [`Incoming`],
//! which delivers what is received. Used by the WHIP server.

mod addresses;
mod mux;
mod stun;
mod tcp;

pub(crate) use mux::{Datagram, Registration};

use crate::engine::Transport;
use crate::incoming::Incoming;
use crate::offer::Offer;
use crate::receiver::{Receiver, local_candidate};
use crate::udp::{Room, Udp};
use crate::{Error, Refusal};
use bytes::BytesMut;
use model::{SourceTracks, VideoCodec};
use mux::Mux;
use std::future::poll_fn;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use stun::External;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

/// The longest datagram that is taken: no path has a larger one for media.
const DATAGRAM: usize = 2048;
/// Memory for datagrams, taken in pieces of this many bytes: some fifty packets of media share one.
const CHUNK: usize = 64 << 10;
/// Messages of one or more datagrams that are read before others get their turn: of a port for all, and of one for a session.
const SHARED_MESSAGES: usize = 32;
const OWN_MESSAGES: usize = 8;
/// How long to let media gather before it is read: a picture is a dozen datagrams that come one by one, and each that is taken
/// alone wakes four tasks on its way to the room. A viewer notices nothing: the timer's own grain is a millisecond.
const GATHER: Duration = Duration::from_millis(1);
/// Ports of a range that are tried for one session.
const MAX_PORT_TRIES: usize = 64;

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
    /// For a session that is passed on: what rooms can take.
    pub fn passed_on() -> Self {
        Self { delivery: Delivery::Packets, video: VideoCodec::OVER_RTP.to_vec() }
    }

    /// The same, of video no others than these: the room takes no more.
    pub fn only(self, video: Vec<VideoCodec>) -> Self {
        Self { video, ..self }
    }

    /// For a session that is transcoded: what the transcoder decodes.
    pub fn transcoded() -> Self {
        Self { delivery: Delivery::Frames, video: VideoCodec::OVER_RTP.to_vec() }
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
pub struct Endpoint(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: EndpointConfig,
    locals: Vec<IpAddr>,
    /// For each shared port its sockets, one for each address.
    shared: Vec<Sockets>,
    tcp: Vec<SocketAddr>,
    mux: Mux,
    external: External,
    next: AtomicUsize,
    tasks: Vec<AbortHandle>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

/// The sockets of one port.
pub(crate) type Sockets = Arc<[Arc<Udp>]>;

impl Endpoint {
    /// Opens the ports. Needs a tokio runtime with time and IO; spawns what serves them.
    ///
    /// # Errors
    /// [`Error::Port`] if a port can't be opened, [`Error::NoAddress`] if the filters leave no address.
    pub async fn bind(config: EndpointConfig) -> Result<Self, Error> {
        let locals = addresses::to_bind(&config, &addresses::of_this_machine())?;
        let (mux, external) = (Mux::default(), External::default());
        let mut tasks = Vec::new();
        let mut shared = Vec::new();
        for port in shared_ports(&config) {
            let sockets = open_udp(&locals, port)?;
            for socket in sockets.iter() {
                tasks.push(tokio::spawn(read_shared(socket.clone(), mux.clone())).abort_handle());
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
            let finding = external.clone().keep(locals.clone(), config.stun_servers.clone());
            tasks.push(tokio::spawn(finding).abort_handle());
        }
        tracing::debug!(?locals, udp = ?config.udp, ?tcp, "receiving media");
        let next = AtomicUsize::new(0);
        Ok(Self(Arc::new(Inner { config, locals, shared, tcp, mux, external, next, tasks })))
    }

    /// The UDP addresses that all sessions share; empty where each has its own.
    pub fn udp_addresses(&self) -> Vec<SocketAddr> {
        self.0.shared.iter().flat_map(|s| s.iter()).map(|u| u.address).collect()
    }

    /// Answers an offer. What it names is refused at once where it can't work; nothing is waited for. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`Refusal::Unreadable`] if it is no SDP offer, [`Refusal::Unacceptable`] if nothing in it can be used,
    /// [`Refusal::Full`] if no port is left.
    pub fn accept(&self, offer: &str, accept: &Accept) -> Result<(Answer, Incoming), Refusal> {
        let lite = self.0.config.ice_lite || answers_no_checks(offer);
        let offer = Offer::read(offer, accept)?;
        let (sockets, own) = self.sockets()?;
        let udp = sockets.iter().map(|u| (Transport::Udp, u.address));
        let locals: Vec<_> = udp.chain(self.0.tcp.iter().map(|a| (Transport::Tcp, *a))).collect();
        let now = Instant::now();
        let (mut receiver, answer) = Receiver::new(offer, accept, lite, &locals, now)?;
        let (fragment, _) = receiver.credentials();
        let candidates = self.candidates(&locals);
        let sdp = receiver.offer().finish(&answer, &candidates);
        let (registration, inbox, datagrams) = self.0.mux.register(fragment.clone());
        let readers =
            if own { sockets.iter().map(|s| read_own(s.clone(), inbox.clone())).collect() } else { Vec::new() };
        let answer = Answer { sdp, ice_session: fragment.clone(), tracks: receiver.tracks() };
        let way = Way { endpoint: self.clone(), sockets, locals, registration, datagrams, readers };
        Ok((answer, Incoming::new(receiver, way, fragment)))
    }

    /// The sockets for a new session, and whether they are its own.
    fn sockets(&self) -> Result<(Sockets, bool), Refusal> {
        let UdpPorts::PerSession { first, last } = self.0.config.udp else {
            let turn = self.0.next.fetch_add(1, Ordering::Relaxed);
            let empty = || Arc::from(Vec::new());
            let count = self.0.shared.len().max(1);
            return Ok((self.0.shared.get(turn % count).cloned().unwrap_or_else(empty), false));
        };
        if self.0.config.force_tcp {
            return Ok((Arc::from(Vec::new()), false));
        }
        let count = usize::from(last.saturating_sub(first)) + 1;
        let from = self.0.next.fetch_add(1, Ordering::Relaxed);
        let ports = (0..count).map(|i| first + u16::try_from((from + i) % count).unwrap_or(0));
        // Others may sit on ports of the range: the next one is as good.
        ports
            .take(MAX_PORT_TRIES)
            .find_map(|port| open_udp(&self.0.locals, port).ok())
            .map(|s| (s, true))
            .ok_or(Refusal::Full)
    }

    /// What the other side is told of how to reach these, as `candidate:` lines.
    pub(crate) fn candidates(&self, locals: &[(Transport, SocketAddr)]) -> Vec<String> {
        let external = self.0.external.get();
        let mut lines: Vec<String> = Vec::new();
        for (transport, local) in locals {
            for ip in addresses::to_name(&self.0.config, local.ip(), &external) {
                let named = SocketAddr::new(ip, local.port());
                let Ok(line) = local_candidate(*transport, named).map(|c| c.to_sdp_string()) else { continue };
                let line = line.trim_start_matches("a=").trim_end().to_owned();
                if !lines.contains(&line) {
                    lines.push(line);
                }
            }
        }
        lines
    }

    pub(crate) fn ice_lite(&self) -> bool {
        self.0.config.ice_lite
    }
}

/// How a session is reached.
#[derive(Debug)]
pub(crate) struct Way {
    pub(crate) endpoint: Endpoint,
    pub(crate) sockets: Sockets,
    pub(crate) locals: Vec<(Transport, SocketAddr)>,
    pub(crate) registration: Registration,
    pub(crate) datagrams: mpsc::Receiver<Datagram>,
    readers: Vec<AbortHandle>,
}

impl Drop for Way {
    fn drop(&mut self) {
        self.readers.iter().for_each(AbortHandle::abort);
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

/// Reads a socket that sessions share.
async fn read_shared(socket: Arc<Udp>, mux: Mux) {
    read(socket, SHARED_MESSAGES, |datagram| _ = mux.dispatch(datagram)).await;
}

/// Reads a socket that one session has for itself.
fn read_own(socket: Arc<Udp>, inbox: mpsc::Sender<Datagram>) -> AbortHandle {
    let reading = async move {
        // A full inbox loses the datagram, as a busy network would.
        read(socket, OWN_MESSAGES, |datagram| _ = inbox.try_send(datagram)).await;
    };
    tokio::spawn(reading).abort_handle()
}

/// Reads a socket for ever. Whose datagrams they are is told by their sender and their first bytes alone.
async fn read(socket: Arc<Udp>, messages: usize, hand_on: impl Fn(Datagram)) {
    let mut room = Room::new(messages);
    let mut buffer = BytesMut::new();
    let mut media = false;
    loop {
        let ready = poll_fn(|cx| socket.poll_ready(cx)).await;
        // Handshakes are not kept waiting; of media the rest of a picture is on its way.
        if media {
            tokio::time::sleep(GATHER).await;
        }
        media = false;
        match ready.and_then(|()| socket.read(&mut room)) {
            Ok(()) => {}
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => continue,
            // ICMP errors of somebody's closed port come out here; they are nobody else's business.
            Err(e) => tracing::trace!(error = %e, "receiving media"),
        }
        for (from, datagram) in room.datagrams().filter(|(_, d)| d.len() <= DATAGRAM) {
            if buffer.capacity() - buffer.len() < datagram.len() {
                buffer = BytesMut::with_capacity(CHUNK);
            }
            buffer.extend_from_slice(datagram);
            let (data, to) = (buffer.split().freeze(), socket.address);
            media |= is_media(&data);
            hand_on(Datagram { transport: Transport::Udp, from, to, data, back: None });
        }
        // Others shall have their turn, also while somebody floods the port.
        tokio::task::yield_now().await;
    }
}

/// RFC 7983 §7.
fn is_media(data: &[u8]) -> bool {
    data.first().is_some_and(|b| (128..=191).contains(b))
}

/// Whether the sender's answers to connectivity checks are of no use. FFmpeg's muxer (8 and 9) leaves the address that it saw
/// out of them (RFC 8445 §7.3.1.2 wants it), so no pair would ever become valid on our side. Towards it we are the lite
/// side (§2.5), which sends no checks.
fn answers_no_checks(offer: &str) -> bool {
    offer.lines().take(4).any(|line| line.starts_with("o=FFmpeg "))
}

#[cfg(test)]
mod tests;
