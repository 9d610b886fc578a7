//! The error of this crate: a codec configuration that can't be used.

/// A codec configuration is malformed. The source that sent it has to be mended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed {codec} configuration: {why}")]
pub struct ConfigError {
    /// The codec's name for people.
    pub codec: &'static str,
    /// What is wrong with it.
    pub why: &'static str,
}
