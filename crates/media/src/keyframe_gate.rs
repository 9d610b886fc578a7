//! The one rule "drop until the next key frame". Wherever coded video loses frames (a full queue, a gap, another sender), all that
//! follows builds on what is missing, up to the next key frame.

/// Frames that are skipped at most while waiting for a key frame: ten seconds at 30 pictures a second. A source that never
/// sends one (it may refresh its pictures bit by bit) is decoded from anywhere after that.
const MAX_SKIPPED: u32 = 300;

/// Decides for each coded frame of one stream, in decoding order, whether it goes on.
///
/// # Contract
/// - Call [`pass`](Self::pass) or [`admits`](Self::admits) once for each frame, and obey.
/// - Call [`close`](Self::close) whenever a frame that was admitted is lost behind the gate, and whenever what comes next does not
///   build on what came before. Closing a closed gate changes nothing.
/// - A closed gate drops every frame up to the next key frame, which it passes as [`GateDecision::Resumes`]. An open gate passes all.
/// - With a [limit](Self::with_limit) it gives up waiting after so many dropped frames: for decoders of streams that never send a
///   key frame (intra refresh). Others must not set one.
///
/// Audio needs no gate: every packet of it can be decoded alone. Frames that lead the key frame behind a gap (open GOPs) pass the
/// gate; in front of a decoder a [`RaslFilter`](crate::RaslFilter) drops those: tell it of each [`GateDecision::Resumes`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyframeGate {
    open: bool,
    /// Frames dropped since the gate was closed.
    dropped: u32,
    limit: Option<u32>,
}

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum GateDecision {
    /// It is of no use and goes nowhere.
    Dropped,
    /// The first frame that passes since the gate was closed: what came before it is missing.
    Resumes,
    /// It passes, and so did the frame before it.
    Continues,
}

impl GateDecision {
    /// Whether the frame goes on.
    pub fn passes(self) -> bool {
        self != Self::Dropped
    }
}

impl Default for KeyframeGate {
    fn default() -> Self {
        Self::closed()
    }
}

impl KeyframeGate {
    /// Begins closed: the first frame that passes is a key frame.
    pub const fn closed() -> Self {
        Self { open: false, dropped: 0, limit: None }
    }

    /// Begins open: for streams of which it is known that they begin with a key frame.
    pub const fn open() -> Self {
        Self { open: true, dropped: 0, limit: None }
    }

    /// Begins closed, for streams that are to be decoded whatever they send.
    pub const fn before_decoder() -> Self {
        Self::with_limit(MAX_SKIPPED)
    }

    /// Begins closed, and opens for any frame once `limit` frames were dropped in a row.
    pub const fn with_limit(limit: u32) -> Self {
        Self { open: false, dropped: 0, limit: Some(limit) }
    }

    /// The same gate, but open at the start.
    #[must_use]
    pub const fn opened(self) -> Self {
        Self { open: true, ..self }
    }

    /// A frame was lost, or what follows does not build on what came before.
    pub fn close(&mut self) {
        if std::mem::replace(&mut self.open, false) {
            self.dropped = 0;
        }
    }

    /// The next frame comes.
    pub fn pass(&mut self, key: bool) -> GateDecision {
        if self.open {
            return GateDecision::Continues;
        }
        if !key && self.limit.is_none_or(|limit| self.dropped < limit) {
            self.dropped = self.dropped.saturating_add(1);
            return GateDecision::Dropped;
        }
        self.open = true;
        GateDecision::Resumes
    }

    /// The next frame comes; whether it passes.
    pub fn admits(&mut self, key: bool) -> bool {
        self.pass(key).passes()
    }

    /// Whether the next frame must be a key frame to pass, as far as there is no limit.
    pub fn is_closed(&self) -> bool {
        !self.open
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn closed_gate_drops_to_the_key_frame() {
        let mut gate = KeyframeGate::closed();
        assert_eq!(
            [false, true, false].map(|key| gate.pass(key)),
            [GateDecision::Dropped, GateDecision::Resumes, GateDecision::Continues]
        );
        gate.close();
        assert!(gate.is_closed() && !gate.admits(false) && gate.admits(true) && !gate.is_closed());
        assert_eq!(KeyframeGate::open().pass(false), GateDecision::Continues);
    }

    #[test]
    fn limit_opens_without_key_frame() {
        let mut gate = KeyframeGate::with_limit(2);
        let passages = [false; 4].map(|key| gate.pass(key));
        assert_eq!(
            passages,
            [GateDecision::Dropped, GateDecision::Dropped, GateDecision::Resumes, GateDecision::Continues]
        );
        gate.close();
        assert_eq!(gate.pass(false), GateDecision::Dropped, "it counts from zero again");
        let mut open = KeyframeGate::with_limit(1).opened();
        assert_eq!(open.pass(false), GateDecision::Continues);
        open.close();
        assert_eq!([false; 2].map(|key| open.pass(key)), [GateDecision::Dropped, GateDecision::Resumes]);
    }

    /// A frame (`Some(key)`) or a loss behind the gate.
    fn steps() -> impl Strategy<Value = Vec<Option<bool>>> {
        proptest::collection::vec(
            prop_oneof![Just(Some(true)), Just(Some(false)), Just(Some(false)), Just(None)],
            0..200,
        )
    }

    proptest! {
        /// What passes can be decoded: it is a key frame, or the frame right before it passed and was not lost.
        #[test]
        fn what_passes_is_decodable(steps in steps(), begins_open: bool) {
            let mut gate = if begins_open { KeyframeGate::open() } else { KeyframeGate::closed() };
            let mut whole = begins_open;
            for step in steps {
                let Some(key) = step else {
                    gate.close();
                    whole = false;
                    prop_assert!(gate.is_closed());
                    continue;
                };
                // And nothing that could be decoded is dropped.
                let expected = match (whole, key) {
                    (true, _) => GateDecision::Continues,
                    (false, true) => GateDecision::Resumes,
                    (false, false) => GateDecision::Dropped,
                };
                prop_assert_eq!(gate.pass(key), expected);
                whole |= key;
                prop_assert_eq!(gate.is_closed(), !whole);
            }
        }

        /// With a limit no more than that many frames in a row are dropped.
        #[test]
        fn limit_bounds_what_is_dropped(steps in steps(), limit in 0u32..20) {
            let mut gate = KeyframeGate::with_limit(limit);
            let mut dropped = 0;
            for step in steps {
                match step {
                    None if gate.is_closed() => gate.close(),
                    None => {
                        gate.close();
                        dropped = 0;
                    }
                    Some(key) if gate.admits(key) => dropped = 0,
                    Some(_) => dropped += 1,
                }
                prop_assert!(dropped <= limit);
            }
        }
    }
}
