//! Which layers a session sends: their sizes, and the order in which they come back after a worker was replaced.

pub(crate) mod restart_barrier;
pub(crate) mod sizing;
