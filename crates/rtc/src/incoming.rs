//! One session that is received: what it delivers ([`Incoming`]), and the handle to steer it from elsewhere ([`Control`]).

use crate::endpoint::{Datagram, Way};
use crate::engine::Transport;
use crate::fragment::Fragment;
use crate::receiver::Receiver;
use crate::{Error, Refusal};
use bytes::Bytes;
use model::{Blame, Fault, Media, PassthroughMedia};
use std::collections::HashMap;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Sleep;

/// Commands that may wait for a session: a client trickles a handful of fragments.
const COMMANDS: usize = 32;
/// Datagrams taken in one go, before commands and timers are looked at again.
const BURST: usize = 64;
/// Ways back over TCP at a time.
const MAX_TCP: usize = 4;

/// A received session. Whoever polls [`Incoming::next`] drives it; dropping it says goodbye to the sender.
///
/// The engine inside may panic on what it takes for impossible: poll it in a task of its own.
pub struct Incoming {
    receiver: Receiver,
    way: Way,
    tcp: HashMap<SocketAddr, mpsc::Sender<Bytes>>,
    commands: mpsc::Receiver<Command>,
    control: Control,
    timer: Pin<Box<Sleep>>,
    burst: Vec<Datagram>,
    over: bool,
}

impl std::fmt::Debug for Incoming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Incoming").field("receiver", &self.receiver).finish_non_exhaustive()
    }
}

/// What a received session tells, in order.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Received {
    /// ICE and DTLS are up. Comes again after an ICE restart.
    Connected,
    /// Media to be decoded, and what the offer announces.
    Media(Media),
    /// Media to be passed on.
    Passthrough(PassthroughMedia),
    /// [`Control::close`] was called, or the sender said goodbye (DTLS close_notify). Nothing follows.
    Finished,
    /// The sender has vanished, or never came, in words for the ingress's state. Nothing follows.
    Lost(Fault),
}

#[derive(Debug)]
enum Command {
    Trickle(Fragment, oneshot::Sender<Result<(), Refusal>>),
    Restart(Fragment, oneshot::Sender<Result<Restarted, Refusal>>),
    Key(usize),
    Close,
}

impl Incoming {
    pub(crate) fn new(receiver: Receiver, way: Way, ice_session: String) -> Self {
        let (sender, commands) = mpsc::channel(COMMANDS);
        let control = Control { commands: sender, ice_session: Arc::new(Mutex::new(ice_session)) };
        Self {
            receiver,
            way,
            tcp: HashMap::new(),
            commands,
            control,
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            burst: Vec::with_capacity(BURST),
            over: false,
        }
    }

    /// The next thing that happens. Can be dropped and called again at any time. `None` after the end.
    pub async fn next(&mut self) -> Option<Received> {
        if self.over {
            return None;
        }
        let received = match poll_fn(|cx| self.poll_next(cx)).await {
            Ok(received) => received,
            Err(e) => Received::Lost(Fault::transient(Blame::Us, e.to_string())),
        };
        self.over = matches!(received, Received::Finished | Received::Lost(_));
        Some(received)
    }

