//! Every clock of the program, pure and on virtual time: whoever holds media back, or decides when it is due, does it through a type of
//! this crate. Each module says what it may assume of what comes before it.
#![forbid(unsafe_code)]

pub mod audio_pacer;
pub mod av_aligner;
pub mod av_alignment;
pub mod decode_order;
pub mod frame_repeater;
pub mod hls_clock;
pub mod ingest_clock;
pub mod jitter_delay;
pub mod lateness;
pub mod playback_clock;
pub mod rebase;
pub mod rtp_clock;
pub mod sample_clock;
