//! Carries what a WHIP client sends from `rtc` into a session, and key frame requests back: the media side of the WHIP
//! server.

use model::{Blame, Fault};
use rtc::{Incoming, Received};
use session::{Source, SourceEnd, SourceEvent, SourceFeed};
use std::any::Any;
use std::time::Duration;
use tracing::{Instrument, debug};

/// How long the last event may wait for a session that does not take it.
const LAST_EVENT_WAIT: Duration = Duration::from_secs(30);

/// Makes a session's source of a received one. Spawns the task that drives it on the current tokio runtime; it ends with the
/// session or with the sender, whichever is first, and drops `keep` then.
pub(crate) fn whip_source(incoming: Incoming, keep: Box<dyn Any + Send>) -> Source {
    let (feed, source) = session::source();
    let carrying = async move {
        carry(incoming, feed).await;
        drop(keep);
    };
    tokio::spawn(carrying.in_current_span());
    source
}

async fn carry(mut incoming: Incoming, mut feed: SourceFeed) {
    let control = incoming.control();
    let end = loop {
        tokio::select! {
            biased;
            _ = &mut feed.stopped => return,
            request = feed.keyframes.recv() => control.request_key_frame(request.layer),
            received = incoming.next() => match received {
                Some(Received::Connected) => debug!("media connection with the WHIP client is up"),
                Some(Received::Media(media)) => if !deliver(&mut feed, SourceEvent::Media(media)).await { return },
                Some(Received::Passthrough(passed)) => if !deliver(&mut feed, SourceEvent::Passthrough(passed)).await { return },
                Some(Received::Finished) => break SourceEnd::Finished,
                Some(Received::Lost(fault)) => break SourceEnd::Lost(fault),
                Some(_) => {}
                None => break SourceEnd::Lost(Fault::transient(Blame::Us, "the WHIP session ended unexpectedly")),
            },
        }
    };
    // A session that is gone needs no last event.
    let _ = feed.events.send_timeout(SourceEvent::Ended(end), LAST_EVENT_WAIT).await;
}

/// Gives the session an event; false if it has let go. While it stalls, the client's packets wait in its inbox, and beyond that are lost.
async fn deliver(feed: &mut SourceFeed, event: SourceEvent) -> bool {
    tokio::select! {
        sent = feed.events.send(event) => sent.is_ok(),
        _ = &mut feed.stopped => false,
    }
}
