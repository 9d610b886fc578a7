//! Where workers come from: one process waits warm, so that GStreamer's start is paid before a stream comes.

use super::process::Process;
use super::program::Program;
use super::{Worker, Workers};
use confine::Profile;
use ipc::{Assignment, Demux, Role, Transcode, demux, transcode};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tracing::warn;

/// How long after one process was taken the next is started: the session that took it needs the CPU for its first picture.
const REFILL_DELAY: Duration = Duration::from_millis(1_500);

/// How often to look whether the process that waits is still there: one that the system has ended for its memory is replaced before a
/// session needs it. Chosen; looking costs a system call.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// See the [module](self).
#[derive(Clone, Debug)]
pub struct Pool {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    program: Program,
    keep_warm: bool,
    slot: Mutex<Slot>,
}

/// The process that waits, to transcode: that is what every session needs. One that demultiplexes has other rights, and a source on
/// the net to wait for.
#[derive(Debug, Default)]
struct Slot {
    warm: Option<Process>,
    /// One is about to be started.
    filling: bool,
    /// None waits here any more.
    closed: bool,
}

impl Pool {
    /// Workers are started as `program` says. With `keep_warm`, one is kept ready from now on.
    /// Needs a tokio runtime.
    pub fn new(program: Program, keep_warm: bool) -> Self {
        let pool = Self::empty(program, keep_warm);
        pool.refill(Duration::ZERO);
        pool.look_after();
        pool
    }

    /// One worker is kept ready as soon as `registry` has made what workers share. One that is needed before, or where there is none,
    /// looks at GStreamer's plugins by itself, and so takes longer to be ready. Needs a tokio runtime.
    pub fn with_registry(program: Program, registry: impl Future<Output = Option<OwnedFd>> + Send + 'static) -> Self {
        let pool = Self::empty(program, true);
        pool.inner.slot().filling = true;
        let inner = Arc::downgrade(&pool.inner);
        tokio::spawn(async move {
            let made = registry.await;
            let Some(inner) = inner.upgrade() else { return };
            if let Some(made) = made {
                inner.program.share(made);
            }
            inner.slot().filling = false;
            Self { inner }.refill(Duration::ZERO);
        });
        pool.look_after();
        pool
    }

    /// Replaces the process that waits whenever it is found gone, for as long as there is a pool.
    fn look_after(&self) {
        if !self.inner.keep_warm {
            return;
        }
        let inner = Arc::downgrade(&self.inner);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(LOOK_INTERVAL).await;
                let Some(inner) = inner.upgrade() else { return };
                Self { inner }.refill(Duration::ZERO);
            }
        });
    }

    fn empty(program: Program, keep_warm: bool) -> Self {
        Self { inner: Arc::new(Inner { program, keep_warm, slot: Mutex::default() }) }
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
            match Process::spawn(&pool.program, Profile::Transcode) {
                Ok(process) => slot.warm = Some(process),
                Err(e) => warn!(error = %e, "no worker could be started to wait warm"),
            }
        });
    }

    /// How many workers were ended by their own confinement.
    pub fn killed_by_confinement(&self) -> u64 {
        self.inner.program.killed()
    }

    fn take_warm(&self) -> Option<Process> {
        let warm = self.inner.slot().warm.take();
        warm.and_then(|mut process| (!process.is_gone()).then_some(process))
    }

    fn assign<R: Role<Job: Into<Assignment>>>(
        &self,
        warm: Option<Process>,
        profile: Profile,
        job: R::Job,
    ) -> io::Result<Worker<R>> {
        let process = match warm {
            Some(process) => process,
            None => Process::spawn(&self.inner.program, profile)?,
        };
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
        let worker = self.assign(self.take_warm(), Profile::Transcode, job);
        self.refill(REFILL_DELAY);
        worker
    }

    fn demux(&self, job: demux::Job) -> io::Result<Worker<Demux>> {
        let profile = match &job.source {
            demux::Source::Url(_) => Profile::DemuxUrl,
            demux::Source::Bytes(_) => Profile::DemuxBytes,
        };
        self.assign(None, profile, job)
    }
}
