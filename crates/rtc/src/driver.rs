//! One peer connection: the WebRTC engine and everything that is the same whichever way media goes. [`Driver`] states the contract;
//! a [`Role`] adds what is not the same, see [`crate::roles`].

use crate::Error;
use crate::transport::{self, Transport, host_candidate, is_dtls, relayed_candidate};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use str0m::net::{Receive, TcpType, Transmit};
use str0m::{Candidate, IceConnectionState, Input, Output, Rtc};

/// Datagrams of a DTLS handshake that are kept until ICE is connected: a first flight in small pieces.
const MAX_EARLY: usize = 8;

/// What one end of a connection does with media and with the engine's events. The driver does the rest.
pub(crate) trait Role {
    /// What it tells whoever polls the driver.
    type Event;
    /// Who opens connections over TCP (RFC 6544 §4.5): active is us, passive the other side.
    const TCP_TYPE: TcpType;
    /// Nothing received for so long on a connection that is up means that it is broken.
    const SILENCE_TIMEOUT: Duration;
    /// How long the connection may take to come up; `None` where the caller decides.
    const CONNECT_TIMEOUT: Option<Duration>;
    /// Whether unanswered ICE checks alone mean that the connection is broken.
    const ICE_DECIDES: bool;

    /// The connection has changed.
    fn connection_changed(&mut self, change: Change);

    /// A datagram of a connection with keys comes, and goes to the engine next.
    fn incoming(&mut self, _rtc: &mut Rtc, _data: &[u8], _now: Instant) {}

    /// An event of the engine's that is not about the connection.
    fn engine_event(&mut self, rtc: &mut Rtc, event: str0m::Event);

    /// Time passes. `up`: whether the connection is up.
    fn tick(&mut self, rtc: &mut Rtc, up: bool, now: Instant);

    /// When [`Role::tick`] is due for the role's own sake.
    fn deadline(&self) -> Option<Instant>;

    /// The next event for whoever polls the driver.
    fn poll_event(&mut self) -> Option<Self::Event>;
}

/// A change of the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// ICE and DTLS are up. Comes again after an ICE restart.
    Up,
    /// The path is broken, by ICE's verdict or by [`Role::SILENCE_TIMEOUT`]; an ICE restart may find another one.
    Down,
    /// It did not come up within [`Role::CONNECT_TIMEOUT`].
    ConnectTimeout,
    /// The DTLS handshake has failed.
    HandshakeFailed,
    /// The other side closed it (DTLS close_notify), or it can't go on.
    Closed,
    /// A new address of ours, as `candidate:` line (RFC 8839 §5.1).
    LocalCandidate(String),
}

/// A peer connection without sockets and without a clock of its own.
///
/// # Contract
/// - Inputs are [`receive`](Self::receive), [`tick`](Self::tick) and the methods that a role adds. After each of them call
///   [`drain`](Self::drain), which hands out the datagrams to send and takes in what the engine has to say. Several frames or packets
///   that leave together count as one input.
/// - Then take events from [`poll_event`](Self::poll_event) until there is none. The caller bounds their number by doing so: only
///   what the other side sends makes new ones.
/// - [`deadline`](Self::deadline) is right after `drain`, until the next input. Call `tick` when it is reached, and after media was
///   handed in, which leaves as time passes. A deadline may be past; `tick` at once then. Times never go back.
/// - Whatever a stranger sends is refused by `receive`, never an error. An error of `tick` or `drain` is final: drop the driver.
/// - [`close`](Self::close) takes effect with the `drain` after it. Dropping a driver says nothing to the other side.
pub(crate) struct Driver<R> {
    rtc: Rtc,
    role: R,
    state: ConnectionState,
    early: Vec<Datagram>,
    engine_deadline: Instant,
    created: Instant,
    last_received: Instant,
    /// The time of the last input.
    now: Instant,
}

/// What is known of the connection.
#[derive(Debug, Default)]
struct ConnectionState {
    /// A path to the other side works.
    ice_up: bool,
    /// Paths are being checked, at the start or after a restart.
    checking: bool,
    dtls_up: bool,
}

impl ConnectionState {
    fn is_up(&self) -> bool {
        self.ice_up && self.dtls_up
    }
}

/// A datagram that came before ICE was connected.
struct Datagram {
    transport: Transport,
    from: SocketAddr,
    to: SocketAddr,
    data: Vec<u8>,
}

impl<R> std::fmt::Debug for Driver<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver").field("state", &self.state).finish_non_exhaustive()
    }
}

