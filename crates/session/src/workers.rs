//! Worker processes: started, kept warm, given a role, talked to, and ended.
//!
//! A session has one that transcodes and, for a URL, one that demultiplexes: either may crash without the other, and the one that
//! decodes strangers' pictures has no network.

pub mod pool;
mod process;
mod program;
pub mod registry;
mod worker;

pub(crate) mod pending_commands;
pub(crate) mod restart_policy;

pub use pool::Pool;
pub use program::Program;
pub(crate) use worker::FULL_QUEUE_DEADLINE;
pub use worker::{FromWorker, Gone, Worker};

use ipc::{Demux, Transcode, demux, transcode};
use std::io;

/// Where sessions get workers from.
pub trait Workers: Send + Sync + 'static {
    /// A worker that does this job.
    ///
    /// # Errors
    /// The process could not be started.
    fn transcode(&self, job: transcode::Job) -> io::Result<Worker<Transcode>>;

    /// A worker that does this job.
    ///
    /// # Errors
    /// The process could not be started.
    fn demux(&self, job: demux::Job) -> io::Result<Worker<Demux>>;
}
