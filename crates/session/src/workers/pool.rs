//! Where workers come from: one process waits warm, so that GStreamer's start is paid before a stream comes.

use super::process::Process;
use super::{Worker, Workers};
use ipc::{Assignment, Demux, Role, Transcode, demux, transcode};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tracing::warn;

/// How long after one process was taken the next is started: the session that took it needs the CPU for its first picture.
const REFILL_DELAY: Duration = Duration::from_millis(1_500);

/// See the [module](self).
#[derive(Clone, Debug)]
pub struct Pool {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    program: PathBuf,
    arguments: Vec<String>,
    keep_warm: bool,
    slot: Mutex<Slot>,
}

/// The process that waits, for any role.
#[derive(Debug, Default)]
struct Slot {
    warm: Option<Process>,
    /// One is about to be started.
    filling: bool,
    /// None waits here any more.
    closed: bool,
}

impl Pool {
    /// Workers are started as `program arguments…`. With `keep_warm`, one is kept ready from now on.
    /// Needs a tokio runtime.
    pub fn new(program: impl Into<PathBuf>, arguments: &[&str], keep_warm: bool) -> Self {
        let arguments = arguments.iter().map(|a| (*a).to_owned()).collect();
        let inner = Inner { program: program.into(), arguments, keep_warm, slot: Mutex::default() };
        let pool = Self { inner: Arc::new(inner) };
        pool.refill(Duration::ZERO);
        pool
    }

    /// Ends the warm process; none is started in its place.
    pub fn close(&self) {
        let mut slot = self.inner.slot();
        (slot.warm, slot.closed) = (None, true);
    }

    fn refill(&self, after: Duration) {
        {
            let mut slot = self.inner.slot();
            let waits = slot.warm.as_mut().is_some_and(|process| !process.is_gone());
            if !self.inner.keep_warm || slot.closed || slot.filling || waits {
                return;
            }
            slot.filling = true;
        }
        let pool = Arc::downgrade(&self.inner);
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            let Some(pool) = pool.upgrade() else { return };
            let mut slot = pool.slot();
            slot.filling = false;
            if slot.closed {
                return;
            }
            match Process::spawn(&pool.program, &pool.arguments) {
                Ok(process) => slot.warm = Some(process),
                Err(e) => warn!(error = %e, "no worker could be started to wait warm"),
            }
        });
    }

    fn take<R: Role<Job: Into<Assignment>>>(&self, job: R::Job) -> io::Result<Worker<R>> {
        let warm = self.inner.slot().warm.take();
        let process = match warm.and_then(|mut process| (!process.is_gone()).then_some(process)) {
            Some(process) => process,
            None => Process::spawn(&self.inner.program, &self.inner.arguments)?,
        };
        self.refill(REFILL_DELAY);
        Ok(Worker::assign(process, job))
    }
}

impl Inner {
    fn slot(&self) -> MutexGuard<'_, Slot> {
        // Each change under the lock is a single assignment, which cannot be left half done.
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Workers for Pool {
    fn transcode(&self, job: transcode::Job) -> io::Result<Worker<Transcode>> {
        self.take(job)
    }

    fn demux(&self, job: demux::Job) -> io::Result<Worker<Demux>> {
        self.take(job)
    }
}
