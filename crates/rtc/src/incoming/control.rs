//! The handle to steer a session from elsewhere, and the commands that it sends.

use crate::Refusal;
use crate::fragment::Fragment;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{mpsc, oneshot};

/// Commands that may wait for a session: a client trickles a handful of fragments.
const MAX_COMMANDS: usize = 32;

/// What a session is asked to do.
#[derive(Debug)]
pub(super) enum Command {
    Trickle(Fragment, oneshot::Sender<Result<(), Refusal>>),
    Restart(Fragment, oneshot::Sender<Result<Restarted, Refusal>>),
    RequestKeyFrame(usize),
    Close,
}

/// The new ICE session after a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restarted {
    /// The answer to the fragment (`application/trickle-ice-sdpfrag`): our new credentials and candidates.
    pub fragment: String,
    /// As [`crate::Answer::ice_session`].
    pub ice_session: String,
}

/// Steers an [`Incoming`](crate::Incoming) from elsewhere. Clones are the same; all of them may outlive it, and then answer
/// [`Refusal::Gone`].
#[derive(Clone, Debug)]
pub struct Control {
    commands: mpsc::Sender<Command>,
    ice_session: Arc<Mutex<String>>,
}

impl Control {
    /// A handle, and what it sends.
    pub(super) fn new(ice_session: String) -> (Self, mpsc::Receiver<Command>) {
        let (commands, receiver) = mpsc::channel(MAX_COMMANDS);
        (Self { commands, ice_session: Arc::new(Mutex::new(ice_session)) }, receiver)
    }

    /// Takes candidates that the client has found since its offer: a fragment (RFC 8840 §4.4), bare or with the lines of a
    /// whole SDP around it.
    ///
    /// # Errors
    /// [`Refusal::Unreadable`], [`Refusal::OtherIceSession`] if it belongs to an older or a newer ICE session,
    /// [`Refusal::Gone`].
    pub async fn trickle(&self, fragment: &str) -> Result<(), Refusal> {
        let fragment = Fragment::read(fragment)?;
        self.ask(|reply| Command::Trickle(fragment, reply)).await
    }

    /// Restarts ICE (RFC 9725 §4.3.2): the fragment, of either form, holds the client's new credentials and maybe candidates.
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

    /// Asks the client for a key frame of a layer (lowest 0).
    pub fn request_key_frame(&self, layer: usize) {
        // The next request is as good.
        let _ = self.commands.try_send(Command::RequestKeyFrame(layer));
    }

    /// Ends it: [`Incoming::next`](crate::Incoming::next) yields [`Received::Finished`](crate::Received::Finished), and the client is
    /// told. False if it was over already.
    pub fn close(&self) -> bool {
        self.commands.try_send(Command::Close).is_ok()
    }

    /// The ICE session that runs, as [`crate::Answer::ice_session`]: what an `If-Match` is compared with.
    pub fn ice_session(&self) -> String {
        self.lock().clone()
    }

    /// Another ICE session runs from here on.
    pub(super) fn set_ice_session(&self, ice_session: &str) {
        ice_session.clone_into(&mut self.lock());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, String> {
        // Held for one assignment.
        self.ice_session.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
