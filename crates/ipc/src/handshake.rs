//! The messages before a worker has a role, and what the streams of all roles have in common.

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
    Demux(demux::Job),
}

/// A role, with the types of its stream.
pub trait Role: Send + Sync + 'static {
    /// What it is assigned to do.
    type Job: Into<Assignment> + Send + 'static;
    /// From the parent.
    type Command: Message;
    /// To the parent.
    type Event: Event;
    /// Its name in logs.
    const NAME: &'static str;
}

/// An event of any role.
pub trait Event: Message + From<Fault> {
    /// How the worker ends, if this is its last event.
    fn end(&self) -> Option<End>;
    /// The fault that it carries, if any.
    fn fault_mut(&mut self) -> Option<&mut Fault>;
}

/// How a worker ends that says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// All work is done.
    Finished,
    /// Nothing more can be done.
    Failed,
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
