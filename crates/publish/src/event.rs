//! What a publisher tells its session.

use model::{Fault, Kind, Secret};

/// What the room, and the connection to it, say; in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// We are in the room. Comes again after a full reconnect, with another `participant_sid`.
    Joined {
        /// The room's sid.
        room_sid: String,
        /// Our own sid.
        participant_sid: String,
    },
    /// The SFU has published a track. Comes again, with another sid, after a full reconnect.
    Published {
        /// Which.
        kind: Kind,
        /// The track's sid.
        track_sid: String,
    },
    /// Media flows: ICE and DTLS are up. Comes again after a full reconnect.
    Connected,
    /// A layer needs a key frame: a viewer asks for it, or frames were lost here.
    KeyframeRequest {
        /// Index into the track's layers.
        layer: usize,
    },
    /// Whether each layer of the track goes out: somebody watches it, and the uplink carries it. All do until this comes first.
    LayersWanted(Vec<bool>),
    /// The room muted or unmuted a track. Media of a muted track goes nowhere.
    Muted {
        /// Which.
        kind: Kind,
        /// Muted, or not any more.
        muted: bool,
    },
    /// The room is lost for now. Media may still find its way, or go nowhere until [`Event::Reconnected`].
    Reconnecting,
    /// Back, whether resumed or joined again.
    Reconnected,
    /// The server has given us another token, which has what changed since: whoever joins again for us has to use it, as long as it
    /// is valid. Where the room has moved, no token from before leads to it.
    TokenRefreshed {
        /// The token.
        token: Secret,
        /// Whether it is for another room than the one before.
        moved: bool,
    },
    /// Over. Always the last event, unless the publisher left by itself.
    Closed(Fault),
}
