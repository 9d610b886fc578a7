//! The demux worker: turns a container into access units, and sends them up when they are due. Decoding is the business of another
//! worker.
//!
//! The container comes from a URL that this worker fetches (HTTP, HLS, SRT, RTSP), or from the parent ([`ipc::demux::Source`]).
#![forbid(unsafe_code)]

mod access_unit;
mod bytes_source;
mod caps;
mod container;
mod declared_duration;
mod demuxer;
mod fault;
mod hls;
mod http_live;
mod open;
mod player;
mod reconnect;
mod rtsp;
mod source;
mod srt;
mod sync;
mod time_shift;
mod track_queues;

use bytes::Bytes;
use ipc::Demux;
use ipc::demux::{Command, Event, Job, Source};
use std::sync::mpsc::{Receiver, SyncSender};
use worker::watchdog::Watchdog;
use worker::{Events, Temporary, Work};

/// The work of the role.
pub struct Demuxer {
    /// Where bytes of the parent go, until it says that they have ended.
    input: Option<SyncSender<Bytes>>,
}

impl Work for Demuxer {
    type Role = Demux;

    fn start(job: Job, events: Events<Event>, _: &Watchdog, temporary: Temporary) -> std::io::Result<Self> {
        if matches!(job.source, Source::Url(_)) {
            // Without an allowance, too, libraries may want a page of a file.
            temporary.limit(job.limits.temporary.max(1 << 20));
        }
        let (input, bytes) = bytes_source::input();
        let input = matches!(job.source, Source::Bytes(_)).then_some(input);
        let work = move || events.guard("demux", || demultiplex(&job, bytes, temporary, &events));
        std::thread::Builder::new().name("demux".into()).spawn(work)?;
        Ok(Self { input })
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Bytes(bytes) => {
                // A thread that is gone has said why.
                let _ = self.input.as_ref().map(|input| input.send(bytes));
            }
            Command::End => self.input = None,
        }
    }
}

fn demultiplex(job: &Job, bytes: Receiver<Bytes>, mut temporary: Temporary, events: &Events<Event>) {
    let source = match &job.source {
        Source::Url(url) => open::open(job, url, &mut temporary),
        Source::Bytes(container) => bytes_source::open(*container, bytes),
    };
    let end = match &source {
        Ok(source) => player::play(source, job, events),
        Err(fault) => Err(fault.clone()),
    };
    events.send(&match end {
        Ok(()) => Event::Finished,
        Err(fault) => Event::Failed(fault),
    });
    // Only after reporting: this blocks until what reads from a stalled server is let go by it or by a deadline.
    drop(source);
}
