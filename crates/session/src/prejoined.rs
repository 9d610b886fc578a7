//! A room that is joined before the session begins, to learn which codecs its server accepts, and its TURN servers.

use crate::participant::{Facts, Joined, ParticipantFactory};
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

    fn server_facts(&self, ws_url: &str) -> Facts {
        self.next.server_facts(ws_url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Given, Participants};
    use model::{OpusFormat, Secret, TrackSource};
    use publish::AudioTrack;

    fn config() -> Config {
        let attributes = vec![("key".to_owned(), "value".to_owned())];
        Config { attributes, ..Config::new("ws://sfu", Secret::new("token")) }
    }

    fn tracks() -> Tracks {
        let OpusFormat { stereo, dtx } = OpusFormat::default();
        let (cid, name, source) = ("TR_1".to_owned(), String::new(), TrackSource::Microphone);
        Tracks { audio: Some(AudioTrack { cid, name, source, stereo, dtx }), video: None }
    }

    #[tokio::test]
    async fn the_first_join_takes_the_prejoined_participant() {
        let (participants, mut rooms) = Participants::new();
        let prejoined = Prejoined::join(participants, Config { attributes: Vec::new(), ..config() });
        let mut first = rooms.try_recv().expect("joined at once");
        assert_eq!(first.tracks, Tracks::default());
        let (_participant, _events) = prejoined.join(config(), tracks());
        assert_eq!(first.given(), [Given::AddAudio, Given::Attributes(config().attributes)]);
        assert!(rooms.try_recv().is_err());
        // Later ones are new.
        let (_participant, _events) = prejoined.join(config(), tracks());
        assert_eq!(rooms.try_recv().map(|room| room.tracks), Ok(tracks()));
    }

    #[tokio::test]
    async fn a_prejoined_participant_that_fails_is_over() {
        let (participants, mut rooms) = Participants::new();
        let prejoined = Prejoined::join(participants, config());
        assert!(!prejoined.is_over());
        drop(rooms.try_recv());
        assert!(prejoined.is_over());
    }
}
