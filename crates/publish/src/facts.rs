//! What a server tells each who joins, and others want to know too.

use model::{TurnServer, VideoCodec};
use std::time::{Duration, Instant};

/// How long the credentials of TURN servers are handed on: livekit-server's own last, those that it makes from a shared secret last four
/// hours by default, and who is given them now publishes for a while.
const CREDENTIALS_FRESH: Duration = Duration::from_secs(3_600);

/// What a server said with its newest join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFacts {
    /// The video codecs that it accepts.
    pub video_codecs: Vec<VideoCodec>,
    /// Its TURN servers, with credentials that may last for some hours only.
    pub turn_servers: Vec<TurnServer>,
    /// When it said so.
    pub told: Instant,
}

impl ServerFacts {
    /// The TURN servers, if they were named not too long ago.
    pub fn fresh_turn_servers(&self, now: Instant) -> Option<&[TurnServer]> {
        (now.saturating_duration_since(self.told) < CREDENTIALS_FRESH).then_some(&self.turn_servers)
    }
}
