//! The protocol between a session and its worker processes, over one inherited socket pair.
//!
//! | parent → worker | worker → parent |
//! |---|---|
//! | [`Hello`] | [`Hello`] |
//! | [`Assignment`], when a session takes the worker | [`Ready`], when it is warm |
//! | the role's commands: [`transcode::Command`] or [`demux::Command`] | the role's events: [`transcode::Event`] or [`demux::Event`] |
//!
//! Parent and worker are the same file on disk. A version that differs means that the file was replaced in between, and the
//! session starts a new worker. A worker sends heartbeats as well, but for the time when it is warm and has no role, so that a hung one is
//! told from one without media.
//!
//! Each message is two lengths (little-endian `u32`: of the header, of the payload), a postcard header, and the payload: the
//! bytes of an access unit or packet, which nobody copies for the sake of a format. Two lengths of zero are a heartbeat.
//! Reading and writing sockets is the business of the two ends: this crate turns messages into bytes and back.
#![forbid(unsafe_code)]

mod codec;
pub mod demux;
mod handshake;
mod headers;
mod role;
pub mod transcode;

pub use codec::{Batch, Decoder, Error, MAX_HEADER, MAX_PAYLOAD, Message};
pub use demux::Demux;
pub use handshake::{Assignment, Hello, Ready, VERSION};
pub use role::{End, Event, Role};
pub use transcode::Transcode;
