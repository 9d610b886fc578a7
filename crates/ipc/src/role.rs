//! What the streams of all roles have in common.

use crate::codec::Message;
use model::Fault;

/// A role, with the types of its stream.
pub trait Role: Send + Sync + 'static {
    /// What it is assigned to do.
    type Job: Send + 'static;
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
