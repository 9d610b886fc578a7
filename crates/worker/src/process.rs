//! Confinement: what the process does to itself before it meets a stranger's bytes.

use rustix::process::{Resource, Rlimit, Signal, getppid, getrlimit, set_parent_process_death_signal, setrlimit};

/// How much rather than its parent the system should end this process when it has no memory left, in thousandths of all memory
/// (proc(5), oom_score_adj): the parent holds every encoder's connection.
const OOM_SCORE: i32 = 500;

/// Bytes of memory at most, mapped files not counted. A session of 4K pictures takes 0.3 GiB, one of 8K 0.8 GiB (measured);
/// what wants more than this is a stream made to want it.
const MEMORY: u64 = 2 << 30;

/// Ends with the parent whatever happens to it, takes only so much memory, is the first to go when the machine has
/// none, and leaves no core files: they would hold a publisher's pictures.
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
    let memory = Some(getrlimit(Resource::Data).maximum.map_or(MEMORY, |now| now.min(MEMORY)));
    setrlimit(Resource::Data, Rlimit { current: memory, maximum: memory })?;
    volunteer();
    set_name("worker");
    Ok(())
}

/// Sets the name that `ps` and `top` show, of which the system keeps 15 bytes.
pub(crate) fn set_name(role: &str) {
    // Only a name: nothing depends on it.
    let _ = std::fs::write("/proc/self/comm", format!("ingress-{role}"));
}

/// Makes this process the first to go when memory runs out.
fn volunteer() {
    const SCORE: &str = "/proc/self/oom_score_adj";
    let now = std::fs::read_to_string(SCORE).ok().and_then(|s| s.trim().parse::<i32>().ok()).unwrap_or(0);
    // A system that does not let us costs nothing but the choice.
    let _ = std::fs::write(SCORE, now.saturating_add(OOM_SCORE).min(1000).to_string());
}