impl<R: Role> Driver<R> {
    /// Drives an engine that has just been made.
    pub(crate) fn new(rtc: Rtc, role: R, now: Instant) -> Self {
        let state = ConnectionState::default();
        Self { rtc, role, state, early: Vec::new(), engine_deadline: now, created: now, last_received: now, now }
    }

    /// The role's own state.
    pub(crate) fn role(&self) -> &R {
        &self.role
    }

    /// Role and engine, for the methods that a role adds.
    pub(crate) fn parts(&mut self) -> (&mut R, &mut Rtc) {
        (&mut self.role, &mut self.rtc)
    }

    /// Whether ICE and DTLS are up.
    pub(crate) fn is_up(&self) -> bool {
        self.state.is_up()
    }

    /// Our ICE user fragment and password.
    pub(crate) fn credentials(&mut self) -> (String, String) {
        let credentials = self.rtc.direct_api().local_ice_credentials();
        (credentials.ufrag, credentials.pass)
    }

    /// Adds an address of ours; true if it is new.
    pub(crate) fn add_local(&mut self, transport: Transport, address: SocketAddr) -> bool {
        self.add(host_candidate(transport, address, R::TCP_TYPE), address)
    }

    /// Adds an address of ours at a TURN server that is reached from `local`; true if it is new.
    pub(crate) fn add_relayed(&mut self, address: SocketAddr, local: SocketAddr) -> bool {
        self.add(relayed_candidate(address, local), address)
    }

    fn add(&mut self, candidate: Result<Candidate, String>, address: SocketAddr) -> bool {
        match candidate {
            Ok(candidate) => {
                let line = self.rtc.add_local_candidate(candidate).map(Candidate::to_sdp_string);
                let Some(line) = line else { return false };
                self.role.connection_changed(Change::LocalCandidate(line));
                true
            }
            Err(error) => {
                tracing::debug!(%address, %error, "not usable as an ICE candidate");
                false
            }
        }
    }

    /// Takes an address of ours back.
    pub(crate) fn remove_local(&mut self, transport: Transport, address: SocketAddr) {
        if let Ok(candidate) = host_candidate(transport, address, R::TCP_TYPE) {
            self.rtc.direct_api().invalidate_candidate(&candidate);
        }
    }

    /// Takes an address of ours at a TURN server back.
    pub(crate) fn remove_relayed(&mut self, address: SocketAddr, local: SocketAddr) {
        if let Ok(candidate) = relayed_candidate(address, local) {
            self.rtc.direct_api().invalidate_candidate(&candidate);
        }
    }

    /// Adds an address of the other side, from a `candidate:` line. Gives transport and address, unless it is of no use to us.
    pub(crate) fn add_remote(&mut self, line: &str) -> Option<(Transport, SocketAddr)> {
        let candidate = Candidate::from_sdp_string(line)
            .inspect_err(|error| tracing::debug!(line, %error, "skipping a remote candidate"))
            .ok()?;
        let transport = match candidate.proto() {
            str0m::net::Protocol::Udp => Transport::Udp,
            // An active one has no port to connect to (RFC 6544 §4.5).
            str0m::net::Protocol::Tcp if candidate.tcptype() != Some(TcpType::Active) => Transport::Tcp,
            _ => return None,
        };
        let address = candidate.addr();
        self.rtc.add_remote_candidate(candidate);
        Some((transport, address))
    }

    /// Takes a datagram; false if it does not belong to this connection, or can't be read: anybody can send to us.
    pub(crate) fn receive(
        &mut self,
        transport: Transport,
        from: SocketAddr,
        to: SocketAddr,
        data: &[u8],
        now: Instant,
    ) -> bool {
        self.now = now;
        let Ok(receive) = Receive::new(transport.into(), from, to, data) else { return false };
        let input = Input::Receive(now, receive);
        if !self.rtc.accepts(&input) {
            // The sender of a first flight waits up to a second before it repeats what we drop. Once ICE is connected nothing is
            // kept any more: what is refused then is not for us.
            if !self.state.ice_up && !self.state.dtls_up && is_dtls(data) && self.early.len() < MAX_EARLY {
                self.early.push(Datagram { transport, from, to, data: data.to_vec() });
            }
            return false;
        }
        self.last_received = now;
        if self.state.dtls_up {
            self.role.incoming(&mut self.rtc, data, now);
        }
        if let Err(error) = self.rtc.handle_input(input) {
            tracing::debug!(%from, %error, "the engine refuses a datagram");
            if !self.is_up() && is_dtls(data) {
                self.role.connection_changed(Change::HandshakeFailed);
            }
        }
        true
    }

