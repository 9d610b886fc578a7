//! What the process does to itself before it meets a stranger's bytes.

use rustix::process::{Resource, Rlimit, Signal, getppid, set_parent_process_death_signal, setrlimit};

/// The name that `ps` and `top` show; at most 15 bytes.
const NAME: &str = "ingress-transc";

/// Ends with the parent whatever happens to it, and leaves no core files: they would hold a publisher's pictures.
///
/// # Errors
/// If the system refuses, or if the parent is already gone.
pub(crate) fn harden() -> std::io::Result<()> {
    let parent = getppid();
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // The parent may have died before the line above; then the process has another one by now.
    if parent.is_none() || getppid() != parent {
        return Err(std::io::Error::other("the parent is gone"));
    }
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    // Only a name: nothing depends on it.
    let _ = std::fs::write("/proc/self/comm", NAME);
    Ok(())
}
