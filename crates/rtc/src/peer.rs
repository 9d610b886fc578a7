//! The sending side: a connection to the SFU with its sockets and its clock, in one task: whoever polls [`Peer::next`] drives it.

mod paths;
mod relay_connection;
mod relays;
mod route;
mod tcp_connection;
mod tcp_fallback;

use crate::Error;
use crate::driver::Driver;
use crate::roles::sender::{Config, Event, Frame, Lines};
use crate::runner::Runner;
use crate::transport::Transport;
use model::{Kind, Packet, TurnServer};
use paths::PeerPaths;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::time::Instant;

/// A peer connection that sends. Its methods don't wait; [`Peer::next`] does, and drives the connection meanwhile: poll it all the
/// time. An error of any method is final. Dropping it says nothing to the other side; [`Peer::close`] does.
pub struct Peer(Runner<PeerPaths>);

impl std::fmt::Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peer").field("driver", &self.0.driver).field("paths", &self.0.paths).finish()
    }
}

impl Peer {
    /// A connection whose first offer holds the addresses from which `toward` is reached. `loopback` says whether loopback
    /// addresses may be among them. Needs a tokio runtime with time and IO.
    ///
    /// # Errors
    /// [`Error::Socket`], [`Error::Engine`].
    pub fn new(config: &Config, toward: &[SocketAddr], loopback: bool) -> Result<Self, Error> {
        let mut driver = Driver::sender(config, Instant::now());
        let mut paths = PeerPaths::new(loopback);
        for remote in toward {
            paths.bind_toward(&mut driver, *remote)?;
        }
        // These are in the offer; only later ones are news.
        while let Some(Event::LocalCandidate(_)) = driver.poll_event() {}
        let mut runner = Runner::new(driver, paths);
        runner.flush()?;
        Ok(Self(runner))
    }

    /// For tests of repair: loses one of so many datagrams of media; 0 loses none.
    #[doc(hidden)]
    pub fn lose_one_in(&mut self, n: u32) {
        self.0.paths.lose_one_in = n;
    }

    /// Offers what is there and `add`, each kind once, as SDP. With `restart`, restarts ICE (RFC 8839 §4.4.1.1.1). `None` if
    /// there is nothing to offer. An offer that waits for its answer is given up.
    ///
    /// # Errors
    /// [`Error::Engine`].
    pub fn offer(&mut self, add: &Lines, restart: bool) -> Result<Option<String>, Error> {
        let offer = self.0.driver.offer(add, restart);
        if restart {
            self.0.paths.tcp.restarting();
        }
        self.0.flush()?;
        Ok(offer)
    }

    /// Takes the answer to the newest offer.
    ///
    /// # Errors
    /// [`Error::UnexpectedAnswer`], [`Error::NoCommonCodec`], [`Error::Answer`], [`Error::Engine`].
    pub fn answer(&mut self, sdp: &str) -> Result<(), Error> {
        let now = Instant::now();
        self.0.driver.answer(sdp, now)?;
        self.0.paths.tcp.answered(now);
        self.0.paths.relays.answered(now);
        self.0.advance(now)
    }

    /// Adds an address of the other side, from a `candidate:` line (RFC 8839 §5.1), and opens a socket for it where needed.
    ///
    /// # Errors
    /// [`Error::Engine`].
    pub fn add_remote(&mut self, line: &str) -> Result<(), Error> {
        let Runner { driver, paths, .. } = &mut self.0;
        let now = Instant::now();
        match driver.add_remote(line).filter(|(_, remote)| paths.may_reach(*remote)) {
            None => return Ok(()),
            Some((Transport::Udp, remote)) => {
                paths.tcp.udp_named(now);
                paths.relays.udp_named(remote);
                if let Err(error) = paths.bind_toward(driver, remote) {
                    tracing::debug!(%remote, %error, "no socket towards a remote candidate");
                }
            }
            Some((Transport::Tcp, remote)) => paths.tcp.tcp_named(remote, now),
        }
        self.0.advance(now)
    }

    /// Names TURN servers, for networks that let nothing else through: to be called before the answer is given.
    pub fn turn_servers(&mut self, servers: Vec<TurnServer>) {
        self.0.paths.relays.told(servers);
    }

    /// Whether frames can be sent.
    pub fn is_up(&self) -> bool {
        self.0.driver.is_up()
    }

    /// Whether frames of this kind can be sent: the connection is up and the track is agreed on.
    pub fn takes(&self, kind: Kind) -> bool {
        self.0.driver.takes(kind)
    }

    /// Sends a frame. Does nothing while the connection is not up, or for a track or a layer that was not offered.
    ///
    /// # Errors
    /// [`Error::Engine`].
    pub fn write(&mut self, kind: Kind, layer: usize, frame: &Frame<'_>) -> Result<(), Error> {
        let now = Instant::now();
        self.0.driver.write(kind, layer, frame, now);
        self.0.step(now)
    }

    /// Sends packets that are passed through, each with whether others of its stream were left out before it, which shall leave no
    /// gap. Does nothing where [`Peer::write`] does nothing.
    ///
    /// # Errors
    /// [`Error::Engine`].
    pub fn forward<'a>(&mut self, packets: impl Iterator<Item = (&'a Packet, bool)>) -> Result<(), Error> {
        let now = Instant::now();
        // The engine sends what is queued as time passes; packets that come together are one step of it.
        for (packet, fresh) in packets {
            self.0.driver.forward(packet, fresh, now);
        }
        self.0.step(now)
    }

    /// Nobody watches this layer for now, and the SFU knows: a pause of it is no sign of its end ([`Event::LayerResumed`]).
    pub fn pause_layer(&mut self, layer: usize) {
        self.0.driver.pause_layer(layer);
    }

    /// Drops what was sent of this layer, so that it is not sent again whoever asks: the uplink has no capacity for it.
    pub fn drop_retransmissions(&mut self, layer: usize) {
        self.0.driver.drop_retransmissions(layer);
    }

    /// Ends the connection and tells the other side.
    pub fn close(&mut self) {
        self.0.driver.close();
        if let Err(error) = self.0.flush() {
            tracing::debug!(%error, "closing without telling the other side");
        }
        self.0.paths.relays.release();
    }

    /// The next thing that happens; drives the connection while it waits. Cancel safe.
    ///
    /// # Errors
    /// [`Error::Engine`].
    pub async fn next(&mut self) -> Result<Event, Error> {
        poll_fn(|cx| self.0.poll_next(cx)).await
    }
}

#[cfg(test)]
mod tests;