    /// The next datagram that came before ICE was connected, once it is.
    fn next_early(&mut self) -> Option<Datagram> {
        (self.state.ice_up && !self.early.is_empty()).then(|| self.early.remove(0))
    }

    /// Waits from the start again before silence counts as loss: the other side has spoken by another way than this one.
    pub(crate) fn reset_silence(&mut self, now: Instant) {
        self.last_received = now;
    }

    /// Lets time pass.
    ///
    /// # Errors
    /// [`Error::Engine`].
    pub(crate) fn tick(&mut self, now: Instant) -> Result<(), Error> {
        self.now = now;
        if self.watchdog_deadline().is_some_and(|deadline| now >= deadline) {
            if self.is_up() {
                self.path_lost();
            } else {
                self.role.connection_changed(Change::ConnectTimeout);
            }
        }
        self.role.tick(&mut self.rtc, self.state.is_up(), now);
        self.rtc.handle_input(Input::Timeout(now)).map_err(|e| Error::Engine(e.into()))
    }

    /// Hands out what is to be sent (transport, from, to, datagram), and takes in what has happened.
    ///
    /// # Errors
    /// [`Error::Engine`].
    pub(crate) fn drain(
        &mut self,
        mut send: impl FnMut(Transport, SocketAddr, SocketAddr, &[u8]),
    ) -> Result<(), Error> {
        loop {
            match self.rtc.poll_output().map_err(|e| Error::Engine(e.into()))? {
                Output::Timeout(at) => {
                    self.engine_deadline = at;
                    let Some(Datagram { transport, from, to, data }) = self.next_early() else {
                        return Ok(());
                    };
                    self.receive(transport, from, to, &data, self.now);
                }
                Output::Transmit(Transmit { proto, source, destination, contents }) => {
                    send(transport::of_protocol(proto), source, destination, &contents);
                }
                Output::Event(event) => self.engine_event(event),
            }
        }
    }

    /// When [`Driver::tick`] is due, as of the last [`Driver::drain`].
    pub(crate) fn deadline(&self) -> Instant {
        [self.watchdog_deadline(), self.role.deadline()].into_iter().flatten().fold(self.engine_deadline, Instant::min)
    }

    /// When the connection counts as broken, or as one that never came up.
    fn watchdog_deadline(&self) -> Option<Instant> {
        if self.is_up() {
            Some(self.last_received + R::SILENCE_TIMEOUT)
        } else if self.state.dtls_up {
            // It was up: whether it comes back is not ours to wait for.
            None
        } else {
            R::CONNECT_TIMEOUT.map(|timeout| self.created + timeout)
        }
    }

    /// What has happened.
    pub(crate) fn poll_event(&mut self) -> Option<R::Event> {
        self.role.poll_event()
    }

    /// Ends the connection and tells the other side (RTCP BYE, DTLS close_notify).
    pub(crate) fn close(&mut self) {
        if let Err(error) = self.rtc.close() {
            tracing::debug!(%error, "closing without telling the other side");
        }
    }

    fn engine_event(&mut self, event: str0m::Event) {
        match event {
            str0m::Event::Connected => {
                self.state.dtls_up = true;
                self.tell_up();
            }
            str0m::Event::IceConnectionStateChange(state) => self.ice_changed(state),
            str0m::Event::Closed => self.role.connection_changed(Change::Closed),
            other => self.role.engine_event(&mut self.rtc, other),
        }
    }

    fn ice_changed(&mut self, state: IceConnectionState) {
        match state {
            IceConnectionState::Connected | IceConnectionState::Completed => {
                self.state.ice_up = true;
                if std::mem::replace(&mut self.state.checking, false) {
                    self.tell_up();
                }
            }
            IceConnectionState::Disconnected if self.state.ice_up => {
                if R::ICE_DECIDES {
                    self.path_lost();
                }
            }
            // Before the first time it only means that no candidate known so far works; more may come, and TCP is to come.
            IceConnectionState::Disconnected => {
                tracing::debug!("no path to the other side so far");
                self.state.checking = true;
            }
            // A restart: the old path serves until a new one is found.
            IceConnectionState::New | IceConnectionState::Checking => self.state.checking = true,
        }
    }

    fn path_lost(&mut self) {
        self.state.ice_up = false;
        self.state.checking = true;
        self.role.connection_changed(Change::Down);
    }

    fn tell_up(&mut self) {
        if self.is_up() {
            self.role.connection_changed(Change::Up);
        }
    }
}
