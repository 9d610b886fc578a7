//! The faults of a pull, each with whose doing it is and whether another attempt may help.

use model::{Blame, Fault};
use std::fmt::Display;

/// What the source sends can't be played; it would not be played next time either.
pub(crate) fn unplayable(text: impl Into<String>) -> Fault {
    Fault::new(Blame::Source, text)
}

/// The source does not send, or has stopped; it may be back later.
pub(crate) fn lost(text: impl Into<String>) -> Fault {
    Fault::transient(Blame::Source, text)
}

/// The URL, as the ingress was created with it, asks for what can't be.
pub(crate) fn misconfigured(text: impl Into<String>) -> Fault {
    Fault::new(Blame::Spec, text)
}

/// Something here that should not fail did.
pub(crate) fn internal(error: impl Display) -> Fault {
    Fault::new(Blame::Us, error.to_string())
}

/// As a fault, to be used with `map_err`.
pub(crate) fn of_fetch(error: fetch::Error) -> Fault {
    error.fault()
}

/// As a fault, to be used with `map_err`.
pub(crate) fn of_worker(error: worker::Error) -> Fault {
    error.fault("")
}
