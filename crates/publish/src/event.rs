//! What a publisher tells its session.

use model::{Fault, Kind};

/// Facts and wishes from the room, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// In the room. Comes again after a full reconnect, with another `participant_sid`.
    Joined {
        /// The room's sid.
        room_sid: String,
        /// Our own sid.
        participant_sid: String,
    },
    /// The SFU knows the track. Comes again, with another sid, after a full reconnect.
    Published {
        /// Which.
        kind: Kind,
        /// The track's sid.
        track_sid: String,
    },
    /// Media flows: ICE and DTLS are up. Comes again after a full reconnect.
    Connected,
    /// Somebody needs a picture to start decoding this layer from (an index into the track's layers).
    KeyFrameWanted {
        /// Index into the track's layers.
        layer: usize,
    },
    /// Whether anybody watches each layer of the track. All are wanted until this comes first.
    LayersWanted(Vec<bool>),
    /// The room muted or unmuted a track; frames of a muted track go nowhere.
    Muted {
        /// Which.
        kind: Kind,
        /// Muted, or not any more.
        muted: bool,
    },
    /// The room is lost for now. Frames may still find their way, or go nowhere until [`Event::Reconnected`].
    Reconnecting,
    /// Back, by whichever way.
    Reconnected,
    /// Over. Always the last event, unless the publisher left by itself.
    Closed(Fault),
}
