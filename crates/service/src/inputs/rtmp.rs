//! RTMP and RTMPS: encoders that push with a stream key.
//!
//! `open` makes the [`Server`] from the configuration; it holds the ports. `opening` is what comes before RTMP on a connection,
//! `connection` is one encoder's connection around the protocol engine of crate `rtmp`; `request` is a publisher that waits for its answer.

mod connection;
mod counters;
mod end;
pub(crate) mod open;
mod opening;
mod quick_ack;
mod request;
mod server;
mod shared;

pub use counters::Counters;
pub use request::Request;
pub use server::Server;
pub use shared::Config;
