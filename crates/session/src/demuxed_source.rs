//! Sources that a worker demultiplexes, seen by the session as the source that it is: a URL that the worker fetches, or a container
//! whose bytes an input of this process sends.
//!
//! One worker demultiplexes and another decodes: either may crash without the other, and the one that decodes strangers' pictures
//! has no network.

use crate::source::START_DEADLINE;
use crate::time::now;
use crate::workers::restart_policy::{Crashes, MAX_CRASHES, Starts, not_started};
use crate::workers::{FromWorker, Gone, Worker, Workers};
use crate::{Portable, Source, SourceEnd, SourceEvent, SourceFeed, source};
use bytes::Bytes;
use ipc::Demux;
use ipc::demux::{self, Command, Container, Event, Job, MAX_PIECE};
use model::{Blame, Fault, Media, MediaTime, PullGuard, PullLimits};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tracing::{Instrument, warn};

/// Pieces of bytes that may wait between an input and the worker's own queue: what a connection brings while the session's task is
/// not scheduled.
const PIECES: usize = 16;

/// Demultiplexes the job's URL on the current tokio runtime; ends when the source is dropped or told to stop.
///
/// # Errors
/// The worker could not be started.
pub fn from_url(workers: Arc<dyn Workers>, job: Job) -> io::Result<Source> {
    let start_deadline = START_DEADLINE + job.limits.timeout * 2 + job.limits.reconnect;
    let (mut source, _) = start(workers, job)?;
    // The worker gives up by itself, with a better text; this is for one that does not.
    source.start_deadline = start_deadline;
    Ok(source)
}

/// Demultiplexes the bytes that are sent to the feed, on the current tokio runtime; ends when the feed is dropped, or the source is
/// dropped or told to stop.
///
/// # Errors
/// The worker could not be started.
pub fn from_bytes(workers: Arc<dyn Workers>, container: Container) -> io::Result<(ByteFeed, Source)> {
    let source = demux::Source::Bytes(container);
    let (guard, limits) = (PullGuard::default(), PullLimits::default());
    let job = Job { source, guard, limits, largest: (u32::MAX, u32::MAX), from: None, live_only: false };
    let (source, feed) = start(workers, job)?;
    Ok((feed, source))
}

fn start(workers: Arc<dyn Workers>, job: Job) -> io::Result<(Source, ByteFeed)> {
    let worker = workers.demux(job.clone())?;
    let (feed, source) = source();
    let (bytes, input) = mpsc::channel(PIECES);
    let input = matches!(job.source, demux::Source::Bytes(_)).then_some(input);
    let (crashes, starts) = (Crashes::default(), Starts::default());
    let (at, portable) = (MediaTime::ZERO, feed.portable.clone());
    let demuxed = Demuxed { workers, job, worker, input, crashes, starts, at, portable };
    tokio::spawn(demuxed.run(feed).in_current_span());
    Ok((source, ByteFeed(bytes)))
}

/// Where an input sends a container's bytes. Dropping it ends the source.
#[derive(Debug)]
pub struct ByteFeed(mpsc::Sender<Bytes>);

impl ByteFeed {
    /// Sends the next bytes, cut anywhere; waits while the worker has enough. False if nobody wants more. If it is cancelled, some
    /// of the bytes may have been sent.
    pub async fn send(&self, mut bytes: Bytes) -> bool {
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(MAX_PIECE));
            if self.0.send(piece).await.is_err() {
                return false;
            }
        }
        true
    }
}

struct Demuxed {
    workers: Arc<dyn Workers>,
    job: Job,
    worker: Worker<Demux>,
    /// Bytes for the worker, until they have ended.
    input: Option<mpsc::Receiver<Bytes>>,
    crashes: Crashes,
    starts: Starts,
    /// How far it has come.
    at: MediaTime,
    /// Whether another machine could go on with it.
    portable: Portable,
}

impl Demuxed {
    async fn run(mut self, feed: SourceFeed) {
        let SourceFeed { events, mut stopped, .. } = feed;
        loop {
            let more = tokio::select! {
                more = self.next(&events) => more,
                _ = &mut stopped => return,
            };
            if !more {
                return;
            }
        }
    }

