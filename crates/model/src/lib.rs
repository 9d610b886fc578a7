//! The words every room shares: ids, secrets, time, codecs, frames, what an ingress is asked to do, and faults.
//!
//! Nothing here does IO, and nothing here knows a protocol, an SFU or a codec library. Presets and the fitting of layers
//! to a source live here because both the session (which announces tracks) and the transcoder's tests need the same answer.
#![forbid(unsafe_code)]

mod codec;
mod encoding;
mod fault;
mod frame;
mod id;
mod packet;
mod pull;
mod spec;
mod time;

pub use codec::{AudioCodec, Kind, VideoCodec};
pub use encoding::{
    AudioEncoding, AudioPreset, EncodedVideo, Layer, Quality, VideoEncoding, VideoPreset, default_bitrate, fit_layers,
};
pub use fault::{Blame, Fault};
pub use frame::{AudioConfig, Colours, Frame, Media, SourceTracks, Turn, VideoConfig};
pub use id::{IngressId, ResourceId, Secret};
pub use packet::{OpusFormat, Packet, Passed, VideoFormat};
pub use pull::{HostRule, PullGuard, PullJob, PullLimits};
pub use spec::{AudioSpec, IngressSpec, InputKind, TrackSource, VideoSpec};
pub use time::MediaTime;
