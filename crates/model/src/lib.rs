//! The types that all crates share: ids, secrets, time, codecs, frames, the settings of an ingress, faults, and the bounds on
//! strangers.
//!
//! Nothing here does IO, and nothing here knows an SFU, a codec library, or more of a protocol than several crates need (the addresses of
//! TURN servers, the way through a proxy). Presets and the fitting of layers to a
//! source live here because the session (which announces tracks) and the tests of `transcode` need the same answer.
#![forbid(unsafe_code)]

mod address;
mod codec;
mod connection_limits;
mod encoding;
mod fault;
mod frame;
mod id;
mod log_budget;
mod packet;
mod proxy;
mod pull;
mod spec;
mod time;
mod turn;

pub use address::{AddressKind, embedded_v4, in_range};
pub use codec::{AudioCodec, Kind, VideoCodec};
pub use connection_limits::{ConnectionLimits, ConnectionSlot, Refusal};
pub use encoding::{
    AudioEncoding, AudioPreset, EncodedVideo, Layer, Quality, VideoEncoding, VideoPreset, default_bitrate, fit_layers,
};
pub use fault::{Blame, Fault};
pub use frame::{AudioConfig, Colours, Frame, Media, Rotation, SourceTracks, VideoConfig};
pub use id::{IngressId, ResourceId, Secret};
pub use log_budget::LogBudget;
pub use packet::{OpusFormat, Packet, PassthroughMedia, VideoFormat};
pub use proxy::{Proxies, Proxy, ProxyAnswer};
pub use pull::{HostRule, PullGuard, PullLimits, url_as_typed};
pub use spec::{AudioSpec, IngressSpec, InputKind, TrackSource, VideoSpec};
pub use time::MediaTime;
pub use turn::{TurnServer, TurnTransport};