    /// Moves one piece to the worker or one event to the session. False if that was the end.
    async fn next(&mut self, events: &mpsc::Sender<SourceEvent>) -> bool {
        let ready = self.worker.ready();
        let input = async {
            match &mut self.input {
                Some(input) => {
                    ready.await;
                    input.recv().await
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            bytes = input => self.send(bytes),
            message = self.worker.recv() => return self.take(message, events).await,
        }
        true
    }

    /// The worker is ready for it. What it had of the last worker's bytes is gone with that: the container goes on from here.
    fn send(&mut self, bytes: Option<Bytes>) {
        let command = bytes.map_or(Command::End, Command::Bytes);
        if command == Command::End {
            self.input = None;
        }
        self.worker.send(command);
    }

    async fn take(&mut self, message: FromWorker<Event>, events: &mpsc::Sender<SourceEvent>) -> bool {
        let event = match message {
            FromWorker::Event(event) => match self.event(event) {
                Some(event) => event,
                None => return true,
            },
            FromWorker::Gone(gone) => match self.replace(gone).await {
                Ok(()) => return true,
                Err(fault) => SourceEvent::Ended(SourceEnd::Lost(fault)),
            },
        };
        let last = matches!(event, SourceEvent::Ended(_));
        events.send(event).await.is_ok() && !last
    }

    /// What the session is told. `None` where that is nothing.
    fn event(&mut self, event: Event) -> Option<SourceEvent> {
        Some(match event {
            Event::Portable(portable) => {
                self.portable.set(portable);
                return None;
            }
            Event::Announced(tracks) => SourceEvent::Media(Media::Announced(tracks)),
            Event::Unusable(kind, text) => SourceEvent::Media(Media::Unusable(kind, text)),
            Event::Notice(text) => SourceEvent::Notice(text),
            Event::VideoConfig(config) => SourceEvent::Media(Media::VideoConfig(config)),
            Event::AudioConfig(config) => SourceEvent::Media(Media::AudioConfig(config)),
            Event::Frame(frame) => {
                self.at = frame.dts;
                SourceEvent::Media(Media::Frame(frame))
            }
            Event::Splice(event) => SourceEvent::Splice(event),
            Event::Finished => SourceEvent::Ended(SourceEnd::Finished),
            Event::Failed(fault) => SourceEvent::Ended(SourceEnd::Lost(fault)),
        })
    }

    /// Puts another worker in the place of one that is gone: at once if that one crashed, later if it was never ready.
    async fn replace(&mut self, gone: Gone) -> Result<(), Fault> {
        warn!(?gone, "the demux worker is gone");
        let mut failed = None;
        match gone {
            Gone::Crashed(how) => self.crashed(&how)?,
            Gone::NotStarted(how) => failed = Some(how),
        }
        loop {
            if let Some(how) = failed {
                let wait = self.starts.failed().ok_or_else(|| not_started("the demultiplexer", &how))?;
                tokio::time::sleep(wait).await;
            }
            match self.workers.demux(self.job.clone()) {
                Ok(worker) => {
                    self.worker = worker;
                    if self.input.is_none() && matches!(self.job.source, demux::Source::Bytes(_)) {
                        self.worker.send(Command::End);
                    }
                    return Ok(());
                }
                Err(e) => failed = Some(e.to_string()),
            }
        }
    }

    /// The next worker goes on where this one was, unless too many have crashed.
    fn crashed(&mut self, how: &str) -> Result<(), Fault> {
        self.starts.succeeded();
        if self.crashes.too_many(now()) {
            let text = format!(
                "the demultiplexer crashed {MAX_CRASHES} times within a minute on this source ({how}); please report this"
            );
            return Err(Fault::new(Blame::Us, text));
        }
        self.portable.set(false);
        let played = std::mem::take(&mut self.at);
        // What has played was live when it began.
        self.job.live_only &= played == MediaTime::ZERO;
        self.job.from = Some(self.job.from.unwrap_or_default() + played);
        let left = |limit: Duration| limit.saturating_sub(played.to_duration());
        self.job.limits.play_time = self.job.limits.play_time.map(left);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
