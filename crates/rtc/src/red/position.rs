//! Where a packet stands in its RTP stream.

/// Sequence number and timestamp of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtpPosition {
    /// Sequence number, extended by its rollovers.
    pub sequence: u64,
    /// Timestamp, which wraps.
    pub timestamp: u32,
}
