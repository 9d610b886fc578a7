//! The stream of a worker that turns a container into access units: fetched from a URL, or fed by the parent.

use crate::codec::Message;
use crate::headers;
use crate::role::{End, Event as AnyEvent, Role};
use bytes::Bytes;
use model::{AudioConfig, Fault, Frame, Kind, MediaTime, PullGuard, PullLimits, SourceTracks, VideoConfig};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The role.
#[derive(Clone, Copy, Debug)]
pub struct Demux;

impl Role for Demux {
    type Job = Job;
    type Command = Command;
    type Event = Event;
    const NAME: &'static str = "demux";
}

/// What to demultiplex.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Where the bytes come from.
    pub source: Source,
    /// Where a URL may lead.
    pub guard: PullGuard,
    /// What it may cost.
    pub limits: PullLimits,
    /// The largest useful picture, in pixels: of several variants of a source the best one within it is taken.
    pub largest: (u32, u32),
    /// Where to begin, for a worker that replaces a crashed one. Live sources begin where they are.
    pub from: Option<MediaTime>,
    /// Another machine has pulled it until now: what is not live would begin anew, and is not played.
    pub live_only: bool,
}

/// Where a container's bytes come from.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// The worker fetches this URL. It may hold a login: `Debug` does not show it.
    Url(String),
    /// The parent sends them, live, as [`Command::Bytes`].
    Bytes(Container),
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(_) => f.write_str("Url(..)"),
            Self::Bytes(container) => f.debug_tuple("Bytes").field(container).finish(),
        }
    }
}

/// The longest [`Command::Bytes`] in bytes, so that a queue of some is small.
pub const MAX_PIECE: usize = 64 << 10;

/// A container whose bytes can be pushed as they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Container {
    /// ISO 13818-1, packets of 188 bytes.
    MpegTs,
}

/// From the session, to a worker whose source is [`Source::Bytes`]; others get none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// The next bytes of the container, cut anywhere; no more than [`MAX_PIECE`].
    Bytes(#[serde(skip)] Bytes),
    /// There are no more: play what is inside, then [`Event::Finished`].
    End,
}

impl Message for Command {
    fn payload(&self) -> Option<&Bytes> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            Self::End => None,
        }
    }

    fn payload_mut(&mut self) -> Option<&mut Bytes> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            Self::End => None,
        }
    }
}

/// To the session, each when it is due.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// The tracks that will come.
    Announced(SourceTracks),
    /// There is some of this kind, but nothing that can be played; the text says why.
    Unusable(Kind, String),
    /// Something of the source is not as it should be, in words for whoever made the ingress. It goes on.
    Notice(String),
    /// The video frames that follow are coded like this.
    VideoConfig(#[serde(with = "headers::VideoConfigHeader")] VideoConfig),
    /// The audio frames that follow are coded like this.
    AudioConfig(#[serde(with = "headers::AudioConfigHeader")] AudioConfig),
    /// An access unit.
    Frame(#[serde(with = "headers::FrameHeader")] Frame),
    /// A splice point (SCTE-35): from now on the source is out of its network with this event, or (`None`) back.
    Splice(Option<u32>),
    /// It can't be played, or not to its end; the worker exits after this.
    Failed(Fault),
    /// All has been sent; the worker exits after this.
    Finished,
    /// Whether another machine that begins to pull it now goes on where this one is: it is live, and comes to any machine alike. Until
    /// this is said, it is not so.
    Portable(bool),
}

impl Message for Event {
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
            Self::Failed(fault) => Some(fault),
            _ => None,
        }
    }
}

impl From<Fault> for Event {
    fn from(fault: Fault) -> Self {
        Self::Failed(fault)
    }
}
