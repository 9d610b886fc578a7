//! A room that is joined before the session begins, to learn which codecs its server accepts.

use super::{AcceptedCodecs, Joined, ParticipantFactory};
use publish::{Config, Tracks};
use std::sync::{Arc, Mutex, PoisonError};

/// Makes participants, the first of which has joined already. Dropped unused, that one leaves.
pub struct Prejoined {
    joined: Mutex<Option<Joined>>,
    next: Arc<dyn ParticipantFactory>,
}

impl Prejoined {
    /// Joins with `participants`, without a track yet. Later participants come from there too.
    pub fn join(participants: Arc<dyn ParticipantFactory>, config: Config) -> Self {
        let joined = participants.join(config, Tracks::default());
        Self { joined: Mutex::new(Some(joined)), next: participants }
    }

    /// Whether the participant failed to join, or left, before a session took it.
    pub fn is_over(&self) -> bool {
        let joined = self.joined.lock().unwrap_or_else(PoisonError::into_inner);
        joined.as_ref().is_some_and(|(_, events)| events.is_closed())
    }
}

impl ParticipantFactory for Prejoined {
    /// The first time, adds the tracks to the participant that has joined.
    fn join(&self, config: Config, tracks: Tracks) -> Joined {
        let joined = self.joined.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some((participant, events)) = joined else { return self.next.join(config, tracks) };
        tracks.video.into_iter().for_each(|track| participant.add_video(track));
        tracks.audio.into_iter().for_each(|track| participant.add_audio(track));
        participant.set_attributes(config.attributes);
        (participant, events)
    }

    fn accepted_codecs(&self, ws_url: &str) -> AcceptedCodecs {
        self.next.accepted_codecs(ws_url)
    }
}
