//! Fuzz targets: each takes any bytes and panics if a parser or a state machine breaks one of its promises.
//!
//! `cargo test -p fuzz` replays `seeds/` with the stable compiler. `cargo-fuzz/` is a workspace of its own that hands the same
//! functions to libFuzzer:
//!
//! ```sh
//! cargo install cargo-fuzz
//! cd fuzz/cargo-fuzz && mkdir -p corpus/rtmp_connection
//! cargo +nightly fuzz run --fuzz-dir . rtmp_connection corpus/rtmp_connection ../seeds/rtmp_connection -- -max_total_time=60
//! ```
//!
//! An input that made a target panic becomes a seed once the fault is mended. `cargo run -p fuzz --example seeds` writes the
//! seeds again after an input's layout has changed.
#![forbid(unsafe_code)]

mod engine;
mod machines;
mod parsers;
mod proxied;
mod pulled;
mod received;
mod recovery;
mod relayed;
mod secured;
mod whip;

pub use engine::{op, rtmp_chunks, rtmp_connection};
pub use machines::{ingest_clock, psrpc_envelope, session_life};
pub use parsers::{amf, audio_configs, av1_config, avc_config, enhanced_tags, flv_tags, hevc_config, ipc_messages};
pub use proxied::proxy_headers;
pub use pulled::{playlist_reloads, playlists, pulled_bytes, rtsp_answers, rtsp_requests};
pub use received::{redundant_audio, rtp_headers, rtp_payloads, sdp_fragments, whip_offers};
pub use recovery::recovery;
pub use relayed::turn_messages;
pub use secured::dtls_handshake;
pub use whip::whip_headers;

/// A fuzz target.
pub type Target = fn(&[u8]);

/// All targets by name; `seeds/` has a directory for each.
pub const TARGETS: &[(&str, Target)] = &[
    ("rtmp_connection", rtmp_connection),
    ("rtmp_chunks", rtmp_chunks),
    ("amf", amf),
    ("flv_tags", flv_tags),
    ("enhanced_tags", enhanced_tags),
    ("avc_config", avc_config),
    ("hevc_config", hevc_config),
    ("av1_config", av1_config),
    ("audio_configs", audio_configs),
    ("ipc_messages", ipc_messages),
    ("psrpc_envelope", psrpc_envelope),
    ("session_life", session_life),
    ("recovery", recovery),
    ("ingest_clock", ingest_clock),
    ("playlists", playlists),
    ("playlist_reloads", playlist_reloads),
    ("pulled_bytes", pulled_bytes),
    ("rtsp_answers", rtsp_answers),
    ("rtsp_requests", rtsp_requests),
    ("whip_offers", whip_offers),
    ("sdp_fragments", sdp_fragments),
    ("rtp_payloads", rtp_payloads),
    ("redundant_audio", redundant_audio),
    ("rtp_headers", rtp_headers),
    ("dtls_handshake", dtls_handshake),
    ("turn_messages", turn_messages),
    ("whip_headers", whip_headers),
    ("proxy_headers", proxy_headers),
];
