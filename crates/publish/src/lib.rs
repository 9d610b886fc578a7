//! Publishing into a LiveKit room: signalling, tracks, what viewers want, reconnecting.
//!
//! A session calls [`connect`] and hands media to the [`Publisher`]; what the room says comes as [`Event`]s. Media goes through `rtc`;
//! nothing here knows the WebRTC engine, and nothing here knows where media comes from.
//!
//! ```text
//! publisher (handle) ─ queue ─▶ task ─┬─ participant: joins, publishes, comes back (a state machine without IO)
//!                                     ├─ egress: what goes out and when (gate, uplink, audio pacing; pure)
//!                                     ├─ signalling: the WebSocket (signal), and its first request (join)
//!                                     └─ rtc::Peer: the media connection
//! ```
#![forbid(unsafe_code)]

mod egress;
mod error;
mod event;
mod events;
mod facts;
mod gate;
mod join;
mod message;
mod output;
mod participant;
mod proxied;
mod publisher;
mod queue;
mod signal;
mod signalling;
mod task;
mod track;
mod uplink;

pub use error::Error;
pub use event::Event;
pub use facts::ServerFacts;
pub use output::{AccessUnit, Media, Output};
pub use publisher::{Publisher, connect};
pub use rtc::warm_up;
pub use track::{AudioTrack, Config, LayerFormat, RenewToken, Tracks, VideoTrack};
