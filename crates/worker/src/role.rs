//! What a role has to bring.

use crate::outbox::Events;
use crate::watchdog::Watchdog;
use confine::Temporary;
use model::Fault;

/// The work of a role, once it is assigned.
pub trait Work: Sized {
    /// Which.
    type Role: ipc::Role;

    /// Loads what the usual job needs, so that its first media need not wait for it. GStreamer is up.
    ///
    /// # Errors
    /// If this installation can do no job at all.
    fn preload() -> Result<(), Fault> {
        Ok(())
    }

    /// Starts a job. It ends with the role's last event. `temporary` is the one file that this process may write, if it may.
    ///
    /// # Errors
    /// If the system has no threads left.
    fn start(
        job: <Self::Role as ipc::Role>::Job,
        events: Events<<Self::Role as ipc::Role>::Event>,
        watch: &Watchdog,
        temporary: Temporary,
    ) -> std::io::Result<Self>;

    /// Takes a command of the parent. May wait: the socket is not read meanwhile, and the parent feels it.
    fn command(&mut self, command: <Self::Role as ipc::Role>::Command);
}
