//! The layers that a session sends: the plan that names the producer of each, their sizes, and the order in which they return
//! after a worker was replaced.

pub(crate) mod passing;
pub(crate) mod plan;
pub(crate) mod restart_barrier;
pub(crate) mod sizing;
