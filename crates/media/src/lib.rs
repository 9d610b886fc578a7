//! Reads coded media without decoding it: codec configurations, NAL units, sizes of pictures, RTP payloads, MPEG-TS packets. Pure.
#![forbid(unsafe_code)]

pub mod au_detector;
pub mod codec_config;
mod error;
mod gop_cache;
mod h264_stream;
pub mod id3;
mod keyframe_gate;
pub mod mpegts;
pub mod nal;
pub mod picture;
mod rasl_filter;
pub mod rtp_inspector;
pub mod vp6;

pub use error::ConfigError;
pub use gop_cache::{GopCache, MAX_BYTES as GOP_MAX_BYTES, MAX_FRAMES as GOP_MAX_FRAMES};
pub use h264_stream::{H264Stream, H264Unit, Unfit};
pub use keyframe_gate::{GateDecision, KeyframeGate};
pub use rasl_filter::RaslFilter;
