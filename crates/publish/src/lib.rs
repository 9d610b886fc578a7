//! Publishing into a LiveKit room: signalling, tracks, layer wishes, reconnecting.
//!
//! A session calls [`connect`] and hands frames to the [`Publisher`]; what the room says comes as [`Event`]s. Media goes
//! through `rtc`; nothing here knows the WebRTC engine, and nothing here knows where frames come from.
#![forbid(unsafe_code)]

mod event;
mod publisher;
mod track;

pub use event::Event;
pub use publisher::{Publisher, connect};
pub use track::{AudioTrack, Config, Out, Tracks, VideoTrack};
