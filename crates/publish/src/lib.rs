//! Publishing into a LiveKit room: signalling, tracks, layer wishes, reconnecting.
//!
//! A session calls [`connect`] and hands frames to the [`Publisher`]; what the room says comes as [`Event`]s. Media goes
//! through `rtc`; nothing here knows the WebRTC engine, and nothing here knows where frames come from.
//!
//! Inside, `room` decides (a state machine without IO), `gate` says which pictures go out, `uplink` which layers have room on the
//! way, and `steady` when sound goes out, `signal`
//! owns the WebSocket, and `task` carries out.
#![forbid(unsafe_code)]

mod error;
mod event;
mod gate;
mod join;
mod message;
mod output;
mod publisher;
mod room;
mod signal;
mod task;
mod track;
mod uplink;

pub use error::Error;
pub use event::Event;
pub use output::{AccessUnit, Media, Output};
pub use publisher::{Publisher, connect};
pub use rtc::warm_up;
pub use track::{AudioTrack, Config, LayerFormat, Tracks, VideoTrack};
