//! The server side of an RTMP publish connection, without IO: bytes and the time in; bytes, events and the next deadline out.
//!
//! [`Connection`] is the whole of it. A driver owns the socket and the clock: it hands bytes to [`Connection::receive`], takes
//! events from [`Connection::poll_event`], writes what [`Connection::take_output`] gives, and calls
//! [`Connection::handle_timeout`] when [`Connection::deadline`] has passed. Media comes out as [`model::Media`].
//!
//! Strangers write the bytes. They may lose their own connection by it, but never cause a panic, memory for bytes that did not
//! come, or an endless wait ([`Limits`]). Playback, shared objects, RTMPE and RTMPT are left out on purpose.
//!
//! Sources cited in the code: "RTMP" is Adobe's RTMP 1.0 specification, "AMF0" the AMF 0 file format, "FLV" the Video File
//! Format 10.1 annex E, "E-RTMP" the Enhanced RTMP v2 specification of Veovera.
#![forbid(unsafe_code)]

mod address;
pub mod amf;
mod chunk;
mod command;
mod connection;
mod error;
pub mod flv;
mod handshake;
mod limits;
mod mpegts;
mod publication;
#[cfg(test)]
mod testing;
mod tracks;

pub use chunk::{Message, MessageLimits, Reader as ChunkReader};
pub use connection::{Connection, Event};
pub use error::Error;
pub use limits::Limits;
