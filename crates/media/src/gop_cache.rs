//! GOP cache: the access units since the last key frame, from which a new decoder can start.

use crate::KeyframeGate;
use model::{Frame, MediaTime};

/// Bytes kept at most: ten seconds (the longest key frame interval that encoders use by default) at 6 Mbit/s.
pub const MAX_BYTES: usize = 8 << 20;
/// Frames kept at most, as each costs more than its bytes: ten seconds at 240 a second.
pub const MAX_FRAMES: usize = 2_400;

/// The frames of one video track since its last key frame.
#[derive(Debug, Default)]
pub struct GopCache {
    gate: KeyframeGate,
    frames: Vec<Frame>,
    bytes: usize,
}

impl GopCache {
    /// Adds a frame. A key frame replaces what is kept. Beyond the bounds the cache stays empty until the next key frame.
    pub fn push(&mut self, frame: &Frame) {
        if !self.gate.admits(frame.key) {
            return;
        }
        if frame.key {
            self.empty();
        }
        self.bytes += frame.data.len();
        if self.bytes > MAX_BYTES || self.frames.len() == MAX_FRAMES {
            self.clear();
            return;
        }
        self.frames.push(frame.clone());
    }

    /// Removes all frames. The cache begins again with the next key frame.
    pub fn clear(&mut self) {
        self.empty();
        self.gate.close();
    }

    fn empty(&mut self) {
        self.frames.clear();
        self.bytes = 0;
    }

    /// The frames in decoding order, the key frame first; empty if there are none to start from.
    pub fn frames(&self) -> &[Frame] {
        &self.frames
    }

    /// The latest presentation time; `None` if the cache is empty.
    pub fn latest(&self) -> Option<MediaTime> {
        self.frames.iter().map(|f| f.pts).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use model::Kind;

    fn frame(at: i64, key: bool, size: usize) -> Frame {
        let at = MediaTime::from_millis(at);
        Frame { kind: Kind::Video, pts: at, dts: at, key, data: Bytes::from(vec![0; size]) }
    }

    #[test]
    fn keeps_the_gop_within_bounds() {
        let mut gop = GopCache::default();
        gop.push(&frame(0, false, 10));
        assert!(gop.frames().is_empty(), "nothing can be decoded before a key frame");
        gop.push(&frame(40, true, 10));
        gop.push(&frame(80, false, 10));
        assert_eq!((gop.frames().len(), gop.latest()), (2, Some(MediaTime::from_millis(80))));
        gop.push(&frame(120, true, 10));
        assert_eq!(gop.frames().len(), 1);
        gop.push(&frame(160, false, MAX_BYTES));
        gop.push(&frame(200, false, 10));
        assert!(gop.frames().is_empty(), "too many bytes: empty until the next key frame");
        gop.push(&frame(240, true, 1));
        (1..MAX_FRAMES as i64).for_each(|n| gop.push(&frame(240 + n, false, 1)));
        assert_eq!(gop.frames().len(), MAX_FRAMES);
        gop.push(&frame(3_000, false, 1));
        assert!(gop.frames().is_empty(), "too many frames");
    }
}
