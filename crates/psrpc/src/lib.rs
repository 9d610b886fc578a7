//! LiveKit's RPC over publish and subscribe (psrpc), wire compatible with its 0.7: what a service and livekit-server say to each
//! other without knowing each other's address.
//!
//! A request is published on a channel that every server of the method listens to; servers bid for it ("claim"), the client
//! names the one that shall do it, and gets the answer on a channel of its own. [`Client`] and [`Server`] do this over a
//! [`Bus`]: [`redis::RedisBus`], or [`memory::MemoryBus`] in tests. The bytes are in [`envelope`], channel names in [`channel`];
//! both are pure. Nothing here knows what the requests are about, and streams (psrpc's third kind of call) are not offered.
#![forbid(unsafe_code)]

mod bus;
pub mod channel;
mod client;
mod code;
pub mod envelope;
mod error;
mod id;
pub mod memory;
mod method;
pub mod redis;
mod router;
mod server;

pub use bus::{Bus, BusError, BusFuture, BusState, LOCK_TTL};
pub use client::{Client, Options, Responses};
pub use code::Code;
pub use error::{Error, Failure};
pub use method::Method;
pub use router::Subscription;
pub use server::{Registration, Server, first_come};
