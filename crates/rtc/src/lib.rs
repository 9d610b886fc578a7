//! WebRTC: connections that send to the SFU ([`Peer`]) and that receive from WHIP clients ([`Endpoint`], [`Incoming`]). The only crate
//! that names the engine.
//!
//! One `Driver` is around the engine, without sockets and without a clock of its own; a role (`roles`) says which way media goes. A
//! `Runner` drives it on tokio, with paths of its own (`peer`) or those of the shared ports (`ports`). [`payload`] cuts frames into
//! RTP payloads, [`red`] makes audio redundant.
//!
//! What is sent, and what is passed through, goes by the engine's RTP mode: sequence numbers and timestamps are ours. Estimating
//! the bandwidth and pacing are off: nobody here would obey the estimate, and a pacer that nobody obeys becomes a queue.
//!
//! The engine may panic on what it takes for impossible. Run a connection in a task of its own and treat the task's panic as
//! that session's end.
#![forbid(unsafe_code)]

mod codec;
mod descriptor;
mod driver;
mod dtls;
mod endpoint;
mod error;
mod fragment;
mod framing;
mod incoming;
mod offer;
pub mod payload;
mod peer;
mod ports;
pub mod red;
mod relay;
mod roles;
mod rtp_header;
mod runner;
mod stream_queue;
mod transport;
mod udp;

pub use dtls::Pair as Handshake;
pub use endpoint::{Answer, Endpoint};
pub use error::{Error, Refusal};
pub use fragment::{Fragment, MAX_FRAGMENT};
pub use incoming::{Control, Incoming, Restarted};
pub use offer::{Accept, Delivery, MAX_OFFER, Offer};
pub use peer::Peer;
pub use ports::{EndpointConfig, Filter, UdpPorts, machine_addresses};
pub use relay::{Carrier, Pair as RelayPair, Relay, RelayEvent};
pub use roles::receiver::Received;
pub use roles::sender::{AudioLine, Config, Event, Frame, LayerLine, Lines, VideoLine};
pub use rtp_header::RtpHeader;

/// The answer to an offer by somebody who can't be reached: for tests and fuzzing of what strangers send, down to the engine.
///
/// # Errors
/// As [`Endpoint::accept`].
pub fn answer_unreachable(offer: &str, accept: &Accept, now: std::time::Instant) -> Result<String, Refusal> {
    let offer = Offer::read(offer, accept)?;
    let (driver, answer) = driver::Driver::receiver(offer, accept, false, &[], now)?;
    Ok(driver.taken_offer().finish(&answer, &[]))
}

/// Does what the first connection of a process would otherwise wait for: the crypto library gathers entropy from the
/// processor's jitter, once (90 ms, measured). Blocks; call it while the process starts.
pub fn warm_up() {
    drop(driver::Driver::sender(&Config::default(), std::time::Instant::now()));
}
