//! Decoding times for tracks that come without (Matroska, RTP): a session orders frames by them.
//!
//! They are the frames' own times in rising order, moved back until none is decoded after it is shown: a decoder lets a picture
//! out only when those that may have to be shown before it have come, and would be behind the sound otherwise. How far that is
//! is looked up in the frames ahead; live, where nothing can be waited for, it is learnt as they come.

use std::collections::VecDeque;

/// The deepest reordering that H.264 and HEVC allow (max_dec_frame_buffering, 16 pictures).
const DEPTH: usize = 16;

/// A coded frame as it leaves a demultiplexer; times in nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unit {
    pub(crate) pts: i64,
    pub(crate) dts: Option<i64>,
    pub(crate) key: bool,
    pub(crate) data: bytes::Bytes,
}

/// Fills decoding times in.
#[derive(Debug)]
pub(crate) struct Reorder {
    /// How many frames may be looked at ahead.
    depth: usize,
    window: VecDeque<Unit>,
    /// As many times as there are frames in the window, in rising order: those that are not given out as decoding times yet.
    rising: VecDeque<i64>,
    latest: Option<i64>,
    last: Option<i64>,
    back: i64,
}

impl Reorder {
    /// For pictures that are shown in another order than they come (`reorders`), of a source that must not wait (`live`).
    pub(crate) fn new(reorders: bool, live: bool) -> Self {
        let depth = if reorders && !live { DEPTH } else { 0 };
        Self { depth, window: VecDeque::new(), rising: VecDeque::new(), latest: None, last: None, back: 0 }
    }

    /// Takes a frame; gives those that are ready.
    pub(crate) fn push(&mut self, unit: Unit) -> Vec<Unit> {
        // One decoding time too many is right, one too few is not: a track that has them keeps its own.
        if unit.dts.is_some() && self.window.is_empty() {
            return vec![unit];
        }
        let place = self.rising.partition_point(|pts| *pts <= unit.pts);
        self.rising.insert(place, unit.pts);
        self.window.push_back(unit);
        let mut ready = Vec::new();
        while self.window.len() > self.depth {
            ready.extend(self.pop());
        }
        ready
    }

    /// What is left, at the end.
    pub(crate) fn flush(&mut self) -> Vec<Unit> {
        std::iter::from_fn(|| self.pop()).collect()
    }

    fn pop(&mut self) -> Option<Unit> {
        let moved = self.rising.iter().zip(&self.window).map(|(rising, unit)| rising - unit.pts).max().unwrap_or(0);
        let mut unit = self.window.pop_front()?;
        let first = self.rising.pop_front()?;
        let latest = self.latest.map_or(unit.pts, |l| l.max(unit.pts));
        self.latest = Some(latest);
        self.back = self.back.max(if self.depth == 0 { latest - unit.pts } else { moved });
        let dts = first - self.back;
        let dts = self.last.map_or(dts, |last| dts.max(last));
        self.last = Some(dts);
        unit.dts.get_or_insert(dts.min(unit.pts));
        Some(unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn unit(pts: i64) -> Unit {
        Unit { pts, dts: None, key: true, data: bytes::Bytes::new() }
    }

    fn run(reorder: &mut Reorder, pts: &[i64]) -> Vec<(i64, i64)> {
        let mut out: Vec<Unit> = pts.iter().flat_map(|p| reorder.push(unit(*p))).collect();
        out.extend(reorder.flush());
        out.into_iter().map(|u| (u.dts.unwrap(), u.pts)).collect()
    }

    #[test]
    fn pictures_that_are_reordered() {
        let out = run(&mut Reorder::new(true, false), &[0, 120, 40, 80, 240, 160, 200]);
        assert_eq!(out, [(-40, 0), (0, 120), (40, 40), (80, 80), (120, 240), (160, 160), (200, 200)]);
        assert_eq!(run(&mut Reorder::new(false, false), &[0, 40, 80]), [(0, 0), (40, 40), (80, 80)]);
        let live = run(&mut Reorder::new(true, true), &[0, 120, 40, 80, 240, 160]);
        assert!(live.iter().skip(3).all(|(dts, pts)| dts <= pts), "{live:?}");
    }

    proptest! {
        #[test]
        fn never_behind_its_own_time_and_never_back(seed in proptest::collection::vec(0usize..4, 1..100)) {
            // Groups of pictures of which the last is sent first.
            let (mut pts, mut at) = (Vec::new(), 0);
            for back in seed {
                pts.push(at + back as i64 * 40);
                pts.extend((0..back as i64).map(|i| at + i * 40));
                at += (back as i64 + 1) * 40;
            }
            let out = run(&mut Reorder::new(true, false), &pts);
            prop_assert_eq!(out.len(), pts.len());
            prop_assert!(out.iter().all(|(dts, pts)| dts <= pts));
            prop_assert!(out.windows(2).all(|w| w[0].0 <= w[1].0));
        }
    }
}
