//! Decoding times for tracks that come without (Matroska, RTP): a session orders frames by them.
//!
//! They are the frames' own times in rising order, moved back until none is decoded after it is shown: a decoder lets a picture
//! out only when those that may have to be shown before it have come, and would be behind the sound otherwise. How far that is
//! is looked up in the frames ahead. Live, where nothing can be waited for, it is learnt as they come how many frames are sent ahead
//! of others, and a frame's decoding time is the time of the one that lies so many places before the latest: then these go on as
//! evenly as frames come.

use std::collections::VecDeque;

/// The deepest reordering that H.264 and HEVC allow (max_dec_frame_buffering, 16 pictures).
const DEPTH: usize = 16;

/// Farther apart than this are frames of which one belongs to another timeline: no encoder reorders over a second.
const JUMP: u64 = 1_000_000_000;

/// A coded frame as it leaves a demultiplexer; times in nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// When it is to be shown, in nanoseconds.
    pub pts: i64,
    /// When it is to be decoded, in nanoseconds; `None` where the container does not say.
    pub dts: Option<i64>,
    /// Whether decoding can start here.
    pub key: bool,
    /// The access unit.
    pub data: bytes::Bytes,
}

/// Fills decoding times in.
#[derive(Debug)]
pub struct Reorder {
    /// How many frames may be looked at ahead.
    depth: usize,
    window: VecDeque<Unit>,
    /// As many times as there are frames in the window, in rising order: those that are not given out as decoding times yet.
    rising: VecDeque<i64>,
    latest: Option<i64>,
    last: Option<i64>,
    back: i64,
    /// In the place of all this for what comes live.
    live: Option<Live>,
}

/// Learns how many frames are sent ahead of others, and says decoding times by it.
#[derive(Debug)]
struct Live {
    most: usize,
    /// How many frames were sent ahead of one.
    ahead: usize,
    /// The latest times, rising: one more than `ahead`.
    latest: Vec<i64>,
}

impl Live {
    fn decoded(&mut self, pts: i64) -> i64 {
        if self.latest.last().is_some_and(|latest| latest.abs_diff(pts) > JUMP) {
            self.latest.clear();
        }
        let place = self.latest.partition_point(|t| *t <= pts);
        self.ahead = self.ahead.max(self.latest.len() - place).min(self.most);
        self.latest.insert(place, pts);
        self.latest.drain(..self.latest.len().saturating_sub(self.ahead + 1));
        self.latest.first().map_or(pts, |first| pts.min(*first))
    }
}

impl Reorder {
    /// For pictures that are shown in another order than they come (`reorders`), of a source that must not wait (`live`).
    pub fn new(reorders: bool, live: bool) -> Self {
        let most = if reorders { DEPTH } else { 0 };
        let depth = if live { 0 } else { most };
        let live = live.then(|| Live { most, ahead: 0, latest: Vec::new() });
        Self { depth, window: VecDeque::new(), rising: VecDeque::new(), latest: None, last: None, back: 0, live }
    }

    /// Takes a frame; gives those that are ready.
    pub fn push(&mut self, mut unit: Unit) -> Vec<Unit> {
        // One decoding time too many is right, one too few is not: a track that has them keeps its own.
        if unit.dts.is_some() && self.window.is_empty() {
            return vec![unit];
        }
        if let Some(live) = &mut self.live {
            unit.dts = Some(live.decoded(unit.pts));
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
    pub fn flush(&mut self) -> Vec<Unit> {
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
    }

    /// What comes live, in units of a frame's time.
    fn live(pts: impl IntoIterator<Item = i64>) -> Vec<i64> {
        let mut reorder = Reorder::new(true, true);
        let decoded = |pts: i64| {
            let out = reorder.push(unit(pts * 33_333_333));
            assert!(out.len() == 1 && out[0].dts.unwrap() <= out[0].pts, "nothing waits");
            out[0].dts.unwrap() / 33_333_333
        };
        pts.into_iter().map(decoded).collect()
    }

    #[test]
    fn what_comes_live_is_decoded_as_evenly_as_it_comes() {
        // Two frames between others; then a pyramid.
        let two = [0].into_iter().chain((0..20).flat_map(|i| [3, 1, 2].map(|n| i * 3 + n)));
        let pyramid = (0..20).flat_map(|i| [4, 2, 1, 3].map(|n| 60 + i * 4 + n));
        let decoded = live(two.chain(pyramid));
        assert_eq!(decoded[..6], [0, 3, 1, 2, 3, 4], "the first is learnt from");
        assert_eq!(decoded[4..61], (3..60).collect::<Vec<_>>());
        assert!(decoded[65..].windows(2).all(|w| w[1] == w[0] + 1), "{decoded:?}");
        assert_eq!(live(0..50), (0..50).collect::<Vec<_>>());
        // Another timeline, in either direction, begins as it is.
        let again = live([0, 3, 1, 2, 6, 4, 5, 900, 903, 901, 902, 9, 12, 10, 11]);
        assert_eq!(again[7..], [900, 900, 901, 902, 9, 9, 10, 11]);
    }

    #[test]
    fn sound_and_pictures_that_are_never_reordered_keep_their_times() {
        let mut reorder = Reorder::new(false, true);
        assert_eq!(run(&mut reorder, &[0, 40, 39, 80]), [(0, 0), (40, 40), (39, 39), (80, 80)]);
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
