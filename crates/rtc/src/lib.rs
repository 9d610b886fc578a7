//! One driver around the WebRTC engine: sockets, timers, RTP packets. The only crate that names the engine.
//!
//! [`Engine`] is sans-IO: datagrams, frames and the time go in; datagrams and [`Event`]s come out. [`Peer`] is an engine
//! with its sockets, driven by whoever polls [`Peer::next`]. [`payload`] cuts frames into RTP payloads.
//!
//! The engine runs in RTP mode: sequence numbers and timestamps are ours, so that packets of a source can be passed through
//! by the same driver. Estimating the bandwidth and pacing are off: nobody here would obey the estimate, and a pacer that
//! nobody obeys becomes a queue.
//!
//! The engine may panic on what it takes for impossible. Run a peer in a task of its own and treat the task's panic as
//! that session's end.
#![forbid(unsafe_code)]

mod address;
mod descriptor;
mod dtls;
mod endpoint;
mod engine;
mod error;
mod fragment;
mod framing;
mod incoming;
mod layers;
mod offer;
pub mod payload;
mod peer;
mod pulse;
mod receiver;
mod rewrite;
mod stream;
mod tcp;
mod udp;

pub use dtls::Pair as Handshake;
pub use endpoint::{Accept, Answer, Delivery, Endpoint, EndpointConfig, Only, UdpPorts};
pub use engine::{AudioLine, Config, Engine, Event, Frame, LayerLine, Lines, Transport, VideoLine};
pub use error::{Error, Refusal};
pub use fragment::{Fragment, MAX_FRAGMENT};
pub use incoming::{Control, Incoming, Received, Restarted};
pub use offer::{MAX_OFFER, Offer};
pub use peer::Peer;

/// The answer to an offer by somebody who can't be reached: for tests and fuzzing of what strangers send, down to the engine.
///
/// # Errors
/// As [`Endpoint::accept`].
pub fn answer_unreachable(offer: &str, accept: &Accept, now: std::time::Instant) -> Result<String, Refusal> {
    let offer = Offer::read(offer, accept)?;
    let (receiver, answer) = receiver::Receiver::new(offer, accept, false, &[], now)?;
    Ok(receiver.offer().finish(&answer, &[]))
}

/// Does what the first connection of a process would otherwise wait for: the crypto library gathers entropy from the
/// processor's jitter, once (90 ms, measured). Blocks; call it while the process starts.
pub fn warm_up() {
    drop(Engine::new(&Config::default(), std::time::Instant::now()));
}
