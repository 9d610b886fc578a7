//! Fills in decoding times (DTS) for tracks that come without them (Matroska, RTP): a session orders frames by DTS.
//!
//! They are the frames' PTS in rising order, moved back until no frame is decoded after it is shown: a decoder lets a picture out only
//! when all have come that may have to be shown before it, and would lag behind the audio otherwise. How far back is found by looking
//! ahead. Live, where nothing may wait, the depth of reordering is learnt as frames come: a frame's DTS is the PTS that lies as many
//! places before the latest. So DTS rise as evenly as frames come.
//!
//! **May assume** of the demultiplexer: frames come in decoding order, with right PTS; DTS may be absent.

use std::collections::VecDeque;

/// The deepest reordering that H.264 and HEVC allow (max_dec_frame_buffering, 16 frames).
const MAX_DEPTH: usize = 16;

/// Frames farther apart than this (nanoseconds) are on different timelines: no encoder reorders over a second.
const OTHER_TIMELINE: u64 = 1_000_000_000;

/// What is ordered, with the times of a frame as it left the demultiplexer, in nanoseconds.
#[derive(Debug)]
struct Waiting<T> {
    pts: i64,
    dts: Option<i64>,
    item: T,
}

/// Gives each frame its DTS. Frames leave in the order they came.
#[derive(Debug)]
pub struct DecodeOrder<T> {
    /// How many frames may be looked at ahead.
    depth: usize,
    window: VecDeque<Waiting<T>>,
    /// As many PTS as there are frames in the window, rising: those not given out as DTS yet.
    rising: VecDeque<i64>,
    /// The highest PTS so far.
    latest: Option<i64>,
    /// The last DTS given out.
    last: Option<i64>,
    /// How far PTS are moved back to become DTS.
    back: i64,
    /// In place of all this for live sources.
    live: Option<LiveOrder>,
}

/// Learns how deep a live source reorders, and gives DTS by that.
#[derive(Debug)]
struct LiveOrder {
    max_depth: usize,
    /// The most frames that were sent ahead of one that is shown before them.
    depth: usize,
    /// The latest PTS, rising: one more than `depth`.
    latest: Vec<i64>,
}

impl LiveOrder {
    fn dts(&mut self, pts: i64) -> i64 {
        if self.latest.last().is_some_and(|latest| latest.abs_diff(pts) > OTHER_TIMELINE) {
            self.latest.clear();
        }
        let index = self.latest.partition_point(|t| *t <= pts);
        self.depth = self.depth.max(self.latest.len() - index).min(self.max_depth);
        self.latest.insert(index, pts);
        self.latest.drain(..self.latest.len().saturating_sub(self.depth + 1));
        self.latest.first().map_or(pts, |first| pts.min(*first))
    }
}

impl<T> DecodeOrder<T> {
    /// For a track whose frames may be `reordered`, of a source that is `live` and so must not wait.
    pub fn new(reordered: bool, live: bool) -> Self {
        let max_depth = if reordered { MAX_DEPTH } else { 0 };
        let depth = if live { 0 } else { max_depth };
        let live = live.then(|| LiveOrder { max_depth, depth: 0, latest: Vec::new() });
        Self { depth, window: VecDeque::new(), rising: VecDeque::new(), latest: None, last: None, back: 0, live }
    }

    /// Takes a frame with its times in nanoseconds; gives those that are ready, each with its DTS.
    pub fn push(&mut self, pts: i64, dts: Option<i64>, item: T) -> Vec<(i64, T)> {
        // One DTS too many does no harm, one too few does: a track that has DTS keeps them.
        if let Some(dts) = dts.filter(|_| self.window.is_empty()) {
            return vec![(dts, item)];
        }
        if let Some(live) = &mut self.live {
            return vec![(live.dts(pts), item)];
        }
        let index = self.rising.partition_point(|rising| *rising <= pts);
        self.rising.insert(index, pts);
        self.window.push_back(Waiting { pts, dts, item });
        let mut ready = Vec::new();
        while self.window.len() > self.depth {
            ready.extend(self.pop());
        }
        ready
    }

    /// What is left, at the end.
    pub fn flush(&mut self) -> Vec<(i64, T)> {
        std::iter::from_fn(|| self.pop()).collect()
    }

    fn pop(&mut self) -> Option<(i64, T)> {
        let moved = self.rising.iter().zip(&self.window).map(|(rising, frame)| rising - frame.pts).max().unwrap_or(0);
        let Waiting { pts, dts: own, item } = self.window.pop_front()?;
        let first = self.rising.pop_front()?;
        let latest = self.latest.map_or(pts, |latest| latest.max(pts));
        self.latest = Some(latest);
        self.back = self.back.max(if self.depth == 0 { latest - pts } else { moved });
        let dts = first - self.back;
        let dts = self.last.map_or(dts, |last| dts.max(last));
        self.last = Some(dts);
        Some((own.unwrap_or(dts.min(pts)), item))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Gives (DTS, PTS) of frames that come with these PTS.
    fn run(order: &mut DecodeOrder<i64>, pts: &[i64]) -> Vec<(i64, i64)> {
        let mut out: Vec<_> = pts.iter().flat_map(|pts| order.push(*pts, None, *pts)).collect();
        out.extend(order.flush());
        out
    }

    #[test]
    fn reordered_frames_get_dts_before_their_pts() {
        let out = run(&mut DecodeOrder::new(true, false), &[0, 120, 40, 80, 240, 160, 200]);
        assert_eq!(out, [(-40, 0), (0, 120), (40, 40), (80, 80), (120, 240), (160, 160), (200, 200)]);
        assert_eq!(run(&mut DecodeOrder::new(false, false), &[0, 40, 80]), [(0, 0), (40, 40), (80, 80)]);
    }

    /// The DTS of live frames with these PTS, all in frame intervals.
    fn live(pts: impl IntoIterator<Item = i64>) -> Vec<i64> {
        let mut order = DecodeOrder::new(true, true);
        let decoded = |pts: i64| {
            let pts = pts * 33_333_333;
            let out = order.push(pts, None, ());
            assert!(out.len() == 1 && out[0].0 <= pts, "nothing waits");
            out[0].0 / 33_333_333
        };
        pts.into_iter().map(decoded).collect()
    }

    #[test]
    fn live_dts_rise_as_evenly_as_frames_come() {
        // Two B-frames in a row; then a B-pyramid.
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
    fn frames_that_are_never_reordered_keep_their_pts() {
        let mut order = DecodeOrder::new(false, true);
        assert_eq!(run(&mut order, &[0, 40, 39, 80]), [(0, 0), (40, 40), (39, 39), (80, 80)]);
    }

    proptest! {
        #[test]
        fn dts_never_fall_and_never_pass_their_pts(seed in proptest::collection::vec(0usize..4, 1..100)) {
            // Groups of frames of which the last is sent first.
            let (mut pts, mut at) = (Vec::new(), 0);
            for back in seed {
                pts.push(at + back as i64 * 40);
                pts.extend((0..back as i64).map(|i| at + i * 40));
                at += (back as i64 + 1) * 40;
            }
            let out = run(&mut DecodeOrder::new(true, false), &pts);
            prop_assert_eq!(out.len(), pts.len());
            prop_assert!(out.iter().all(|(dts, pts)| dts <= pts));
            prop_assert!(out.windows(2).all(|w| w[0].0 <= w[1].0));
        }
    }
}
