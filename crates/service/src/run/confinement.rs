//! The confinement of workers as the service sees it: what the kernel offers is found and said once, at the start.

use confine::memory::{self, Roots};
use confine::{Mode, Support};
use model::{Blame, Fault};
use session::workers::registry;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use tracing::{info, warn};

/// What metrics show of it.
pub(crate) struct Confinement {
    /// What the kernel offers.
    pub(crate) support: Support,
    /// How many workers it has ended.
    pub(crate) killed: Box<dyn Fn() -> u64 + Send + Sync>,
}

/// Gives up what this process never needs, and says what is missing. To be called before other threads are started.
///
/// # Errors
/// With `confinement: require`, if something is missing.
pub(super) fn begin(mode: Mode) -> Result<Support, Fault> {
    let refused = |why: String| {
        let text =
            format!("confinement: require is set, and workers can't be confined: {why}; auto does with what there is");
        Fault::new(Blame::Us, text)
    };
    let support = confine::service::give_up(mode).map_err(|e| refused(e.text()))?;
    let missing = support.missing.join("; ");
    match mode {
        Mode::Never => {
            warn!("workers are not confined (confinement: never): whoever takes one over has what this user has")
        }
        Mode::Require if !missing.is_empty() => return Err(refused(missing)),
        _ if !missing.is_empty() => warn!("workers are not wholly confined: {missing}"),
        _ => info!(landlock = support.files, "workers are confined"),
    }
    say_what_memory_does();
    Ok(support)
}

/// Of one worker's excess the kernel may make everybody's end: nothing here can keep it from that, but whoever runs the container can.
fn say_what_memory_does() {
    let roots = Roots::default();
    let (Some(limit), true) = (memory::group_limit(&roots), memory::ends_as_a_group(&roots)) else { return };
    let (limit, child) = (limit >> 20, memory::child_limit(&roots) >> 20);
    warn!(
        "memory.oom.group is set for this control group: if its {limit} MiB run out, the kernel ends this program with all sessions, \
         not one worker alone (each takes {child} MiB at most); kubelet's singleProcessOOMKill: true, or systemd's \
         OOMPolicy=continue, turns that off"
    );
}

/// The registry that workers share, unless it can't be made.
pub(super) async fn registry(program: PathBuf, arguments: Vec<String>) -> Option<OwnedFd> {
    let made = registry::make(&program, &arguments).await;
    made.inspect_err(|e| warn!("workers start more slowly, as they can't share a registry of GStreamer's plugins: {e}"))
        .ok()
}
