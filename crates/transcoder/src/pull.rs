//! Pulling a source: what a child does that was given an address in the place of a job. It fetches, demultiplexes and sends the
//! access units up, at the pace at which they are to be shown; decoding is the business of another child.

mod caps;
mod clock;
mod demux;
mod ended;
mod endless;
mod even;
mod hls;
mod length;
mod live;
mod open;
mod origin;
mod pace;
mod reorder;
mod rtsp;
mod srt;
mod stage;
mod whole;

use crate::outbox::Outbox;
use crate::watch::guarded;
use link::ToParent;
use model::PullJob;

/// Starts pulling in a thread of its own. It ends with [`ToParent::Finished`] or [`ToParent::Failed`].
///
/// # Errors
/// If the system has no threads left.
pub(crate) fn start(job: PullJob, outbox: Outbox) -> std::io::Result<()> {
    std::thread::Builder::new().name("pull".into()).spawn(move || {
        guarded(&outbox, "pull", || {
            let source = open::open(&job);
            let end = match &source {
                Ok(source) => pace::play(source, &job, &outbox),
                Err(fault) => Err(fault.clone()),
            };
            outbox.fact(match end {
                Ok(()) => ToParent::Finished,
                Err(reason) => ToParent::Failed { reason },
            });
            // Not before that is told: what reads from a server that stalls is let go by when that server or its deadline is.
            drop(source);
        });
    })?;
    Ok(())
}
