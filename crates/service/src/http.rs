//! Health, availability and metrics over HTTP, and the server they run on.
//!
//! These ports are for the machine's keepers, but may be within a stranger's reach: every connection has a deadline, answers one
//! request, and their number is bounded.

mod pages;
mod server;

pub use pages::{health, metrics};
pub use server::{Limits, Server, listen, serve};
