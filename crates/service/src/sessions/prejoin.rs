//! Joins a room before the session begins, to learn which codecs the room takes before an offer to pass something through is
//! answered: LiveKit's server tells that to participants only.

use crate::control::Resolved;
use model::{VideoCodec, VideoFormat};
use session::participant::ParticipantFactory;
use session::prejoined::Prejoined;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use tracing::warn;

/// How long an offer waits for the room: a join takes 50 to 100 ms on one machine, and three round trips and a TLS handshake
/// else. After that it is accepted, and a codec that the room does not take ends the session.
const ROOM_CODECS_WAIT: Duration = Duration::from_secs(3);
/// How often to look whether the join has failed meanwhile: short beside what a join takes that fails.
const FAILED_JOIN_POLL: Duration = Duration::from_millis(50);

/// How to join a room.
pub(crate) struct Prejoin {
    pub(crate) participants: Arc<dyn ParticipantFactory>,
    /// Whether to offer loopback addresses for media.
    pub(crate) loopback: bool,
}

impl Prejoin {
    /// The video codecs that this server is known to take.
    pub(super) fn known_codecs(&self, ws_url: &str) -> Option<Vec<VideoCodec>> {
        self.participants.accepted_codecs(ws_url).borrow().clone()
    }

    /// The video codecs that the room takes, for an offer whose first choice is `format`; `None` if that is not known. Joins the
    /// room to learn them, where the first choice is not a codec that its server is known to take, and gives the room if that
    /// codec can be sent to it. So the first offer of all waits for a join, even with H.264: a server can be configured to take
    /// none.
    pub(super) async fn room_codecs(
        &self,
        resolved: &Resolved,
        format: VideoFormat,
    ) -> (Option<Vec<VideoCodec>>, Option<Prejoined>) {
        let mut takes = self.participants.accepted_codecs(&resolved.ws_url);
        let known = takes.borrow_and_update().clone();
        let codec = format.codec;
        if known.as_ref().is_some_and(|codecs| codecs.contains(&codec)) {
            return (known, None);
        }
        let mut config = publish::Config::new(resolved.ws_url.clone(), resolved.token.clone());
        config.renew = Some(resolved.renew.clone());
        config.loopback = self.loopback;
        config.expected = Some(format);
        let prejoined = Prejoined::join(self.participants.clone(), config);
        let answer = async {
            // A join that fails brings no codecs; its session reports why.
            while !prejoined.is_over() && timeout(FAILED_JOIN_POLL, takes.changed()).await.is_err() {}
        };
        if timeout(ROOM_CODECS_WAIT, answer).await.is_err() {
            warn!(codec = codec.rtp_name(), "the room has not sent the codecs that it accepts in time");
        }
        let told = takes.borrow().clone();
        // Another codec than the expected one can't be added to the participant that was made for it.
        let usable = told.as_ref().is_none_or(|codecs| codecs.contains(&codec));
        (told, usable.then_some(prejoined))
    }
}

#[cfg(test)]
mod tests;
