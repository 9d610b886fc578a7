//! Turns of the sessions of one instance, for what they are not to do all at once.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How far turns are apart. What an instance pulls is handed over at this pace: each request costs the others a look at how busy they
/// are, which changes with each pull that they take.
pub(super) const TURN: Duration = Duration::from_millis(500);

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Turns(Mutex<Option<Instant>>);

impl Turns {
    /// Takes the turn, if nobody has it at `now`.
    ///
    /// # Errors
    /// When to try again.
    pub(super) fn take(&self, now: Instant) -> Result<(), Instant> {
        // Whole after a panic: it is one value.
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let free = taken.map_or(now, |taken| taken + TURN);
        if now < free {
            return Err(free);
        }
        *taken = Some(now);
        Ok(())
    }
}
