//! Why a codec configuration can't be used.

/// A codec's configuration is damaged, or of a kind that nobody decodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed {codec} configuration: {why}")]
pub struct ConfigError {
    /// What people call the codec.
    pub codec: &'static str,
    /// What is wrong with it.
    pub why: &'static str,
}
