//! What this kernel offers to confine workers with.

use crate::system;

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
        let tried = std::thread::Builder::new().name("confinement".into()).spawn(system::try_layers);
        tried.ok().and_then(|thread| thread.join().ok()).unwrap_or_else(|| Self {
            missing: vec!["no thread could be started to try it".to_owned()],
            ..Self::none()
        })
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
        assert_eq!(support.missing.is_empty(), support.files > 0 && support.calls);
        let file = std::env::temp_dir().join(format!("confine-support-{}", std::process::id()));
        std::fs::write(&file, b"x").unwrap();
        std::fs::remove_file(&file).unwrap();
    }
}
