//! Sources that are pulled: a child that fetches and demultiplexes, seen by the session as the source that it is.
//!
//! One child pulls and another decodes: either may crash without the other, and the one that decodes strangers' pictures has
//! no network.

use crate::source::START_DEADLINE;
use crate::time::now;
use crate::workers::restart_policy::{Crashes, MAX_CRASHES, Starts, not_started};
use crate::workers::{FromWorker, Gone, Worker, Workers};
use crate::{Source, SourceEnd, SourceEvent, SourceFeed, source};
use ipc::Demux;
use ipc::demux::{Event, Job};
use model::{Blame, Fault, Media, MediaTime};
use std::io;
use std::sync::Arc;
use tokio::sync::mpsc;
use tracing::{Instrument, warn};

/// Starts pulling on the current tokio runtime; ends when the source is dropped or told to stop.
///
/// # Errors
/// The child could not be started.
pub fn start(children: Arc<dyn Workers>, job: Job) -> io::Result<Source> {
    let child = children.demux(job.clone())?;
    let (feed, mut source) = source();
    // It gives up by itself, with better words; this is for one that does not.
    source.start_deadline = START_DEADLINE + job.limits.timeout * 2 + job.limits.reconnect;
    tokio::spawn(
        Puller { children, job, child, crashes: Crashes::default(), starts: Starts::default(), at: MediaTime::ZERO }
            .run(feed)
            .in_current_span(),
    );
    Ok(source)
}

struct Puller {
    children: Arc<dyn Workers>,
    job: Job,
    child: Worker<Demux>,
    crashes: Crashes,
    starts: Starts,
    /// How far it has come.
    at: MediaTime,
}

impl Puller {
    async fn run(mut self, feed: SourceFeed) {
        let SourceFeed { events, mut stopped, .. } = feed;
        loop {
            let message = tokio::select! {
                message = self.child.recv() => message,
                _ = &mut stopped => return,
            };
            let delivered = tokio::select! {
                delivered = self.take(message, &events) => delivered,
                _ = &mut stopped => return,
            };
            if !delivered {
                return;
            }
        }
    }

    /// False if that was the end.
    async fn take(&mut self, message: FromWorker<Event>, events: &mpsc::Sender<SourceEvent>) -> bool {
        let event = match message {
            FromWorker::Event(event) => event,
            FromWorker::Gone(gone) => {
                return match self.replace(gone).await {
                    Ok(()) => true,
                    Err(fault) => {
                        let _ = events.send(SourceEvent::Ended(SourceEnd::Lost(fault))).await;
                        false
                    }
                };
            }
        };
        let event = match event {
            Event::Announced(tracks) => SourceEvent::Media(Media::Announced(tracks)),
            Event::VideoConfig(config) => SourceEvent::Media(Media::VideoConfig(config)),
            Event::AudioConfig(config) => SourceEvent::Media(Media::AudioConfig(config)),
            Event::Frame(frame) => {
                self.at = frame.dts;
                SourceEvent::Media(Media::Frame(frame))
            }
            Event::Splice(event) => SourceEvent::Splice(event),
            Event::Finished => SourceEvent::Ended(SourceEnd::Finished),
            Event::Failed(fault) => SourceEvent::Ended(SourceEnd::Lost(fault)),
        };
        let last = matches!(event, SourceEvent::Ended(_));
        events.send(event).await.is_ok() && !last
    }

    /// Puts another child in the place of one that is gone: at once if that one crashed, later if it never came up.
    async fn replace(&mut self, gone: Gone) -> Result<(), Fault> {
        warn!(?gone, "the demux worker is gone");
        let mut failed = None;
        match gone {
            Gone::Crashed(how) => self.crashed(&how)?,
            Gone::NotStarted(how) => failed = Some(how),
        }
        loop {
            if let Some(how) = failed {
                let wait = self.starts.failed().ok_or_else(|| not_started("what pulls the source", &how))?;
                tokio::time::sleep(wait).await;
            }
            match self.children.demux(self.job.clone()) {
                Ok(child) => {
                    self.child = child;
                    return Ok(());
                }
                Err(e) => failed = Some(e.to_string()),
            }
        }
    }

    /// The next child goes on where this one was, unless too many have crashed.
    fn crashed(&mut self, how: &str) -> Result<(), Fault> {
        self.starts.succeeded();
        if self.crashes.too_many(now()) {
            let text = format!(
                "what pulls the source crashed {MAX_CRASHES} times within a minute on it ({how}); please report this"
            );
            return Err(Fault::new(Blame::Us, text));
        }
        self.job.from = Some(self.job.from.unwrap_or_default() + std::mem::take(&mut self.at));
        Ok(())
    }
}
