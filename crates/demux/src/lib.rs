//! The demux worker: fetches a source, demultiplexes it and sends its access units to the parent when they are due. Decoding is the
//! business of a transcode worker.

#![forbid(unsafe_code)]

mod access_unit;
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

use ipc::Demux;
use ipc::demux::{Command, Event, Job};
use worker::watchdog::Watch;
use worker::{Events, Work};

/// The work of the role, in a thread of its own.
pub struct Demuxer;

impl Work for Demuxer {
    type Role = Demux;

    fn start(job: Job, events: Events<Event>, _: &Watch) -> std::io::Result<Self> {
        std::thread::Builder::new()
            .name("pull".into())
            .spawn(move || events.guard("pull", || demultiplex(&job, &events)))?;
        Ok(Self)
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Bytes(_) | Command::End => {}
        }
    }
}

fn demultiplex(job: &Job, events: &Events<Event>) {
    let source = open::open(job);
    let end = match &source {
        Ok(source) => player::play(source, job, events),
        Err(fault) => Err(fault.clone()),
    };
    events.send(&match end {
        Ok(()) => Event::Finished,
        Err(fault) => Event::Failed(fault),
    });
    // Not before that is told: what reads from a server that stalls is let go by when that server or its deadline is.
    drop(source);
}
