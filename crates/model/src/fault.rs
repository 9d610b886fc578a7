//! Faults: what went wrong, whose doing it is, and whether another attempt can help.

use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;

/// Whose doing a fault is. Each edge translates it to its own code (RTMP status, HTTP status, psrpc code).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Blame {
    /// The encoder or URL that sends media: bad bytes, an unsupported codec, no media.
    Source,
    /// The publisher, who is not allowed to publish: the ingress is disabled, another encoder has connected.
    Access,
    /// The publisher, whose stream key does not exist.
    Unknown,
    /// The publisher, whose stream key belongs to another kind of input.
    Mismatch,
    /// The publisher, whose stream key is in use.
    InUse,
    /// The settings of the ingress: no room name, an odd layer size, an unusable URL.
    Spec,
    /// The room or the SFU: deleted, participant removed, unreachable.
    Room,
    /// The control plane: Redis or livekit-server's RPC does not answer.
    Control,
    /// This machine, which is full.
    Capacity,
    /// This machine, which takes no new session as it is shutting down.
    Draining,
    /// Ourselves: a crash, a bug.
    Us,
}

/// A fault as people read it. The text holds no secret, and says what to do where we know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Whose doing it is.
    pub blame: Blame,
    /// Whether the same attempt may succeed a little later.
    pub retry: bool,
    /// The text, for the log and for those who may see the ingress.
    pub text: String,
}

/// The text of every control plane fault for a publisher. The fault's own text names machines of ours, which must not be shown
/// to anybody without a valid stream key.
const CONTROL_FAULT: &str =
    "livekit-server, or the Redis before it, does not answer this ingress; try again in a moment (its log knows more)";

/// What stands in a public text in place of an address.
const HIDDEN: &str = "(address hidden)";

impl Fault {
    /// A fault that another attempt does not mend.
    pub fn new(blame: Blame, text: impl Into<String>) -> Self {
        Self { blame, retry: false, text: text.into() }
    }

    /// A fault that may be gone on the next attempt.
    pub fn transient(blame: Blame, text: impl Into<String>) -> Self {
        Self { blame, retry: true, text: text.into() }
    }

    /// The text for the peer of a connection, who may hold no valid stream key, and to whom our own servers' addresses are no
    /// business with one.
    pub fn public(&self) -> Cow<'_, str> {
        if self.blame == Blame::Control {
            return CONTROL_FAULT.into();
        }
        if !self.text.contains("://") {
            return self.text.as_str().into();
        }
        let shown = |word: &str| {
            let (address, end) = word.split_at(word.trim_end_matches([':', ',', ';', '.', ')', '"']).len());
            if address.contains("://") { format!("{HIDDEN}{end}") } else { word.to_owned() }
        };
        self.text.split(' ').map(shown).collect::<Vec<_>>().join(" ").into()
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Fault {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_ours_are_not_told() {
        let public = |text: &str| Fault::new(Blame::Room, text).public().into_owned();
        let text = "cannot reach LiveKit at ws://10.0.0.7:7880: Connection refused (os error 111)";
        assert_eq!(public(text), "cannot reach LiveKit at (address hidden): Connection refused (os error 111)");
        assert_eq!(
            public("LiveKit at wss://lk.internal answered 500: x"),
            "LiveKit at (address hidden) answered 500: x"
        );
        assert_eq!(public("the room was deleted"), "the room was deleted");
        assert_eq!(Fault::new(Blame::Control, "Redis at 10.0.0.5:6379").public(), CONTROL_FAULT);
    }
}
