//! Health, availability and metrics over HTTP, and the server they run on.
//!
//! Most of these ports are for operators, but strangers may reach them: every connection has a deadline, and their number is
//! bounded. WHIP's HTTP side (`inputs::whip`) runs on the same server.

mod forwarded;
mod pages;
mod server;

pub use forwarded::Proxies;
pub use pages::{health, metrics};
pub(crate) use server::serve_behind;
pub use server::{Limits, Peer, Server, listen, serve};
