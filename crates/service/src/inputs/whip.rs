//! WHIP (RFC 9725): WebRTC clients that push with a stream key.
//!
//! `open` makes the [`Server`] from the configuration; it holds the HTTP ports. `routes` answers requests, `request` is an offer
//! that waits for its answer, `resources` are the sessions that clients may change or end, `source` carries media into a
//! session.

mod answers;
mod body;
mod handles;
mod headers;
mod ice_servers;
mod media;
pub(crate) mod open;
mod request;
mod resources;
mod routes;
mod server;
mod shared;
mod source;

pub use headers::{IfMatch, Target, is_type, key_of};
pub use ice_servers::IceServers;
pub use media::{Accepted, Begin, Control, Media};
pub use request::Request;
pub use server::{Parts, Server};
