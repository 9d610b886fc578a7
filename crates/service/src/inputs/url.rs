//! URLs that are pulled because livekit-server asks for it.
//!
//! `open` makes the server from the configuration; it takes requests to pull, in place of a port. `request` is one of them that
//! waits for its answer; `job` makes of its URL what the worker is to pull.

pub(crate) mod job;
pub(crate) mod open;
mod request;
mod server;
