//! What both kinds of worker process share: process set-up, the watchdog over threads, the outbox towards the parent, and the
//! chain of GStreamer elements that a thread drives.
#![forbid(unsafe_code)]

pub mod branch;
mod error;
pub mod max_luminance;
mod outbox;
pub mod pad_chain;
pub mod process;
pub mod watchdog;

pub use branch::Branches;
pub use error::Error;
pub use outbox::Outbox;
