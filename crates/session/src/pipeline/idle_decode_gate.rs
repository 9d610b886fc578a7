//! Keeps the decoder idle while nobody watches: access units wait here instead, so that it can be brought up to date at once
//! when somebody does. Pure: access units and `now` go in, access units come out.

use media::RaslFilter;
use model::{Frame, MediaTime};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How long nobody must have watched. The SFU itself waits some seconds before it says that nobody does; this is for viewers who
/// come and go, and for a new codec configuration, whose pictures tell their size even if nobody watches.
const IDLE_AFTER: Duration = Duration::from_secs(2);
/// Access units that may wait. Decoding one of 720p takes 1.4 ms (measured), so that these are done in a tenth of a second; and
/// they are two seconds of 30 a second, the usual distance of key frames, so that mostly nothing is decoded at all. Of longer
/// GOPs the rest is decoded as ever, this much later.
const MAX_WAITING: usize = 64;
/// Bytes of the same: two seconds of 16 Mbit/s.
const MAX_WAITING_BYTES: usize = 4 << 20;
/// Access units and bytes that may wait for a new decoder that has to catch up: as many as the GOP cache keeps for it. They share
/// its bytes.
const BACKLOG: (usize, usize) = (media::GOP_MAX_FRAMES, media::GOP_MAX_BYTES);

/// See the [module](self).
#[derive(Debug, Default)]
pub(crate) struct IdleDecodeGate {
    waiting: VecDeque<Frame>,
    bytes: usize,
    /// When the last viewer went; `None` while there is one.
    unwatched_since: Option<Instant>,
    /// A decoder is being brought up to date.
    catching_up: bool,
    rasl: RaslFilter,
}

impl IdleDecodeGate {
    /// An access unit comes. What is to be decoded now is then to be taken with [`IdleDecodeGate::next`].
    pub(crate) fn push(&mut self, frame: Frame) {
        if frame.key {
            // Nobody needs what came before.
            self.clear();
        }
        self.bytes += frame.data.len();
        self.waiting.push_back(frame);
    }

    /// The next access unit to decode.
    pub(crate) fn next(&mut self, now: Instant) -> Option<Frame> {
        let full = self.waiting.len() > MAX_WAITING || self.bytes > MAX_WAITING_BYTES;
        if !full && self.idle(now) {
            return None;
        }
        loop {
            let frame = self.waiting.pop_front()?;
            self.catching_up &= !self.waiting.is_empty();
            self.bytes -= frame.data.len();
            if self.rasl.admits(frame.key, frame.pts) {
                return Some(frame);
            }
        }
    }

    /// An access unit was left out on its way to the decoder.
    pub(crate) fn missed(&mut self) {
        self.rasl.missed();
    }

    /// Whether what waits may also wait while the decoder's queue is full: only a new decoder may be behind.
    pub(crate) fn may_wait(&self) -> bool {
        self.catching_up && self.waiting.len() <= BACKLOG.0 && self.bytes <= BACKLOG.1
    }

    /// Whether access units wait until somebody watches.
    fn idle(&self, now: Instant) -> bool {
        self.unwatched_since.is_some_and(|since| now.saturating_duration_since(since) >= IDLE_AFTER)
    }

    /// Whether anybody watches. If that makes waiting access units due, gives the PTS of the newest of them.
    pub(crate) fn watched(&mut self, watched: bool, now: Instant) -> Option<MediaTime> {
        if !watched {
            self.unwatched_since.get_or_insert(now);
            return None;
        }
        self.unwatched_since = None;
        self.waiting.iter().map(|frame| frame.pts).max()
    }

    /// Starts over with these access units, all to be decoded by a new decoder if there are any. The gate opens again, as if a
    /// viewer had just left.
    pub(crate) fn restart(&mut self, frames: &[Frame], now: Instant) {
        self.clear();
        if !frames.is_empty() {
            // A new decoder has no gap.
            self.rasl = RaslFilter::default();
        }
        frames.iter().cloned().for_each(|frame| self.push(frame));
        self.catching_up = !frames.is_empty();
        self.unwatched_since = self.unwatched_since.map(|_| now);
    }

