//! Pulling a source: what a child does that was given an address in the place of a job. It fetches, demultiplexes and sends the
//! access units up, at the pace at which they are to be shown; decoding is the business of another child.

#![forbid(unsafe_code)]

mod access_unit;
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

use ipc::Demux;
use ipc::demux::{Command, Event, Job};
use model::{Blame, Fault};
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
        Err(text) => Event::Failed(Fault::new(Blame::Source, text)),
    });
    // Not before that is told: what reads from a server that stalls is let go by when that server or its deadline is.
    drop(source);
}
