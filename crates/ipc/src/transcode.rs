//! The stream of a worker that decodes, scales and encodes: access units of the source go down, what the room takes comes up.

use crate::codec::Message;
use crate::headers;
use crate::role::{End, Event as AnyEvent, Role};
use bytes::Bytes;
use model::{AudioConfig, AudioEncoding, EncodedVideo, Fault, Frame, Kind, Layer, MediaTime, VideoConfig};
use serde::{Deserialize, Serialize};

/// The role.
#[derive(Clone, Copy, Debug)]
pub struct Transcode;

impl Role for Transcode {
    type Job = Job;
    type Command = Command;
    type Event = Event;
    const NAME: &'static str = "transcode";
}

/// How to encode.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// The codec of all video layers.
    pub video_codec: EncodedVideo,
    /// Pictures a second at most; no limit if it is not above zero.
    pub max_frame_rate: f64,
    /// How to encode audio.
    pub audio: AudioEncoding,
}

/// From the session. Times are on the session's timeline; a `layer` is an index into [`Command::Layers`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// The video frames that follow are coded like this. May come again: the worker follows.
    VideoConfig(#[serde(with = "headers::VideoConfigHeader")] VideoConfig),
    /// The audio frames that follow are coded like this. May come again: the worker follows.
    AudioConfig(#[serde(with = "headers::AudioConfigHeader")] AudioConfig),
    /// An access unit of the source.
    Frame(#[serde(with = "headers::FrameHeader")] Frame),
    /// The layers to encode, lowest first: the answer to [`Event::VideoFormat`]. Of the pictures that are decoded before, the newest
    /// is kept, so that the first picture is not lost. May come again with as many layers of other sizes or bitrates, from the next
    /// picture on; until then, and without, pictures of other sizes are scaled to fit.
    Layers(Vec<Layer>),
    /// Whether anybody subscribes to this layer. All are wanted at first. A layer that is wanted again starts with a key frame.
    Wanted {
        /// Which layer.
        layer: u8,
        /// Whether to encode it.
        wanted: bool,
    },
    /// Make the next picture of this layer a key frame.
    KeyFrame {
        /// Which layer.
        layer: u8,
    },
    /// Media of this kind from before this time is decoded but not encoded: frames that only bring a decoder up to date (those
    /// since the last key frame, given to a worker that replaces a crashed one), and frames that come too late to be shown.
    ShowFrom(Kind, MediaTime),
    /// Encode the last picture once more, at this time: the source sends none now. Without a picture before, nothing happens.
    Repeat(MediaTime),
    /// The source has ended: encode what is inside, send it, then [`Event::Finished`].
    Finish,
}

impl Message for Command {
    fn payload(&self) -> Option<&Bytes> {
        match self {
            Self::VideoConfig(config) => Some(&config.record),
            Self::AudioConfig(config) => Some(&config.record),
            Self::Frame(frame) => Some(&frame.data),
            _ => None,
        }
    }

    fn payload_mut(&mut self) -> Option<&mut Bytes> {
        match self {
            Self::VideoConfig(config) => Some(&mut config.record),
            Self::AudioConfig(config) => Some(&mut config.record),
            Self::Frame(frame) => Some(&mut frame.data),
            _ => None,
        }
    }
}

/// To the session. Facts only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// The format of decoded pictures: at first, whenever it changes, and when there are some again after [`Event::Unusable`].
    VideoFormat {
        /// Pixels, as to be shown (pixel aspect ratio and cropping applied).
        width: u32,
        /// Pixels, as to be shown.
        height: u32,
        /// Pictures a second: as the source declares, or measured; unknown at first if it does not.
        frame_rate: Option<f64>,
    },
    /// The format of decoded audio: at first, whenever it changes, and when there is some again after [`Event::Unusable`].
    AudioFormat {
        /// Samples a second.
        sample_rate: u32,
        /// Channels.
        channels: u32,
    },
    /// An encoded picture: H.264 as Annex B, VP8 as one frame.
    AccessUnit {
        /// Which layer, as an index into [`Command::Layers`].
        layer: u8,
        /// When to show it, on the session's timeline.
        pts: MediaTime,
        /// Whether it is a key frame.
        key: bool,
        /// The access unit.
        #[serde(skip)]
        data: Bytes,
    },
    /// An Opus packet.
    AudioPacket {
        /// When to play it, on the session's timeline.
        pts: MediaTime,
        /// How loud it is, in dBov (RFC 6464 §3): 0 the loudest, -127 silence.
        level: i8,
        /// The packet.
        #[serde(skip)]
        data: Bytes,
    },
    /// One kind cannot be decoded (no such decoder, or it gave up); the other goes on.
    Unusable {
        /// Which.
        kind: Kind,
        /// Why, and whose fault it is.
        fault: Fault,
    },
    /// Much of what is decoded of this kind comes out damaged, or no longer does.
    Damaged {
        /// Which.
        kind: Kind,
        /// What the decoder complains of; `None` if all is well again.
        why: Option<String>,
    },
    /// Nothing more can be done; the worker exits after this.
    Failed(Fault),
    /// The answer to [`Command::Finish`]: all is sent; the worker exits after this.
    Finished,
}

impl Message for Event {
    fn payload(&self) -> Option<&Bytes> {
        match self {
            Self::AccessUnit { data, .. } | Self::AudioPacket { data, .. } => Some(data),
            _ => None,
        }
    }

    fn payload_mut(&mut self) -> Option<&mut Bytes> {
        match self {
            Self::AccessUnit { data, .. } | Self::AudioPacket { data, .. } => Some(data),
            _ => None,
        }
    }
}

impl AnyEvent for Event {
    fn end(&self) -> Option<End> {
        match self {
            Self::Finished => Some(End::Finished),
            Self::Failed(_) => Some(End::Failed),
            _ => None,
        }
    }

    fn fault_mut(&mut self) -> Option<&mut Fault> {
        match self {
            Self::Unusable { fault, .. } | Self::Failed(fault) => Some(fault),
            _ => None,
        }
    }
}

impl From<Fault> for Event {
    fn from(fault: Fault) -> Self {
        Self::Failed(fault)
    }
}
