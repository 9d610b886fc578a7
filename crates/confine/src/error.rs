//! Why a process can't be confined.

/// See the module.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A system call failed that every kernel has.
    #[error("{0}")]
    System(&'static str, #[source] std::io::Error),
    /// Landlock did not take the rules.
    #[error("files can't be closed off (Landlock)")]
    Files(#[from] landlock::RulesetError),
    /// The kernel did not take a filter.
    #[error("system calls can't be filtered (seccomp)")]
    Calls(#[from] seccompiler::Error),
    /// A filter can't be built for this machine.
    #[error("system calls can't be filtered on this machine")]
    Filter(#[from] seccompiler::BackendError),
    /// The kernel has no Landlock.
    #[error("files can't be closed off: the kernel offers no Landlock")]
    NoFiles,
}

impl Error {
    /// With what lies behind it.
    pub fn text(&self) -> String {
        match std::error::Error::source(self) {
            Some(source) => format!("{self}: {source}"),
            None => self.to_string(),
        }
    }
}
