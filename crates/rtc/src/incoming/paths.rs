//! The paths of a received session: datagrams come in and go out by the endpoint's ports. Commands come in beside them.

use super::control::{Command, Control, Restarted};
use crate::driver::Driver;
use crate::fragment::Fragment;
use crate::ports::{Datagram, Ports, SessionInbox, SessionPorts, is_check};
use crate::roles::receiver::Receiver;
use crate::runner::{Paths, Runner};
use crate::transport::Transport;
use crate::{Error, Refusal};
use bytes::Bytes;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;
use tokio::sync::mpsc;

/// Datagrams taken in one go, before commands and timers are looked at again.
const MAX_DATAGRAMS: usize = 64;
/// TCP connections of one client at a time.
const MAX_TCP: usize = 4;

/// See the [module](self).
pub(super) struct SessionPaths {
    /// Keeps the ports open as long as a session is.
    endpoint: Arc<Ports>,
    ports: SessionPorts,
    inbox: SessionInbox,
    /// Where answers over TCP go, by the client's address.
    tcp: HashMap<SocketAddr, mpsc::Sender<Bytes>>,
    commands: mpsc::Receiver<Command>,
    pub(super) control: Control,
    burst: Vec<Datagram>,
}

impl SessionPaths {
    pub(super) fn new(endpoint: Arc<Ports>, ports: SessionPorts, inbox: SessionInbox, ice_session: String) -> Self {
        let (control, commands) = Control::new(ice_session);
        let burst = Vec::with_capacity(MAX_DATAGRAMS);
        Self { endpoint, ports, inbox, tcp: HashMap::new(), commands, control, burst }
    }

    fn restart(&mut self, driver: &mut Driver<Receiver>, fragment: Fragment) -> Result<Restarted, Refusal> {
        let Some((ufrag, pwd)) = fragment.credentials else {
            return Err(Refusal::Unreadable("the fragment has no ICE credentials to restart with".into()));
        };
        let candidates = self.checked(fragment.candidates);
        driver.restart(ufrag, pwd, candidates, Instant::now())?;
        let (ufrag, pwd) = driver.credentials();
        self.inbox.registration.rename(ufrag.clone());
        self.control.set_ice_session(&ufrag);
        let ours_named = self.endpoint.candidates(&self.ports.locals);
        let ours = (ufrag.as_str(), pwd.as_str());
        let lite = self.endpoint.ice_lite();
        let fragment = Fragment::answer(fragment.whole, driver.taken_offer(), lite, ours, &ours_named);
        Ok(Restarted { fragment, ice_session: ufrag })
    }

    fn trickle(&self, driver: &mut Driver<Receiver>, fragment: Fragment) -> Result<(), Refusal> {
        let theirs = driver.taken_offer().ufrag.as_str();
        if fragment.credentials.as_ref().is_some_and(|(ufrag, _)| ufrag != theirs) {
            return Err(Refusal::OtherIceSession);
        }
        driver.trickle(&self.checked(fragment.candidates));
        Ok(())
    }

    /// Those of the client's candidates that checks may be sent to.
    fn checked(&self, mut candidates: Vec<String>) -> Vec<String> {
        candidates.retain(|candidate| self.endpoint.may_check(candidate));
        candidates
    }

    fn remember_tcp(&mut self, from: SocketAddr, reply_to: mpsc::Sender<Bytes>) {
        self.tcp.retain(|_, known| !known.is_closed());
        if self.tcp.len() < MAX_TCP || self.tcp.contains_key(&from) {
            self.tcp.insert(from, reply_to);
        }
    }
}

impl Paths for SessionPaths {
    type Role = Receiver;

    fn poll_input(runner: &mut Runner<Self>, cx: &mut Context<'_>) -> Result<bool, Error> {
        Ok(poll_commands(runner, cx)? | poll_datagrams(runner, cx)?)
    }

    fn tick(&mut self, _: &mut Driver<Receiver>, _: Instant) -> bool {
        false
    }

    fn deadline(&self) -> Option<Instant> {
        None
    }

    fn send(&mut self, transport: Transport, from: SocketAddr, to: SocketAddr, datagram: &[u8]) {
        match transport {
            Transport::Udp => {
                if let Some(udp) = self.ports.sockets.iter().find(|u| u.address == from) {
                    udp.send(to, datagram);
                }
            }
            Transport::Tcp => {
                // A full queue loses it, as a full socket would.
                if let Some(reply_to) = self.tcp.get(&to) {
                    let _ = reply_to.try_send(Bytes::copy_from_slice(datagram));
                }
            }
        }
    }

    fn flush(&mut self) {}
}

fn poll_commands(runner: &mut Runner<SessionPaths>, cx: &mut Context<'_>) -> Result<bool, Error> {
    let mut busy = false;
    // Never closed: we hold a handle ourselves.
    while let Poll::Ready(Some(command)) = runner.paths.commands.poll_recv(cx) {
        busy = true;
        let Runner { driver, paths, .. } = &mut *runner;
        match command {
            Command::Trickle(fragment, reply) => _ = reply.send(paths.trickle(driver, fragment)),
            Command::Restart(fragment, reply) => _ = reply.send(paths.restart(driver, fragment)),
            Command::RequestKeyFrame(layer) => driver.request_key_frame(layer),
            Command::Close => driver.finish(),
        }
        runner.step(Instant::now())?;
    }
    Ok(busy)
}

fn poll_datagrams(runner: &mut Runner<SessionPaths>, cx: &mut Context<'_>) -> Result<bool, Error> {
    let mut burst = std::mem::take(&mut runner.paths.burst);
    let ready = runner.paths.inbox.datagrams.poll_recv_many(cx, &mut burst, MAX_DATAGRAMS);
    let now = Instant::now();
    let mut outcome = Ok(());
    for datagram in burst.drain(..) {
        let Datagram { transport, from, to, data, reply_to } = datagram;
        if outcome.is_err() || !runner.driver.receive(transport, from, to, &data, now) {
            continue;
        }
        // Before the answer goes out.
        runner.paths.inbox.registration.admit_address(transport, from, is_check(&data));
        if let Some(reply_to) = reply_to {
            runner.paths.remember_tcp(from, reply_to);
        }
        outcome = runner.advance(now);
    }
    runner.paths.burst = burst;
    outcome.map(|()| matches!(ready, Poll::Ready(n) if n > 0))
}
