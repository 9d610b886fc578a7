//! The compressed pictures since the last key frame: what a decoder needs to be brought up to date.

use crate::KeyframeGate;
use model::{Frame, MediaTime};

/// At the most this many bytes are kept: ten seconds (the longest key frame distance encoders use by default) at 6 Mbit/s.
pub const MAX_BYTES: usize = 8 << 20;
/// And this many pictures, as each costs more than its bytes: ten seconds at 240 a second.
pub const MAX_FRAMES: usize = 2_400;

/// See the [module](self).
#[derive(Debug, Default)]
pub struct GopCache {
    gate: KeyframeGate,
    frames: Vec<Frame>,
    bytes: usize,
}

impl GopCache {
    /// Adds a picture. Starts anew at a key frame; gives up until the next where too much has come since the last.
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

    /// Forgets all; begins again with the next key frame.
    pub fn clear(&mut self) {
        self.empty();
        self.gate.close();
    }

    fn empty(&mut self) {
        self.frames.clear();
        self.bytes = 0;
    }

    /// The pictures, the key frame first.
    pub fn frames(&self) -> &[Frame] {
        &self.frames
    }

    /// When the newest is to be shown; `None` if there are none.
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
    fn keeps_what_is_needed_and_no_more() {
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
        assert!(gop.frames().is_empty(), "too much: of no use until the next key frame");
        gop.push(&frame(240, true, 1));
        (1..MAX_FRAMES as i64).for_each(|n| gop.push(&frame(240 + n, false, 1)));
        assert_eq!(gop.frames().len(), MAX_FRAMES);
        gop.push(&frame(3_000, false, 1));
        assert!(gop.frames().is_empty(), "too many small ones");
    }
}
