//! What the room takes, before an offer to pass something on is answered: LiveKit's server tells it to who joins, and to nobody
//! else.

use super::{Admitted, Sessions};
use model::{VideoCodec, VideoFormat};
use session::participant::Prejoined;
use std::time::Duration;

/// How long an offer waits for the room: a join takes 50 to 100 ms on one machine, and three round trips and a TLS handshake
/// else. Afterwards it is taken, and what the room says ends the session.
const ROOM_SAYS: Duration = Duration::from_secs(3);
/// How often is looked whether it has been left meanwhile: short beside what a join takes that fails.
const LOOK: Duration = Duration::from_millis(50);

impl Sessions {
    /// What the room of `admitted` takes, for an offer whose first choice is `format`; `None` if that is not known. Joins the
    /// room to learn it, where that choice is not one that its server is known to take: the session then goes on in there.
    /// So the first offer of all waits for a join, H.264 too: a server can be told to take none.
    pub async fn room_takes(&self, admitted: &mut Admitted, format: VideoFormat) -> Option<Vec<VideoCodec>> {
        let ws_url = match &*admitted {
            Admitted::New(new) => &new.resolved.ws_url,
            Admitted::TakesOver { ws_url, .. } => ws_url,
        };
        let mut takes = self.parts.participants.accepted_codecs(ws_url);
        let known = takes.borrow_and_update().clone();
        let Admitted::New(new) = admitted else { return known };
        let codec = format.codec;
        if known.as_ref().is_some_and(|codecs| codecs.contains(&codec)) {
            return known;
        }
        let mut config = publish::Config::new(new.resolved.ws_url.clone(), new.resolved.token.clone());
        config.loopback = self.parts.loopback;
        config.expected = Some(format);
        let ahead = Prejoined::join(self.parts.participants.clone(), config);
        let answer = async {
            // One that can't be joined says nothing; why, its session will hear.
            while !ahead.is_over() && tokio::time::timeout(LOOK, takes.changed()).await.is_err() {}
        };
        if tokio::time::timeout(ROOM_SAYS, answer).await.is_err() {
            tracing::warn!(codec = codec.rtp_name(), "the room has not told in time whether it takes this");
        }
        let told = takes.borrow().clone();
        // Another codec than expected can't be added to what was joined for this one.
        if told.as_ref().is_none_or(|codecs| codecs.contains(&codec)) {
            new.ahead = Some(ahead);
        }
        told
    }
}
