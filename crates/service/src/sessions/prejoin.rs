//! Joins a room before the session begins, to learn which codecs it takes and which TURN servers it has before an offer is answered:
//! LiveKit's server tells that to participants only.

use crate::control::Resolved;
use model::{VideoCodec, VideoFormat};
use publish::ServerFacts;
use session::participant::ParticipantFactory;
use session::prejoined::Prejoined;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::timeout;
use tracing::warn;

/// How long an offer waits for the room: a join takes 50 to 100 ms on one machine, and three round trips and a TLS handshake
/// else. After that it is accepted, and a codec that the room does not take ends the session.
const ROOM_WAIT: Duration = Duration::from_secs(3);
/// The same where it is only asked for its TURN servers, which most clients do without. Chosen: several times what
/// a join takes on one machine.
const TURN_WAIT: Duration = Duration::from_millis(500);
/// How often to look whether the join has failed meanwhile: short beside what a join takes that fails.
const FAILED_JOIN_POLL: Duration = Duration::from_millis(50);

/// How to join a room.
pub(crate) struct Prejoin {
    pub(crate) participants: Arc<dyn ParticipantFactory>,
    /// Whether to offer loopback addresses for media.
    pub(crate) loopback: bool,
}

/// What is to be known of a room before an offer to it is answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Whether it takes this, the first choice of an offer that is passed through.
    pub(crate) codec: Option<VideoFormat>,
    /// Its server's TURN servers.
    pub(crate) turn: bool,
}

impl Wanted {
    /// Whether all of it is known. So the first offer of all waits for a join, even with H.264: a server can be configured to take none.
    fn is_known(&self, facts: &ServerFacts, now: Instant) -> bool {
        self.codec.as_ref().is_none_or(|format| facts.video_codecs.contains(&format.codec))
            && (!self.turn || facts.fresh_turn_servers(now).is_some())
    }
}

impl Prejoin {
    /// The video codecs that this server is known to take.
    pub(super) fn known_codecs(&self, ws_url: &str) -> Option<Vec<VideoCodec>> {
        Some(self.participants.server_facts(ws_url).borrow().as_ref()?.video_codecs.clone())
    }

    /// The video codecs that the room takes; `None` if that is not known. Joins the room where not all that is wanted is known of its
    /// server, and gives the room if what is wanted can be sent to it.
    pub(super) async fn room_codecs(
        &self,
        resolved: &Resolved,
        wanted: Wanted,
    ) -> (Option<Vec<VideoCodec>>, Option<Prejoined>) {
        let mut facts = self.participants.server_facts(&resolved.ws_url);
        let now = tokio::time::Instant::now().into_std();
        if let Some(known) = facts.borrow_and_update().as_ref().filter(|facts| wanted.is_known(facts, now)) {
            return (Some(known.video_codecs.clone()), None);
        }
        if wanted.codec.is_none() && resolved.stored.as_ref().is_some_and(|stored| !stored.status.is_final()) {
            // A session of it may run on another machine, whose participant would have to go: not for the sake of TURN servers.
            return (None, None);
        }
        let mut config = publish::Config::new(resolved.ws_url.clone(), resolved.token.clone());
        config.renew = Some(resolved.renew.clone());
        config.loopback = self.loopback;
        config.expected = wanted.codec.clone();
        let prejoined = Prejoined::join(self.participants.clone(), config);
        let answer = async {
            // A join that fails brings nothing; its session reports why.
            while !prejoined.is_over() && timeout(FAILED_JOIN_POLL, facts.changed()).await.is_err() {}
        };
        let patience = if wanted.codec.is_some() { ROOM_WAIT } else { TURN_WAIT };
        if timeout(patience, answer).await.is_err() {
            warn!("the room has not sent in time which codecs it accepts and which TURN servers it has");
        }
        let told = self.known_codecs(&resolved.ws_url);
        // Another codec than the expected one can't be added to the participant that was made for it.
        let takes = |format: &VideoFormat| told.as_ref().is_none_or(|codecs| codecs.contains(&format.codec));
        let usable = wanted.codec.as_ref().is_none_or(takes);
        (told, usable.then_some(prejoined))
    }
}

#[cfg(test)]
mod tests;
