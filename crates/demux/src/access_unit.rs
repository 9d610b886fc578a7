//! What leaves a demultiplexer: an access unit with its times.

use bytes::Bytes;

/// An access unit of video or a frame of audio. Times are nanoseconds on the pull's timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AccessUnit {
    /// When it is shown.
    pub(crate) pts: i64,
    /// When it is decoded; `None` where the container does not say.
    pub(crate) dts: Option<i64>,
    /// Whether it is a key frame.
    pub(crate) key: bool,
    pub(crate) data: Bytes,
}
