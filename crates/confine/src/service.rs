//! The parent's part: it holds the ports and all secrets, so that it gives up only what it never needs.

use crate::{Error, Mode, Support, rights};
use rustix::thread::CapabilitySet;

/// What a service that was started as root may still need: ports below 1024, and files that only root may read, such as certificates
/// that are read again when they change.
const KEPT: [CapabilitySet; 3] =
    [CapabilitySet::NET_BIND_SERVICE, CapabilitySet::DAC_OVERRIDE, CapabilitySet::DAC_READ_SEARCH];

/// Closes this process's memory and environment to others of the same user. To be called before a secret is read.
pub fn hide() {
    // What is asked for is not known yet; `give_up` says so if it fails.
    let _ = rights::hide();
}

/// Gives up capabilities and new privileges, for this thread and all that it starts, and says what the kernel offers for workers. To be
/// called while there is one thread.
///
/// # Errors
/// With [`Mode::Require`], if something is missing.
pub fn give_up(mode: Mode) -> Result<Support, Error> {
    if mode == Mode::Never {
        rights::show();
        return Ok(Support::none());
    }
    let kept = KEPT.into_iter().fold(CapabilitySet::empty(), CapabilitySet::union);
    let given_up = rights::hide().and_then(|()| rights::give_up(kept));
    match given_up {
        Err(e) if mode == Mode::Require => Err(e),
        _ => Ok(Support::find()),
    }
}
