//! Sources that are pulled: a child that fetches and demultiplexes, seen by the session as the source that it is.
//!
//! One child pulls and another decodes: either may crash without the other, and the one that decodes strangers' pictures has
//! no network.

use crate::lifecycle::START_DEADLINE;
use crate::pipeline::now;
use crate::workers::pool::{FromChild, Transcoder, Transcoders};
use crate::workers::restart_policy::{Crashes, MAX_CRASHES, Starts, not_started};
use crate::{Source, SourceEnd, SourceEvent, SourceFeed, source};
use ipc::ToParent;
use model::{Blame, Fault, Media, MediaTime, PullJob};
use std::io;
use std::sync::Arc;
use tokio::sync::mpsc;
use tracing::{Instrument, warn};

/// Starts pulling on the current tokio runtime; ends when the source is dropped or told to stop.
///
/// # Errors
/// The child could not be started.
pub fn start(children: Arc<dyn Transcoders>, job: PullJob) -> io::Result<Source> {
    let child = children.take_puller(job.clone())?;
    let (feed, mut source) = source();
    // It gives up by itself, with better words; this is for one that does not.
    source.patience = START_DEADLINE + job.limits.timeout * 2 + job.limits.reconnect;
    tokio::spawn(
        Puller { children, job, child, crashes: Crashes::default(), starts: Starts::default(), at: MediaTime::ZERO }
            .run(feed)
            .in_current_span(),
    );
    Ok(source)
}

struct Puller {
    children: Arc<dyn Transcoders>,
    job: PullJob,
    child: Transcoder,
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
    async fn take(&mut self, message: FromChild, events: &mpsc::Sender<SourceEvent>) -> bool {
        let event = match message {
            FromChild::Message(ToParent::Pulled(media)) => {
                if let Media::Frame(frame) = &media {
                    self.at = frame.dts;
                }
                SourceEvent::Media(media)
            }
            FromChild::Message(ToParent::Splice(event)) => SourceEvent::Splice(event),
            FromChild::Message(ToParent::Finished) => SourceEvent::Ended(SourceEnd::Finished),
            FromChild::Message(ToParent::Failed { reason }) => {
                SourceEvent::Ended(SourceEnd::Lost(Fault::new(Blame::Source, reason)))
            }
            FromChild::Message(_) => return true,
            FromChild::Gone(how) => match self.replace(how).await {
                Ok(()) => return true,
                Err(fault) => SourceEvent::Ended(SourceEnd::Lost(fault)),
            },
        };
        let last = matches!(event, SourceEvent::Ended(_));
        events.send(event).await.is_ok() && !last
    }

    /// Puts another child in the place of one that is gone: at once if that one crashed, later if it never came up.
    async fn replace(&mut self, how: String) -> Result<(), Fault> {
        warn!(how, "the child that pulls is gone");
        let mut failed = None;
        if self.child.came_up() {
            self.crashed(&how)?;
        } else {
            failed = Some(how);
        }
        loop {
            if let Some(how) = failed {
                let wait = self.starts.failed().ok_or_else(|| not_started("what pulls the source", &how))?;
                tokio::time::sleep(wait).await;
            }
            match self.children.take_puller(self.job.clone()) {
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
