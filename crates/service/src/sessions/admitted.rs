//! A publisher that may begin, and what was reserved for it.

use super::prejoin::{Prejoin, Wanted};
use crate::control::{Resolved, SessionCommands};
use crate::load::Permit;
use model::{ResourceId, Secret, VideoCodec};
use session::prejoined::Prejoined;
use session::registry::{Entry, Slot};
use session::{Report, Status};

/// A publisher that may begin. Dropping it gives up what was reserved for it.
pub struct Admitted {
    pub(crate) key: Secret,
    pub(crate) outcome: Outcome,
    pub(crate) prejoin: Prejoin,
}

/// What an admitted publisher begins with.
pub(crate) enum Outcome {
    /// A session of its own.
    New(Box<NewSession>),
    /// The session that runs, which it takes over under an id of its own.
    TakesOver { running: Entry, resource_id: ResourceId, ws_url: String },
    /// Nothing: what it asked for runs already.
    Runs(Entry),
}

impl Admitted {
    /// The stream key that counted; empty where none was shown.
    pub fn key(&self) -> &Secret {
        &self.key
    }

    /// The id under which this publisher is known: that of its session, or one of its own within the session it takes over.
    pub fn resource_id(&self) -> &ResourceId {
        match &self.outcome {
            Outcome::TakesOver { resource_id, .. } => resource_id,
            Outcome::New(_) | Outcome::Runs(_) => &self.entry().resource_id,
        }
    }

    /// Whether its media is transcoded.
    pub fn transcode(&self) -> bool {
        self.entry().transcode
    }

    /// Whether nothing is to begin, as what was asked for runs already.
    pub fn runs_already(&self) -> bool {
        matches!(self.outcome, Outcome::Runs(_))
    }

    /// The state of its session, as of when that was admitted.
    pub fn state(&self) -> Report {
        let Entry { resource_id, started_at, .. } = self.entry();
        Report::first(resource_id.clone(), Status::Buffering, String::new(), *started_at)
    }

    /// The server of its room; empty where what it asked for runs already.
    pub fn ws_url(&self) -> &str {
        match &self.outcome {
            Outcome::New(new) => &new.resolved.ws_url,
            Outcome::TakesOver { ws_url, .. } => ws_url,
            Outcome::Runs(_) => "",
        }
    }

    /// The video codecs that the room of this publisher takes; `None` if that is not known. Where the room has to be joined to learn what is
    /// wanted, the session goes on with that participant.
    pub(crate) async fn room_codecs(&mut self, wanted: Wanted) -> Option<Vec<VideoCodec>> {
        match &mut self.outcome {
            Outcome::New(new) => {
                let (codecs, prejoined) = self.prejoin.room_codecs(&new.resolved, wanted).await;
                new.prejoined = prejoined;
                codecs
            }
            Outcome::TakesOver { ws_url, .. } => self.prejoin.known_codecs(ws_url),
            Outcome::Runs(_) => None,
        }
    }

    pub(crate) fn entry(&self) -> &Entry {
        match &self.outcome {
            Outcome::New(new) => &new.slot.entry,
            Outcome::TakesOver { running, .. } | Outcome::Runs(running) => running,
        }
    }
}

/// What a new session begins with.
pub(crate) struct NewSession {
    pub(crate) slot: Slot,
    pub(crate) resolved: Resolved,
    pub(crate) commands: SessionCommands,
    /// The room, where it was joined before the session began.
    pub(crate) prejoined: Option<Prejoined>,
    pub(crate) permit: Permit,
}
