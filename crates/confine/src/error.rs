//! Why a process can't be confined.

/// See the module.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A system call failed that every kernel has.
    #[error("{0}")]
    System(&'static str, #[source] std::io::Error),
    /// A layer did not take its rules.
    #[error("{0}")]
    Layer(&'static str, #[source] Box<dyn std::error::Error + Send + Sync>),
    /// The system has no such layer.
    #[error("{0}")]
    NoLayer(&'static str),
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
