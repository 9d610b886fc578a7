//! Live sources over a connection: connected again when it breaks, for as long as the configuration allows. Their timeline goes on
//! meanwhile.

use crate::demuxer::Tracks;
use crate::source::{Portable, Source};
use crate::time_shift::{self, TimeShift};
use crate::track_queues::TrackQueues;
use fetch::Backoff;
use model::{Fault, PullLimits};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The other side closed it.
    Finished,
    /// It broke, or could not be made: another attempt may help.
    Lost(Fault),
    /// The other side said that it ends, as it also does before it begins again: another attempt may help, and if none does, it was the end.
    Parted(Fault),
    /// Another attempt would end the same.
    Failed(Fault),
}

/// What one connection is given.
pub(crate) struct Connection {
    /// The tracks that it fills.
    pub(crate) tracks: Tracks,
    /// Moves its timestamps to the source's timeline.
    pub(crate) shift: TimeShift,
    /// Where it notes that something came.
    pub(crate) arrivals: Arrivals,
    /// Where it says whether another machine could go on.
    pub(crate) portable: Portable,
}

/// Remembers when something last came.
#[derive(Clone, Debug)]
pub(crate) struct Arrivals {
    start: Instant,
    last: Arc<AtomicU64>,
}

impl Arrivals {
    /// Something came.
    pub(crate) fn note(&self) {
        let passed = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(passed.max(1), Ordering::Relaxed);
    }

    /// When something last came; `None` if nothing ever did.
    pub(crate) fn last(&self) -> Option<Instant> {
        let last = self.last.load(Ordering::Relaxed);
        (last > 0).then(|| self.start + Duration::from_millis(last))
    }
}

/// A source of one connection after the other, all of which fill these queues; `connect` blocks for as long as one lasts.
///
/// # Errors
/// If the system has no threads left.
pub(crate) fn source(
    limits: &PullLimits,
    queues: TrackQueues,
    connect: impl Fn(Connection) -> Outcome + Send + 'static,
) -> Result<Source, Fault> {
    let tracks = Tracks::new(&queues);
    let failed = queues.clone();
    // An attempt that nobody answers takes one timeout, and another is to follow it.
    let give_up_after = limits.timeout + limits.reconnect;
    let portable = Portable::default();
    let told = portable.clone();
    let work = move || {
        if let Err(fault) = keep_connected(give_up_after, &tracks, &told, connect) {
            failed.fail(fault);
        }
        tracks.end();
    };
    queues.fill("reconnect", work)?;
    Ok(Source { queues, live: true, file: None, portable })
}

fn keep_connected(
    give_up_after: Duration,
    tracks: &Tracks,
    portable: &Portable,
    connect: impl Fn(Connection) -> Outcome,
) -> Result<(), Fault> {
    let start = Instant::now();
    let arrivals = Arrivals { start, last: Arc::default() };
    let mut backoff = Backoff::default();
    let mut parted = false;
    loop {
        // One timeline, whatever each connection's own begins with.
        let at = i64::try_from(start.elapsed().as_nanos()).unwrap_or(i64::MAX);
        let shift = time_shift::rebased(at);
        let before = arrivals.last();
        let (tracks, portable) = (tracks.joined_again(), portable.clone());
        let outcome = connect(Connection { tracks, shift, arrivals: arrivals.clone(), portable });
        let fault = match outcome {
            Outcome::Finished => return Ok(()),
            Outcome::Failed(fault) => return Err(fault),
            Outcome::Lost(fault) => {
                parted &= arrivals.last() == before;
                fault
            }
            Outcome::Parted(fault) => {
                parted = true;
                fault
            }
        };
        eprintln!("the source is lost: {fault}");
        if arrivals.last() != before {
            backoff = Backoff::default();
        }
        if arrivals.last().unwrap_or(start) + give_up_after < Instant::now() + backoff.wait() {
            return if parted { Ok(()) } else { Err(fault) };
        }
        std::thread::sleep(backoff.wait());
        backoff.grow();
    }
}
