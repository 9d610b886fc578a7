//! Health, availability and metrics over HTTP, and the server they run on.
//!
//! Most of these ports are for operators, but strangers may reach them: every connection has a deadline, and their number is
//! bounded. WHIP's HTTP side (`inputs::whip`) runs on the same server.

mod pages;
mod server;

pub use pages::{health, metrics};
pub(crate) use server::serve_tls;
pub use server::{Limits, Peer, Server, listen, serve};
