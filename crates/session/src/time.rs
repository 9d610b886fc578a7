//! The time as a session sees it.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The time by tokio's clock, so that tests can run on virtual time.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Nanoseconds since 1970, as the control plane counts time.
pub fn unix_nanos(at: SystemTime) -> i64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX))
}
