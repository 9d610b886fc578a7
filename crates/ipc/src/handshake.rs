//! The messages before a worker has a role.

use crate::codec::Message;
use crate::{demux, transcode};
use bytes::Bytes;
use model::Fault;
use serde::{Deserialize, Serialize};

/// Raised by one whenever a message changes its shape.
pub const VERSION: u32 = 6;

/// The first message of each side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`VERSION`] of the sender.
    pub version: u32,
}

impl Hello {
    /// Of this build.
    pub const OURS: Self = Self { version: VERSION };
}

/// The second message of a worker: GStreamer and the usual plugins are loaded, or why they can't be. The worker of an error exits
/// after it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready(pub Result<(), Fault>);

/// The second message of the parent: the role of this worker for its whole life. Until it comes, the worker waits, warm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Assignment {
    /// Decode, scale and encode.
    Transcode(transcode::Job),
    /// Demultiplex a source.
    Demux(Box<demux::Job>),
}

impl From<demux::Job> for Assignment {
    fn from(job: demux::Job) -> Self {
        Self::Demux(Box::new(job))
    }
}

impl From<transcode::Job> for Assignment {
    fn from(job: transcode::Job) -> Self {
        Self::Transcode(job)
    }
}

macro_rules! without_payload {
    ($($message:ty),*) => {
        $(impl Message for $message {
            fn payload(&self) -> Option<&Bytes> {
                None
            }

            fn payload_mut(&mut self) -> Option<&mut Bytes> {
                None
            }
        })*
    };
}

without_payload!(Hello, Ready, Assignment);
