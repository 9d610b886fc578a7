//! Live lines: connected again when they break, for as long as the configuration says. Time goes on meanwhile.

use crate::demuxer::{self, Shift, Tracks};
use crate::open::Source;
use crate::track_queues::Stage;
use fetch::Backoff;
use model::PullLimits;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Its other side said goodbye.
    Finished,
    /// It broke, or did not come to be.
    Lost(String),
    /// Another attempt would end the same.
    Hopeless(String),
}

/// What one connection is given.
pub(crate) struct Run {
    /// Its tracks.
    pub(crate) tracks: Tracks,
    /// What becomes of its timestamps.
    pub(crate) shift: Shift,
    /// When something last came, for [`Pulse::beat`].
    pub(crate) pulse: Pulse,
}

/// Remembers when something last came.
#[derive(Clone, Debug)]
pub(crate) struct Pulse {
    start: Instant,
    last: Arc<AtomicU64>,
}

impl Pulse {
    /// Something came.
    pub(crate) fn beat(&self) {
        let passed = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(passed.max(1), Ordering::Relaxed);
    }

    /// When something last came; `None` if nothing ever did.
    pub(crate) fn last(&self) -> Option<Instant> {
        let last = self.last.load(Ordering::Relaxed);
        (last > 0).then(|| self.start + Duration::from_millis(last))
    }
}

/// A source of one connection after the other, all of which fill this stage; `connect` blocks for as long as one lasts.
///
/// # Errors
/// If the system has no threads left.
pub(crate) fn source(
    limits: &PullLimits,
    stage: Stage,
    connect: impl Fn(Run) -> End + Send + 'static,
) -> Result<Source, String> {
    let tracks = Tracks::new(&stage);
    let told = stage.clone();
    // An attempt that nobody answers takes one timeout, and is to be followed by another.
    let patience = limits.timeout + limits.reconnect;
    let work = move || {
        if let Err(fault) = keep(patience, &tracks, connect) {
            told.fail(fault);
        }
        tracks.end();
    };
    stage.fill("line", work)?;
    Ok(Source { stage, live: true, file: None })
}

fn keep(patience: Duration, tracks: &Tracks, connect: impl Fn(Run) -> End) -> Result<(), String> {
    let start = Instant::now();
    let pulse = Pulse { start, last: Arc::default() };
    let mut backoff = Backoff::default();
    loop {
        // On one timeline, whatever each connection's own begins with.
        let at = i64::try_from(start.elapsed().as_nanos()).unwrap_or(i64::MAX);
        let shift = demuxer::shifted(at);
        let before = pulse.last();
        let end = connect(Run { tracks: tracks.clone(), shift, pulse: pulse.clone() });
        let fault = match end {
            End::Finished => return Ok(()),
            End::Hopeless(fault) => return Err(fault),
            End::Lost(fault) => fault,
        };
        eprintln!("the source is lost: {fault}");
        if pulse.last() != before {
            backoff = Backoff::default();
        }
        if pulse.last().unwrap_or(start) + patience < Instant::now() + backoff.wait() {
            return Err(fault);
        }
        std::thread::sleep(backoff.wait());
        backoff.grow();
    }
}
