//! What this kernel offers to confine workers with.

use crate::{calls, files};
use landlock::LandlockStatus;
use rustix::thread::set_no_new_privs;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Support {
    /// The version of Landlock's interface (ABI); 0 if there is none.
    pub files: u32,
    /// Whether system calls can be filtered.
    pub calls: bool,
    /// What is missing, why, and what that means; one entry for each.
    pub missing: Vec<String>,
}

impl Support {
    /// Nothing, as where nothing is asked for.
    pub fn none() -> Self {
        Self { files: 0, calls: false, missing: Vec::new() }
    }

    /// Tries the layers on a thread that ends after it: whatever stands between this process and the kernel, such as a container's own
    /// filter, shows only so.
    pub fn find() -> Self {
        let tried = std::thread::Builder::new().name("confinement".into()).spawn(Self::try_here);
        tried.ok().and_then(|thread| thread.join().ok()).unwrap_or_else(|| Self {
            missing: vec!["no thread could be started to try it".to_owned()],
            ..Self::none()
        })
    }

    fn try_here() -> Self {
        let mut support = Self::none();
        let refused = |e: crate::Error| e.text();
        let files = set_no_new_privs(true).map_err(|e| e.to_string()).and_then(|()| files::try_it().map_err(refused));
        let open = "whoever takes a worker over can read what this user may read";
        match files {
            Ok(LandlockStatus::Available { effective_abi, .. }) => support.files = effective_abi as u32,
            Ok(LandlockStatus::NotEnabled) => {
                support
                    .missing
                    .push(format!("Landlock is not among the kernel's active security modules (lsm=): {open}"));
            }
            Ok(LandlockStatus::NotImplemented) => {
                let why = "the kernel, or the container's own filter, offers no Landlock (Linux 5.13)";
                support.missing.push(format!("{why}: {open}"));
            }
            Err(why) => support.missing.push(format!("{why}: {open}")),
        }
        match calls::try_it() {
            Ok(()) => support.calls = true,
            Err(e) => {
                let open = "whoever takes a worker over has the network and every system call";
                support.missing.push(format!("{}: {open}", e.text()));
            }
        }
        support
    }

    /// The layers, each with whether it is there, for metrics. TCP and signals are closed by system calls as well.
    pub fn layers(&self) -> [(&'static str, bool); 4] {
        [("files", self.files >= 1), ("tcp", self.files >= 4), ("signals", self.files >= 6), ("calls", self.calls)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trial_leaves_this_thread_as_it_was() {
        let support = Support::find();
        assert_eq!(support.missing.len(), usize::from(support.files == 0) + usize::from(!support.calls));
        let file = std::env::temp_dir().join(format!("confine-support-{}", std::process::id()));
        std::fs::write(&file, b"x").unwrap();
        std::fs::remove_file(&file).unwrap();
    }
}
