//! What a session reports to the control plane: the content of `livekit.IngressState`, free of its encoding.

use crate::time::unix_nanos;
use model::ResourceId;
use std::time::SystemTime;

/// The status of an ingress as stored (`livekit.IngressState.Status`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Status {
    Inactive,
    Buffering,
    Publishing,
    Error,
    Complete,
}

impl Status {
    /// Whether a session that reported this is over.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Inactive | Self::Error | Self::Complete)
    }
}

/// What is known of the incoming video.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VideoFacts {
    /// As in [`model::VideoCodec::mime`].
    pub mime: String,
    /// Bits a second over the last minute; 0 until known.
    pub average_bitrate: u32,
    /// Pixels; 0 until known.
    pub width: u32,
    /// Pixels; 0 until known.
    pub height: u32,
    /// Frames a second; 0 until known.
    pub frame_rate: f64,
}

/// What is known of the incoming audio.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AudioFacts {
    /// As in [`model::AudioCodec::mime`].
    pub mime: String,
    /// Bits a second over the last minute; 0 until known.
    pub average_bitrate: u32,
    /// Channels; 0 until known.
    pub channels: u32,
    /// Samples a second; 0 until known.
    pub sample_rate: u32,
}

/// The whole state of a session at one moment; each report replaces the one before.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The session.
    pub resource_id: ResourceId,
    /// Its status.
    pub status: Status,
    /// A text where the status is [`Status::Error`], else empty.
    pub error: String,
    /// The incoming video, once there is any.
    pub video: Option<VideoFacts>,
    /// The incoming audio, once there is any.
    pub audio: Option<AudioFacts>,
    /// The room's sid, once joined; else empty.
    pub room_id: String,
    /// When the session was admitted, in Unix nanoseconds.
    pub started_at: i64,
    /// When it ended, in Unix nanoseconds; 0 while it runs.
    pub ended_at: i64,
    /// When this report was made, in Unix nanoseconds; orders the reports of one session.
    pub updated_at: i64,
}

impl Report {
    /// The report of a session that began at `at` and of which nothing is known yet, or that never began.
    pub fn first(resource_id: ResourceId, status: Status, error: String, at: SystemTime) -> Self {
        let at = unix_nanos(at);
        Self {
            resource_id,
            status,
            error,
            video: None,
            audio: None,
            room_id: String::new(),
            started_at: at,
            ended_at: 0,
            updated_at: at,
        }
    }
}
