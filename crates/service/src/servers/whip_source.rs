//! Carries what a WHIP client sends from `rtc` into a session: the media side of the WHIP server.

use rtc::{Incoming, Received};
use session::{Source, SourceEnd, SourceEvent, SourceFeed};
use std::any::Any;

/// Makes a session's source of a received one. Spawns the task that drives it on the current tokio runtime; it ends with the
/// session or with the sender, whichever is first, and drops `keep` then.
pub(crate) fn whip_source(incoming: Incoming, keep: Box<dyn Any + Send>) -> Source {
    let (feed, source) = session::source();
    tokio::spawn(async move {
        carry(incoming, feed).await;
        drop(keep);
    });
    source
}

async fn carry(mut incoming: Incoming, mut feed: SourceFeed) {
    loop {
        let received = tokio::select! {
            _ = &mut feed.stopped => return,
            received = incoming.next() => received,
        };
        let event = match received {
            Some(Received::Media(media)) => SourceEvent::Media(media),
            Some(Received::Finished) => SourceEvent::Ended(SourceEnd::Finished),
            Some(Received::Lost(fault)) => SourceEvent::Ended(SourceEnd::Lost(fault)),
            Some(_) => continue,
            None => return,
        };
        if feed.events.send(event).await.is_err() {
            return;
        }
    }
}
