//! Moves one connection's timestamps so that the first becomes a given time: connections of one live source, and segments without
//! timestamps of their own, continue one timeline whatever theirs begin with.
//!
//! **May assume** of the demultiplexer: one connection's timestamps are on one clock.

use std::sync::OnceLock;

/// See the [module](self). All times are nanoseconds.
#[derive(Debug)]
pub struct Rebase {
    to: i64,
    first: OnceLock<i64>,
}

impl Rebase {
    /// The first timestamp becomes `to`.
    pub fn new(to: i64) -> Self {
        Self { to, first: OnceLock::new() }
    }

    /// What is to be added to timestamps, of which `at` is one.
    pub fn offset(&self, at: i64) -> i64 {
        self.to.saturating_sub(*self.first.get_or_init(|| at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_timestamp_decides() {
        let rebase = Rebase::new(500);
        assert_eq!([rebase.offset(90_000), rebase.offset(80_000)], [500 - 90_000; 2]);
        assert_eq!(Rebase::new(-1).offset(i64::MIN), i64::MAX);
    }
}
