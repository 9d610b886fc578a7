//! The parent's part: it holds the ports and all secrets, so that it gives up only what it never needs.

use crate::{Error, Mode, Support, system};

/// Closes this process's memory and environment to others of the same user. To be called before a secret is read.
pub fn hide() {
    // What is asked for is not known yet; `give_up` says so if it fails.
    let _ = system::hide();
}

/// Gives up capabilities and new privileges, for this thread and all that it starts, and says what the kernel offers for workers. To be
/// called while there is one thread.
///
/// # Errors
/// With [`Mode::Require`], if something is missing.
pub fn give_up(mode: Mode) -> Result<Support, Error> {
    if mode == Mode::Never {
        system::show();
        return Ok(Support::none());
    }
    let given_up = system::hide().and_then(|()| system::give_up_all_but_a_services());
    match given_up {
        Err(e) if mode == Mode::Require => Err(e),
        _ => Ok(Support::find()),
    }
}
