//! Pulling a source: what a child does that was given an address in the place of a job. It fetches, demultiplexes and sends the
//! access units up, at the pace at which they are to be shown; decoding is the business of another child.

#![forbid(unsafe_code)]

mod caps;
mod demuxer;
mod hls;
mod http_live;
mod length;
mod open;
mod player;
mod reconnect;
mod rtsp;
mod srt;
mod track_queues;

use ipc::ToParent;
use model::PullJob;
use worker::Outbox;
use worker::watchdog::guarded;

/// Starts pulling in a thread of its own. It ends with [`ToParent::Finished`] or [`ToParent::Failed`].
///
/// # Errors
/// If the system has no threads left.
pub fn start(job: PullJob, outbox: Outbox) -> std::io::Result<()> {
    std::thread::Builder::new().name("pull".into()).spawn(move || {
        guarded(&outbox, "pull", || {
            let source = open::open(&job);
            let end = match &source {
                Ok(source) => player::play(source, &job, &outbox),
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
