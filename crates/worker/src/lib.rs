//! What both kinds of worker process share: the life of the process ([`run`]), the watchdog over its threads, the outbox towards
//! the parent, and the chain of GStreamer elements that a thread drives.
//!
//! A worker is a process of its own because decoders and demultiplexers are C code that meets bytes of strangers: it holds no secret,
//! has few rights ([`confine`]) and can be killed at any time. It is started for one [`Profile`], waits, warm, until a session assigns
//! it a job of that, and keeps it for its whole life ([`Work`]).
#![forbid(unsafe_code)]

pub mod decode_errors;
mod error;
mod life;
pub mod max_luminance;
mod outbox;
pub mod pad_chain;
mod role;
pub mod watchdog;

pub use confine::{Mode, Profile, Temporary};
pub use error::Error;
pub use life::{make_registry, run};
pub use outbox::{Events, Outbox};
pub use role::Work;
