//! The state machines under random operations, with the stable compiler: their promises stand at the targets.

use proptest::prelude::*;

proptest! {
    #[test]
    fn a_session_keeps_its_promises_whatever_happens(steps in proptest::collection::vec(any::<u8>(), 0..120)) {
        fuzz::session_life(&steps);
    }

    #[test]
    fn stored_states_come_true_whatever_happens(steps in proptest::collection::vec(any::<u8>(), 0..120)) {
        fuzz::recovery(&steps);
    }

    #[test]
    fn the_ingest_clock_keeps_its_promises_whatever_comes(frames in proptest::collection::vec(any::<u8>(), 0..600)) {
        fuzz::ingest_clock(&frames);
    }
}
