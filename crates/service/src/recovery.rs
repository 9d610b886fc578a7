//! Puts right what is stored of sessions whose instance is gone: killed, crashed, cut off, or ended before it could store an end.
//!
//! Each instance keeps a [record](crate::control::Record) of its sessions and writes it again every few seconds. Whoever sees that a
//! record does not change any more puts its sessions right, and removes it: the other instances, or the next one that starts. `ledger`
//! holds what this instance's record says, `detector` judges the records of others, `closing` says what is to be stored for their
//! sessions, and `keeper` does the IO.
//!
//! No clock is compared with another: a record expires when it has not changed for as long as it says, by the clock of the one who
//! looks, who must have looked regularly. So neither a clock that is wrong, nor a Redis that was away or has changed its master, nor an
//! instance that was held itself makes a live one look dead. One that lives but can't write (it was held, or is cut off from Redis) may
//! be taken for dead; it finds its record removed, and its sessions take their states back ([`crate::sessions::reporting`]).

pub mod closing;
pub mod detector;
mod keeper;
mod ledger;

pub(crate) use keeper::Keeper;
pub(crate) use ledger::Recorded;
pub use ledger::{Ledger, Loss};

use std::time::Duration;

/// How often an instance writes its record, and reads those of others.
pub const BEAT_INTERVAL: Duration = Duration::from_secs(5);
/// How long a record is good without a change. Redis' clients of one deployment find a new master within some 15 s of each other
/// (asking the sentinels every 10 s, dialling for 2 s); and what was killed is to be put right within 30 s of a restart, which the fifth
/// reading does.
pub const GOOD_FOR: Duration = Duration::from_secs(18);
