//! The sessions of this process, from an admitted publisher to the last report.
//!
//! `admitted` is what a publisher begins with, [`Sessions`] runs the sessions, `prejoin` joins a room before its session begins, `observers` are told what
//! sessions do.
//! Each session has a `state_reporter`: one task that carries its reports out and commands in, one after the other, so that
//! nothing is reported after a deletion was answered; [`reporting`] decides what it reports and when. Who may begin is decided in [`admission`](crate::admission).

pub mod admitted;
mod observers;
pub(crate) mod prejoin;
pub mod reporting;
pub(crate) mod running;
mod state_reporter;
mod turns;

pub(crate) use observers::Observers;
pub use running::{Parts, Sessions};
