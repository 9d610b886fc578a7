//! One session that is received: what it delivers ([`Incoming`]), and the handle to steer it from elsewhere ([`Control`]).

use crate::Refusal;
use model::{Fault, Media};

/// A received session. Whoever polls [`Incoming::next`] drives it; dropping it says goodbye to the sender.
#[derive(Debug)]
pub struct Incoming {}

/// What a received session tells, in order.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Received {
    /// ICE and DTLS are up. Comes again after an ICE restart.
    Connected,
    /// Media.
    Media(Media),
    /// [`Control::close`] was called, or the sender said goodbye (DTLS close_notify). Nothing follows.
    Finished,
    /// The sender has vanished, or never came, in words for the ingress's state. Nothing follows.
    Lost(Fault),
}

impl Incoming {
    /// The next thing that happens. Can be dropped and called again at any time. `None` after the end.
    pub async fn next(&mut self) -> Option<Received> {
        None
    }

    /// A handle to steer it.
    pub fn control(&self) -> Control {
        Control {}
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
pub struct Control {}

impl Control {
    /// Takes candidates that the sender has found since its offer: a fragment (RFC 8840 §4.4), bare or with the lines of a
    /// whole SDP around it.
    ///
    /// # Errors
    /// [`Refusal::Unreadable`], [`Refusal::OtherIceSession`] if it belongs to an older or a newer ICE session,
    /// [`Refusal::Gone`].
    pub async fn trickle(&self, fragment: &str) -> Result<(), Refusal> {
        let _ = fragment;
        Err(Refusal::Gone)
    }

    /// Restarts ICE (RFC 9725 §4.3.2): the fragment, of either form, holds the sender's new credentials and maybe candidates.
    ///
    /// # Errors
    /// [`Refusal::Unreadable`], also for a fragment without credentials; [`Refusal::Gone`].
    pub async fn restart(&self, fragment: &str) -> Result<Restarted, Refusal> {
        let _ = fragment;
        Err(Refusal::Gone)
    }

    /// Asks the sender for a key frame of a layer (lowest first).
    pub fn request_key_frame(&self, layer: usize) {
        let _ = layer;
    }

    /// Ends it: [`Incoming::next`] yields [`Received::Finished`], and the sender is told. False if it was over already.
    pub fn close(&self) -> bool {
        false
    }

    /// The ICE session that runs, as [`crate::Answer::ice_session`]: what an `If-Match` is compared with.
    pub fn ice_session(&self) -> String {
        String::new()
    }
}
