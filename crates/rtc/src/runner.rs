//! Runs a [`Driver`] on tokio: sockets in, sockets out, and the machine's clock. The same for both roles; a [`Paths`] brings the
//! sockets.

use crate::Error;
use crate::driver::{Driver, Role};
use crate::transport::Transport;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::time::Sleep;

/// The network paths of one connection: where datagrams come from and go to.
pub(crate) trait Paths: Sized {
    /// What the connection does.
    type Role: Role;

    /// Takes what has arrived, and registers `cx` for what arrives later. True if there was anything. It takes a bounded amount,
    /// so that timers and others get their turn.
    ///
    /// # Errors
    /// As [`Driver::tick`].
    fn poll_input(runner: &mut Runner<Self>, cx: &mut Context<'_>) -> Result<bool, Error>;

    /// Does what is due by the paths' own timers. True if anything was.
    fn tick(&mut self, driver: &mut Driver<Self::Role>, now: Instant) -> bool;

    /// When [`Paths::tick`] is due.
    fn deadline(&self) -> Option<Instant>;

    /// Sends a datagram, or loses it as a network would. It may wait for [`Paths::flush`].
    fn send(&mut self, transport: Transport, from: SocketAddr, to: SocketAddr, datagram: &[u8]);

    /// Nothing more is sent for now.
    fn flush(&mut self);
}

/// A driver with its paths. Its methods don't wait; [`Runner::poll_next`] drives the connection.
pub(crate) struct Runner<P: Paths> {
    pub(crate) driver: Driver<P::Role>,
    pub(crate) paths: P,
    timer: Pin<Box<Sleep>>,
}

impl<P: Paths> Runner<P> {
    /// Needs a tokio runtime with time.
    pub(crate) fn new(driver: Driver<P::Role>, paths: P) -> Self {
        Self { driver, paths, timer: Box::pin(tokio::time::sleep(Duration::ZERO)) }
    }

    /// The next event; drives the connection while there is none. Errors are final.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<<P::Role as Role>::Event, Error>> {
        loop {
            if let Some(event) = self.driver.poll_event() {
                return Poll::Ready(Ok(event));
            }
            // Input before timers: what has arrived tells more than the time does.
            let mut busy = P::poll_input(self, cx)?;
            busy |= self.tick_if_due()?;
            if busy {
                continue;
            }
            // A deadline that is past was dealt with above, without the timer, which is coarse.
            let deadline = self.deadline();
            self.timer.as_mut().reset(deadline.into());
            if self.timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    fn tick_if_due(&mut self) -> Result<bool, Error> {
        let now = Instant::now();
        let mut busy = self.paths.tick(&mut self.driver, now);
        if self.driver.deadline() <= now {
            self.step(now)?;
            busy = true;
        }
        Ok(busy)
    }

    fn deadline(&self) -> Instant {
        let driver = self.driver.deadline();
        self.paths.deadline().map_or(driver, |paths| paths.min(driver))
    }

    /// Lets the driver go on after media was handed in or its deadline was reached, and sends.
    pub(crate) fn step(&mut self, now: Instant) -> Result<(), Error> {
        self.driver.tick(now)?;
        self.flush()
    }

    /// Sends; and while the connection is not up, lets the engine do its next step at once: left alone it waits 50 ms before each
    /// (RFC 8445 §14.2, which paces checks for agents with many candidate pairs; here are one or two).
    pub(crate) fn advance(&mut self, now: Instant) -> Result<(), Error> {
        self.flush()?;
        if !self.driver.is_up() {
            self.step(now)?;
        }
        Ok(())
    }

    /// Sends what the driver has to send.
    pub(crate) fn flush(&mut self) -> Result<(), Error> {
        let Self { driver, paths, .. } = self;
        let drained = driver.drain(|transport, from, to, datagram| paths.send(transport, from, to, datagram));
        paths.flush();
        drained
    }
}
