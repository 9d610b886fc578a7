//! What a session and its transcoder child say to each other, over one inherited socket pair.
//!
//! Each message is a little-endian `u32` length and a postcard body. Both sides open with [`Hello`]; parent and child are the
//! same file on disk, so a version that differs means that it was replaced in between, and the session starts a new child.
//! Media flows down as it came from the source and up as the room takes it; nothing here holds a secret.
//! Reading and writing sockets is the business of the two ends: this crate turns messages into bytes and back.
#![forbid(unsafe_code)]

mod codec;
mod message;

pub use codec::{Decoder, Error, MAX_MESSAGE, encode};
pub use message::{Hello, Job, ToChild, ToParent, VERSION};