    fn clear(&mut self) {
        if !self.waiting.is_empty() {
            self.rasl.missed();
        }
        self.waiting.clear();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use media::GopCache;
    use model::Kind;

    fn frame(n: i64, key: bool) -> Frame {
        let at = MediaTime::from_millis(n * 40);
        Frame { kind: Kind::Video, pts: at, dts: at, key, data: Bytes::from(vec![0; 100]) }
    }

    /// Pushes access units and gives the numbers of those that are to be decoded.
    fn feed(gate: &mut IdleDecodeGate, numbers: std::ops::Range<i64>, keys: i64, now: Instant) -> Vec<i64> {
        let mut decoded = Vec::new();
        for n in numbers {
            gate.push(frame(n, n % keys == 0));
            decoded.extend(std::iter::from_fn(|| gate.next(now)).map(|f| f.pts.as_millis() / 40));
        }
        decoded
    }

    #[test]
    fn all_is_decoded_while_somebody_watches() {
        let (start, mut gate) = (Instant::now(), IdleDecodeGate::default());
        assert_eq!(feed(&mut gate, 0..5, 50, start), [0, 1, 2, 3, 4]);
        gate.watched(false, start);
        assert_eq!(feed(&mut gate, 5..7, 50, start + IDLE_AFTER / 2), [5, 6]);
        assert_eq!(gate.watched(true, start + IDLE_AFTER), None, "nothing has waited");
    }

    #[test]
    fn the_newest_gop_waits_while_idle() {
        let (start, mut gate) = (Instant::now(), IdleDecodeGate::default());
        feed(&mut gate, 0..10, 50, start);
        gate.watched(false, start);
        let later = start + IDLE_AFTER;
        assert_eq!(feed(&mut gate, 10..120, 50, later), [0i64; 0]);
        assert_eq!(gate.watched(true, later), Some(MediaTime::from_millis(119 * 40)));
        let woken: Vec<_> = std::iter::from_fn(|| gate.next(later)).collect();
        assert_eq!((woken.len(), woken[0].key), (20, true));
        assert_eq!(feed(&mut gate, 120..122, 50, later), [120, 121]);
    }

    #[test]
    fn what_the_decoder_has_is_not_decoded_again() {
        let (start, mut gate) = (Instant::now(), IdleDecodeGate::default());
        feed(&mut gate, 0..10, 50, start);
        gate.watched(false, start);
        let later = start + IDLE_AFTER;
        feed(&mut gate, 10..15, 50, later);
        gate.watched(true, later);
        assert_eq!(feed(&mut gate, 15..16, 50, later), [10, 11, 12, 13, 14, 15]);
    }

    #[test]
    fn what_waits_of_a_long_gop_is_bounded() {
        let (start, mut gate) = (Instant::now(), IdleDecodeGate::default());
        gate.watched(false, start);
        let later = start + IDLE_AFTER;
        let decoded = feed(&mut gate, 0..200, 1000, later);
        assert_eq!(decoded, (0..200 - MAX_WAITING as i64).collect::<Vec<_>>(), "in order, without a gap");
        gate.push(Frame { data: Bytes::from(vec![0; MAX_WAITING_BYTES]), ..frame(200, false) });
        assert_eq!(std::iter::from_fn(|| gate.next(later)).count(), MAX_WAITING);
    }

    #[test]
    fn a_new_decoder_starts_with_what_it_is_given() {
        let (start, mut gate) = (Instant::now(), IdleDecodeGate::default());
        gate.watched(false, start);
        let later = start + IDLE_AFTER;
        feed(&mut gate, 0..10, 50, later);
        gate.restart(&[frame(3, true), frame(4, false)], later);
        assert_eq!(feed(&mut gate, 5..6, 50, later), [3, 4, 5]);
        assert_eq!(feed(&mut gate, 6..8, 50, later + IDLE_AFTER), [0i64; 0]);
    }

    #[test]
    fn rasl_pictures_behind_a_gap_are_not_decoded() {
        let (start, mut gate) = (Instant::now(), IdleDecodeGate::default());
        // In decode order; the last two of a GOP's first three are shown before its key frame.
        let group = |gate: &mut IdleDecodeGate, at: i64, now| {
            let pictures = [(0, true), (-2, false), (-1, false), (3, false), (1, false), (2, false)];
            pictures.into_iter().for_each(|(n, key)| gate.push(frame(at + n, key)));
            std::iter::from_fn(|| gate.next(now)).map(|f| f.pts.as_millis() / 40 - at).collect::<Vec<_>>()
        };
        assert_eq!(group(&mut gate, 10, start), [0, -2, -1, 3, 1, 2]);
        assert_eq!(group(&mut gate, 16, start), [0, -2, -1, 3, 1, 2]);
        gate.missed();
        assert_eq!(group(&mut gate, 22, start), [0, 3, 1, 2]);
        gate.watched(false, start);
        let later = start + IDLE_AFTER;
        assert_eq!(group(&mut gate, 28, later), [0i64; 0]);
        gate.push(frame(34, true));
        gate.push(frame(33, false));
        gate.push(frame(35, false));
        gate.watched(true, later);
        let woken: Vec<_> = std::iter::from_fn(|| gate.next(later)).map(|f| f.pts.as_millis() / 40).collect();
        assert_eq!(woken, [34, 35], "the GOP before was not decoded");
        // A new decoder has no gap.
        gate.missed();
        gate.restart(&[frame(34, true), frame(33, false)], later);
        assert_eq!(std::iter::from_fn(|| gate.next(later)).count(), 2);
    }

    #[test]
    fn a_new_decoder_may_be_a_whole_gop_behind() {
        let mut gop = GopCache::default();
        (0..media::GOP_MAX_FRAMES as i64).for_each(|n| gop.push(&frame(n, n == 0)));
        let (now, mut gate) = (Instant::now(), IdleDecodeGate::default());
        gate.restart(gop.frames(), now);
        assert!(gate.may_wait(), "ten seconds at 240 a second");
        gate.push(frame(media::GOP_MAX_FRAMES as i64, false));
        assert!(!gate.may_wait());
        while gate.next(now).is_some() {}
        assert!(!gate.may_wait(), "it has caught up");
    }
}
