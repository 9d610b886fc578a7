//! Faults: what went wrong in words for the person who can mend it, and who that is.

use std::fmt;

/// Whose doing a fault is, so that each edge can answer in its own code (RTMP status, HTTP status, psrpc code).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Blame {
    /// The encoder or URL that sends media: bad bytes, an unsupported codec, silence.
    Source,
    /// Who pushes is not allowed to: disabled ingress, another encoder came.
    Access,
    /// Who pushes shows a key that nobody has.
    Unknown,
    /// Who pushes shows a key that is for another kind of input.
    Mismatch,
    /// Who pushes shows a key that is in use.
    InUse,
    /// What the ingress was created with: no room name, odd layer size.
    Spec,
    /// The room or the SFU: deleted, participant removed, unreachable.
    Room,
    /// The control plane (Redis, livekit-server's RPC) did not answer.
    Control,
    /// This machine is full.
    Capacity,
    /// This machine takes nobody new, as it is about to end.
    Draining,
    /// Ourselves: a crash, a bug.
    Us,
}

/// A fault as told to people. It must hold no secret, and says what to do where we know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Whose doing it is.
    pub blame: Blame,
    /// Whether the same attempt may succeed a little later.
    pub retry: bool,
    /// The text, for the log and for who may look at the ingress.
    pub text: String,
}

/// What anybody hears of the control plane: its text names our machines, which is nobody's business who has not shown a valid
/// key yet.
const CONTROL: &str =
    "livekit-server, or the Redis before it, does not answer this ingress; try again in a moment (its log knows more)";

impl Fault {
    /// A fault that trying again will not mend.
    pub fn new(blame: Blame, text: impl Into<String>) -> Self {
        Self { blame, retry: false, text: text.into() }
    }

    /// A fault that may be gone on the next attempt.
    pub fn passing(blame: Blame, text: impl Into<String>) -> Self {
        Self { blame, retry: true, text: text.into() }
    }

    /// The text for whoever is at the other end of a connection.
    pub fn public(&self) -> &str {
        if self.blame == Blame::Control { CONTROL } else { &self.text }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Fault {}