    /// A handle to steer it.
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Received, Error>> {
        loop {
            let mut busy = self.poll_commands(cx)?;
            busy |= self.poll_datagrams(cx)?;
            busy |= self.poll_time()?;
            // After all of a burst: its packets go on together.
            if let Some(event) = self.receiver.event() {
                return Poll::Ready(Ok(event));
            }
            if busy {
                continue;
            }
            // The engine may ask for a time that is past; that was dealt with above, without the timer, which is coarse.
            self.timer.as_mut().reset(self.receiver.deadline().into());
            if self.timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    fn poll_commands(&mut self, cx: &mut Context<'_>) -> Result<bool, Error> {
        let mut busy = false;
        // Never closed: we hold a handle ourselves.
        while let Poll::Ready(Some(command)) = self.commands.poll_recv(cx) {
            busy = true;
            match command {
                Command::Trickle(fragment, reply) => _ = reply.send(self.trickle(&fragment)),
                Command::Restart(fragment, reply) => _ = reply.send(self.restart(fragment)),
                Command::Key(layer) => self.receiver.want_key(layer),
                Command::Close => self.receiver.close(),
            }
            self.step()?;
        }
        Ok(busy)
    }

    fn trickle(&mut self, fragment: &Fragment) -> Result<(), Refusal> {
        let theirs = self.receiver.offer().ufrag.as_str();
        if fragment.credentials.as_ref().is_some_and(|(ufrag, _)| ufrag != theirs) {
            return Err(Refusal::OtherIceSession);
        }
        self.receiver.trickle(&fragment.candidates);
        Ok(())
    }

    fn restart(&mut self, fragment: Fragment) -> Result<Restarted, Refusal> {
        let Some((ufrag, pwd)) = fragment.credentials else {
            return Err(Refusal::Unreadable("the fragment has no ICE credentials to restart with".into()));
        };
        self.receiver.restart(ufrag, pwd, fragment.candidates, Instant::now())?;
        let (ufrag, pwd) = self.receiver.credentials();
        self.way.registration.rename(ufrag.clone());
        self.control.lock().clone_from(&ufrag);
        let candidates = self.way.endpoint.candidates(&self.way.locals);
        let ours = (ufrag.as_str(), pwd.as_str());
        let lite = self.way.endpoint.ice_lite();
        let fragment = Fragment::answer(fragment.whole, self.receiver.offer(), lite, ours, &candidates);
        Ok(Restarted { fragment, ice_session: ufrag })
    }

    fn poll_datagrams(&mut self, cx: &mut Context<'_>) -> Result<bool, Error> {
        let mut burst = std::mem::take(&mut self.burst);
        let ready = self.way.datagrams.poll_recv_many(cx, &mut burst, BURST);
        let now = Instant::now();
        let mut outcome = Ok(());
        for datagram in burst.drain(..) {
            let Datagram { transport, from, to, data, back } = datagram;
            if outcome.is_err() || !self.receiver.receive(transport, from, to, &data, now) {
                continue;
            }
            self.way.registration.vouch(transport, from);
            if let Some(back) = back {
                self.remember(from, back);
            }
            outcome = self.hurry(now);
        }
        self.burst = burst;
        outcome.map(|()| matches!(ready, Poll::Ready(n) if n > 0))
    }

    fn remember(&mut self, from: SocketAddr, back: mpsc::Sender<Bytes>) {
        self.tcp.retain(|_, b| !b.is_closed());
        if self.tcp.len() < MAX_TCP || self.tcp.contains_key(&from) {
            self.tcp.insert(from, back);
        }
    }

    fn poll_time(&mut self) -> Result<bool, Error> {
        let now = Instant::now();
        let due = self.receiver.deadline() <= now;
        if due {
            self.receiver.tick(now)?;
            self.flush()?;
        }
        Ok(due)
    }

    fn step(&mut self) -> Result<(), Error> {
        self.receiver.tick(Instant::now())?;
        self.flush()
    }

    /// Flushes; and while the connection is not up, lets the engine do its next step at once, as [`crate::Peer`] does.
    fn hurry(&mut self, now: Instant) -> Result<(), Error> {
        self.flush()?;
        if !self.receiver.connected() {
            self.receiver.tick(now)?;
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        let Self { receiver, way, tcp, .. } = self;
        receiver.drain(|transport, from, to, datagram| match transport {
            Transport::Udp => {
                if let Some(udp) = way.sockets.iter().find(|u| u.address == from) {
                    udp.send(to, datagram);
                }
            }
            Transport::Tcp => {
                // A full queue loses it, as a full socket would.
                if let Some(back) = tcp.get(&to) {
                    let _ = back.try_send(Bytes::copy_from_slice(datagram));
                }
            }
        })
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        self.receiver.close();
        if let Err(e) = self.step() {
            tracing::debug!(error = %e, "ended without goodbye");
        }
    }
}

/// The new ICE session after a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restarted {
    /// The answer to the fragment (`application/trickle-ice-sdpfrag`): our new credentials and candidates.
    pub fragment: String,
    /// As [`crate::Answer::ice_session`].
    pub ice_session: String,
}

/// Steers an [`Incoming`] from elsewhere. Clones are the same; all of them may outlive it, and then answer
/// [`Refusal::Gone`].
#[derive(Clone, Debug)]
pub struct Control {
    commands: mpsc::Sender<Command>,
    ice_session: Arc<Mutex<String>>,
}

impl Control {
    /// Takes candidates that the sender has found since its offer: a fragment (RFC 8840 §4.4), bare or with the lines of a
    /// whole SDP around it.
    ///
    /// # Errors
    /// [`Refusal::Unreadable`], [`Refusal::OtherIceSession`] if it belongs to an older or a newer ICE session,
    /// [`Refusal::Gone`].
    pub async fn trickle(&self, fragment: &str) -> Result<(), Refusal> {
        let fragment = Fragment::read(fragment)?;
        self.ask(|reply| Command::Trickle(fragment, reply)).await
    }

    /// Restarts ICE (RFC 9725 §4.3.2): the fragment, of either form, holds the sender's new credentials and maybe candidates.
    ///
    /// # Errors
    /// [`Refusal::Unreadable`], also for a fragment without credentials or with those that run already; [`Refusal::Gone`].
    pub async fn restart(&self, fragment: &str) -> Result<Restarted, Refusal> {
        let fragment = Fragment::read(fragment)?;
        self.ask(|reply| Command::Restart(fragment, reply)).await
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<Result<T, Refusal>>) -> Command) -> Result<T, Refusal> {
        let (reply, answer) = oneshot::channel();
        // A session takes its commands at once; more than fit are no client's.
        self.commands.try_send(command(reply)).map_err(|_| Refusal::Gone)?;
        answer.await.unwrap_or(Err(Refusal::Gone))
    }

    /// Asks the sender for a key frame of a layer (lowest first).
    pub fn request_key_frame(&self, layer: usize) {
        // The next wish is as good.
        let _ = self.commands.try_send(Command::Key(layer));
    }

    /// Ends it: [`Incoming::next`] yields [`Received::Finished`], and the sender is told. False if it was over already.
    pub fn close(&self) -> bool {
        self.commands.try_send(Command::Close).is_ok()
    }

    /// The ICE session that runs, as [`crate::Answer::ice_session`]: what an `If-Match` is compared with.
    pub fn ice_session(&self) -> String {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, String> {
        // Held for one assignment.
        self.ice_session.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
