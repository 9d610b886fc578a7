//! The constants of A/V alignment, each with its measurement. What holds audio or video back for the sake of the other takes its
//! constants from here.
//!
//! Two corrections exist, and both are needed, as they cancel different delays (all figures: audio heard after its picture is seen).
//!
//! 1. [`crate::av_aligner`], at the end of our way: audio leaves later than its own time (it fills Opus packets and is paced), so video
//!    waits until audio of the same time leaves. Measured: 41 ms where both leave as they come, 15 ms where both leave together, at
//!    11 ms more of delay. It never delays audio, and does nothing where video is slower than audio here.
//! 2. [`VIDEO_AFTER_AUDIO`], at the beginning of a pull: the viewer's jitter buffer delays audio more than video, and leaves the two
//!    apart by up to [`VIEWER_TOLERANCE`]. Pulled video is decoded and encoded on its way, so it often reaches the aligner later than
//!    audio leaves, and the aligner adds nothing. Measured with the aligner, without this: RTSP 20 to 50 ms, HLS 22 to 54; with it 18
//!    to 38 and 15 to 20. Where the aligner does wait it waits for less by as much, so the two never add up.

/// What a viewer leaves between the two tracks without moving either: libwebrtc's `kMinDeltaMs` (`video/stream_synchronization.cc`),
/// in nanoseconds.
pub const VIEWER_TOLERANCE: i64 = 30_000_000;

/// Distance from which on people notice that audio and video are apart, in nanoseconds: ITU-R BT.1359 gives 45 ms for audio that is
/// early.
pub const NOTICEABLE_OFFSET: i64 = 40_000_000;

/// The longest that a packet of audio is paced, and video aligned with it, in nanoseconds. More than one picture of 25 a second (with
/// which encoders hand audio over) and one packet; what is less even than this costs less in the viewer's jitter buffer than here.
pub const MAX_PACING: i64 = 60_000_000;

/// Pulled video leaves the demultiplexer so long after audio of the same time, in nanoseconds. Measured: see the [module](self). With
/// 30 ms and more, RTSP with B-frames, whose video is late by itself, has its audio up to 50 ms before its video.
pub const VIDEO_AFTER_AUDIO: i64 = 15_000_000;

/// The same over SRT, where no more fits into the promise of 150 ms over SRT's own latency: with it 145 ms, and 15 to 37 ms between the
/// tracks in place of 31 to 41.
pub const VIDEO_AFTER_AUDIO_OVER_SRT: i64 = 8_000_000;

// A viewer must not undo it.
const _: () = assert!(VIDEO_AFTER_AUDIO < VIEWER_TOLERANCE && VIDEO_AFTER_AUDIO_OVER_SRT < VIDEO_AFTER_AUDIO);
