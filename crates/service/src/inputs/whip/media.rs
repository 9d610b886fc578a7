//! The WebRTC side as the HTTP side needs it, so that the one can be tested without the other.

use super::source::whip_source;
use crate::boxed::BoxFuture;
use rtc::{Accept, Endpoint, Refusal, Restarted};
use session::Source;
use std::any::Any;
use std::sync::Arc;

/// What takes the media of offers. The service's is [`rtc::Endpoint`].
pub trait Media: Send + Sync + 'static {
    /// Answers an offer; see [`Endpoint::accept`].
    ///
    /// # Errors
    /// Why not.
    fn accept(&self, offer: &str, accept: &Accept) -> Result<Accepted, Refusal>;
}

/// Carries media into a session, and lets go of what it is given when that is over.
pub type Begin = Box<dyn FnOnce(Box<dyn Any + Send>) -> Source + Send>;

/// An accepted offer.
pub struct Accepted {
    /// The answer.
    pub sdp: String,
    /// Steers it.
    pub control: Arc<dyn Control>,
    /// Begins to carry its media. Dropped instead, the client is sent away.
    pub begin: Begin,
}

/// Steers the media of one session: see [`rtc::Control`], whose methods these are.
pub trait Control: Send + Sync + 'static {
    /// See [`rtc::Control::trickle`].
    fn trickle<'a>(&'a self, fragment: &'a str) -> BoxFuture<'a, Result<(), Refusal>>;
    /// See [`rtc::Control::restart`].
    fn restart<'a>(&'a self, fragment: &'a str) -> BoxFuture<'a, Result<Restarted, Refusal>>;
    /// See [`rtc::Control::close`].
    fn close(&self) -> bool;
    /// See [`rtc::Control::ice_session`].
    fn ice_session(&self) -> String;
}

impl Control for rtc::Control {
    fn trickle<'a>(&'a self, fragment: &'a str) -> BoxFuture<'a, Result<(), Refusal>> {
        Box::pin(rtc::Control::trickle(self, fragment))
    }

    fn restart<'a>(&'a self, fragment: &'a str) -> BoxFuture<'a, Result<Restarted, Refusal>> {
        Box::pin(rtc::Control::restart(self, fragment))
    }

    fn close(&self) -> bool {
        rtc::Control::close(self)
    }

    fn ice_session(&self) -> String {
        rtc::Control::ice_session(self)
    }
}

impl Media for Endpoint {
    fn accept(&self, offer: &str, accept: &Accept) -> Result<Accepted, Refusal> {
        let (answer, incoming) = Endpoint::accept(self, offer, accept)?;
        Ok(Accepted {
            sdp: answer.sdp,
            control: Arc::new(incoming.control()),
            begin: Box::new(move |keep| whip_source(incoming, keep)),
        })
    }
}
