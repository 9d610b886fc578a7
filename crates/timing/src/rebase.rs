//! Moves one connection's timestamps so that the first becomes a given time: connections of one live source, and segments without
//! timestamps of their own, continue one timeline whatever theirs begin with. Tracks whose clocks are far apart are moved together.
//!
//! **May assume** of the demultiplexer: each track's timestamps are on one clock. That clock may be another one for each track: some
//! multiplexers stamp sound and pictures from different beginnings.

use model::Kind;
use std::sync::{Mutex, PoisonError};

/// Tracks that begin further apart than this (nanoseconds) are on different clocks: nothing is interleaved over ten seconds.
const FAR: i64 = 10_000_000_000;

/// See the [module](self). All times are nanoseconds.
#[derive(Debug)]
pub struct Rebase {
    /// What the first timestamp becomes; `None` leaves it as it is.
    to: Option<i64>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What is added to the timestamps of each kind.
    offsets: [Option<i64>; 2],
    /// The newest time given out.
    newest: Option<i64>,
}

impl Rebase {
    /// The first timestamp becomes `to`.
    pub fn new(to: i64) -> Self {
        Self { to: Some(to), state: Mutex::default() }
    }

    /// The first timestamp stays as it is.
    pub fn as_they_are() -> Self {
        Self { to: None, state: Mutex::default() }
    }

    /// What is to be added to timestamps of this kind, of which `at` is the next.
    pub fn offset(&self, kind: Kind, at: i64) -> i64 {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { offsets, newest } = &mut *state;
        let (this, other) = (usize::from(kind == Kind::Video), usize::from(kind != Kind::Video));
        let other = offsets[other];
        let offset = *offsets[this].get_or_insert_with(|| match (other, *newest) {
            (Some(offset), Some(newest)) if at.saturating_add(offset).abs_diff(newest) > FAR.unsigned_abs() => {
                newest.saturating_sub(at)
            }
            (Some(offset), _) => offset,
            (None, _) => self.to.map_or(0, |to| to.saturating_sub(at)),
        });
        let moved = at.saturating_add(offset);
        *newest = Some(newest.map_or(moved, |newest| newest.max(moved)));
        offset
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_timestamp_decides() {
        let rebase = Rebase::new(500);
        let moved = [(Kind::Video, 90_000), (Kind::Audio, 80_000), (Kind::Video, 95_000)];
        assert_eq!(moved.map(|(kind, at)| rebase.offset(kind, at)), [500 - 90_000; 3]);
        assert_eq!(Rebase::new(-1).offset(Kind::Audio, i64::MIN), i64::MAX);
        let same = Rebase::as_they_are();
        assert_eq!(moved.map(|(kind, at)| same.offset(kind, at)), [0; 3]);
    }

    #[test]
    fn tracks_on_other_clocks_are_moved_together() {
        let hour = 3_600_000_000_000;
        for far in [hour, -hour] {
            let rebase = Rebase::new(0);
            assert_eq!(rebase.offset(Kind::Video, 7), -7);
            assert_eq!(rebase.offset(Kind::Video, 1_000_000_007), -7);
            assert_eq!(rebase.offset(Kind::Audio, far), 1_000_000_000 - far, "where the pictures are");
            assert_eq!(rebase.offset(Kind::Audio, far + 5), 1_000_000_000 - far);
            assert_eq!(rebase.offset(Kind::Video, 2_000_000_007), -7);
        }
    }
}
