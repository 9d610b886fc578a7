//! What the caller sends, in one shape for all producers, and where it goes.

use bytes::Bytes;
use model::{MediaTime, Packet};
use std::time::Instant;

/// Where media goes: an RTP stream of the participant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Output {
    /// The audio track.
    Audio,
    /// A layer of the video track, by its index in [`crate::VideoTrack::layers`].
    Video(usize),
}

/// Coded media of one output. A layer may be sent either from one call to the next: whoever produces it changes at a key frame.
#[derive(Clone, Debug)]
pub enum Media {
    /// What an encoder made.
    AccessUnit(AccessUnit),
    /// RTP packets of a source that are passed through, in the order in which they came. The kind and layer that they name are their
    /// source's, and count for nothing here.
    Packets(Vec<Packet>),
}

/// A coded picture, or a packet of coded audio.
#[derive(Clone, Debug)]
pub struct AccessUnit {
    /// When it is to be shown or heard, on the session's timeline: the same for all outputs.
    pub pts: MediaTime,
    /// The wall clock of `pts`. The same line `at = origin + pts` for all outputs of a session keeps audio and video aligned.
    pub at: Instant,
    /// Whether decoding can start here; true for audio.
    pub key: bool,
    /// H.264 as Annex B access unit, VP8 as one frame, Opus as one packet.
    pub data: Bytes,
    /// Loudness in dBov (RFC 6464: 0 loudest, -127 silence), of audio where known.
    pub level: Option<i8>,
}
