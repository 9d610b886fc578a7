//! The receiving side: one [`Endpoint`] per process takes the media of all WHIP clients (RFC 9725).
//!
//! All sessions share its UDP port: a datagram from a new address is assigned by the ICE user fragment in its STUN request,
//! everything after that by its address. [`Endpoint::accept`] turns an offer into an answer and an [`Incoming`], which delivers what
//! is received. Used by the WHIP server.

use crate::driver::Driver;
use crate::incoming::Incoming;
use crate::offer::{Accept, Offer};
use crate::ports::{EndpointConfig, Ports};
use crate::{Error, Refusal};
use model::SourceTracks;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

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

/// See the module. Clones are the same endpoint; its ports close with the last of them and of their sessions.
#[derive(Clone, Debug)]
pub struct Endpoint(Arc<Ports>);

impl Endpoint {
    /// Opens the ports. Needs a tokio runtime with time and IO; spawns what reads them.
    ///
    /// # Errors
    /// [`Error::Port`] if a port can't be opened, [`Error::NoAddress`] if the filters leave no address.
    pub async fn bind(config: EndpointConfig) -> Result<Self, Error> {
        Ok(Self(Arc::new(Ports::open(config).await?)))
    }

    /// The UDP addresses that all sessions share; empty where each has its own.
    pub fn udp_addresses(&self) -> Vec<SocketAddr> {
        self.0.udp_addresses()
    }

    /// Answers an offer. What can't work is refused at once; nothing is waited for. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`Refusal::Unreadable`] if it is no SDP offer, [`Refusal::Unacceptable`] if nothing in it can be used,
    /// [`Refusal::Full`] if no port is left.
    pub fn accept(&self, offer: &str, accept: &Accept) -> Result<(Answer, Incoming), Refusal> {
        let lite = self.0.ice_lite() || answers_no_checks(offer);
        let mut offer = Offer::read(offer, accept)?;
        offer.candidates.retain(|candidate| self.0.may_check(candidate));
        let ports = self.0.for_session()?;
        let (mut driver, answer) = Driver::receiver(offer, accept, lite, &ports.locals, Instant::now())?;
        let (ufrag, _) = driver.credentials();
        let sdp = driver.taken_offer().finish(&answer, &self.0.candidates(&ports.locals));
        let answer = Answer { sdp, ice_session: ufrag.clone(), tracks: driver.source_tracks() };
        let inbox = self.0.register(&ports, ufrag.clone());
        Ok((answer, Incoming::new(driver, self.0.clone(), ports, inbox, ufrag)))
    }
}

/// Whether the client's answers to connectivity checks are of no use. FFmpeg's muxer (8 and 9) leaves the address that it saw
/// out of them (RFC 8445 §7.3.1.2 wants it), so no pair would ever become valid on our side. Towards it we are the lite
/// side (§2.5), which sends no checks.
fn answers_no_checks(offer: &str) -> bool {
    offer.lines().take(4).any(|line| line.starts_with("o=FFmpeg "))
}

#[cfg(test)]
mod tests;
