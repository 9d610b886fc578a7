//! Lets the decoder rest while nobody watches: pictures wait here instead, so that it can be brought up to date at once when
//! somebody does. Pure: frames and `now` go in, frames come out.

use media::RaslFilter;
use model::{Frame, MediaTime};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How long nobody must have watched. The SFU itself waits some seconds before it says that nobody does; this is for viewers who
/// come and go, and for what a new configuration shows, which is worth a look even if nobody watches.
const REST_AFTER: Duration = Duration::from_secs(2);
/// Pictures that may wait. Decoding one of 720p takes 1.4 ms (measured), so that these are done in a tenth of a second; and they
/// are two seconds of 30 a second, the usual distance of key frames, so that mostly nothing is decoded at all. Of a longer
/// distance the rest is decoded as ever, this much later.
const PICTURES: usize = 64;
/// Bytes of the same: two seconds of 16 Mbit/s.
const BYTES: usize = 4 << 20;
/// Pictures and bytes that wait for a decoder that has much to catch up with: as many as are kept for it. They are the same bytes.
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
    leading: RaslFilter,
}

impl IdleDecodeGate {
    /// A picture comes; what is to be decoded now is then to be taken by [`IdleDecodeGate::next`].
    pub(crate) fn push(&mut self, frame: Frame) {
        if frame.key {
            // Nobody needs what was before.
            self.clear();
        }
        self.bytes += frame.data.len();
        self.waiting.push_back(frame);
    }

    /// The next picture to decode.
    pub(crate) fn next(&mut self, now: Instant) -> Option<Frame> {
        let full = self.waiting.len() > PICTURES || self.bytes > BYTES;
        if !full && self.dozes(now) {
            return None;
        }
        loop {
            let frame = self.waiting.pop_front()?;
            self.catching_up &= !self.waiting.is_empty();
            self.bytes -= frame.data.len();
            if self.leading.admits(frame.key, frame.pts) {
                return Some(frame);
            }
        }
    }

    /// A picture was left out on its way to the decoder.
    pub(crate) fn missed(&mut self) {
        self.leading.missed();
    }

    /// Whether what waits may wait for room, too: only a new decoder has an excuse to be behind.
    pub(crate) fn may_wait(&self) -> bool {
        self.catching_up && self.waiting.len() <= BACKLOG.0 && self.bytes <= BACKLOG.1
    }

    /// Whether pictures wait until somebody watches.
    pub(crate) fn dozes(&self, now: Instant) -> bool {
        self.unwatched_since.is_some_and(|since| now.saturating_duration_since(since) >= REST_AFTER)
    }

    /// Whether anybody watches. If that makes waiting pictures due, says when the newest of them is to be shown.
    pub(crate) fn watched(&mut self, watched: bool, now: Instant) -> Option<MediaTime> {
        if !watched {
            self.unwatched_since.get_or_insert(now);
            return None;
        }
        self.unwatched_since = None;
        self.waiting.iter().map(|frame| frame.pts).max()
    }

    /// Starts over with other pictures, all of which are yet to be decoded: by another decoder, if there are any. Whatever comes is
    /// worth a look at first.
    pub(crate) fn restart(&mut self, frames: &[Frame], now: Instant) {
        self.clear();
        if !frames.is_empty() {
            // A decoder knows itself what it begins with.
            self.leading = RaslFilter::default();
        }
        frames.iter().cloned().for_each(|frame| self.push(frame));
        self.catching_up = !frames.is_empty();
        self.unwatched_since = self.unwatched_since.map(|_| now);
    }

    fn clear(&mut self) {
        if !self.waiting.is_empty() {
            self.leading.missed();
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

    /// Feeds pictures and gives the numbers of those that are to be decoded.
    fn feed(doze: &mut IdleDecodeGate, numbers: std::ops::Range<i64>, keys: i64, now: Instant) -> Vec<i64> {
        let mut decoded = Vec::new();
        for n in numbers {
            doze.push(frame(n, n % keys == 0));
            decoded.extend(std::iter::from_fn(|| doze.next(now)).map(|f| f.pts.as_millis() / 40));
        }
        decoded
    }

    #[test]
    fn all_is_decoded_while_somebody_watches_and_a_little_longer() {
        let (start, mut doze) = (Instant::now(), IdleDecodeGate::default());
        assert_eq!(feed(&mut doze, 0..5, 50, start), [0, 1, 2, 3, 4]);
        doze.watched(false, start);
        assert_eq!(feed(&mut doze, 5..7, 50, start + REST_AFTER / 2), [5, 6]);
        assert_eq!(doze.watched(true, start + REST_AFTER), None, "nothing has waited");
    }

    #[test]
    fn what_is_needed_waits_from_the_newest_key_frame_on() {
        let (start, mut doze) = (Instant::now(), IdleDecodeGate::default());
        feed(&mut doze, 0..10, 50, start);
        doze.watched(false, start);
        let later = start + REST_AFTER;
        assert_eq!(feed(&mut doze, 10..120, 50, later), [0i64; 0]);
        assert_eq!(doze.watched(true, later), Some(MediaTime::from_millis(119 * 40)));
        let woken: Vec<_> = std::iter::from_fn(|| doze.next(later)).collect();
        assert_eq!((woken.len(), woken[0].key), (20, true));
        assert_eq!(feed(&mut doze, 120..122, 50, later), [120, 121]);
    }

    #[test]
    fn what_the_decoder_has_is_not_decoded_again() {
        let (start, mut doze) = (Instant::now(), IdleDecodeGate::default());
        feed(&mut doze, 0..10, 50, start);
        doze.watched(false, start);
        let later = start + REST_AFTER;
        feed(&mut doze, 10..15, 50, later);
        doze.watched(true, later);
        assert_eq!(feed(&mut doze, 15..16, 50, later), [10, 11, 12, 13, 14, 15]);
    }

    #[test]
    fn of_a_long_way_to_the_key_frame_no_more_than_a_bound_waits() {
        let (start, mut doze) = (Instant::now(), IdleDecodeGate::default());
        doze.watched(false, start);
        let later = start + REST_AFTER;
        let decoded = feed(&mut doze, 0..200, 1000, later);
        assert_eq!(decoded, (0..200 - PICTURES as i64).collect::<Vec<_>>(), "in order, without a gap");
        doze.push(Frame { data: Bytes::from(vec![0; BYTES]), ..frame(200, false) });
        assert_eq!(std::iter::from_fn(|| doze.next(later)).count(), PICTURES);
    }

    #[test]
    fn another_decoder_starts_with_what_it_is_given_and_shows_its_format() {
        let (start, mut doze) = (Instant::now(), IdleDecodeGate::default());
        doze.watched(false, start);
        let later = start + REST_AFTER;
        feed(&mut doze, 0..10, 50, later);
        doze.restart(&[frame(3, true), frame(4, false)], later);
        assert_eq!(feed(&mut doze, 5..6, 50, later), [3, 4, 5]);
        assert_eq!(feed(&mut doze, 6..8, 50, later + REST_AFTER), [0i64; 0]);
    }

    #[test]
    fn what_leads_a_key_picture_behind_a_gap_is_not_decoded() {
        let (start, mut doze) = (Instant::now(), IdleDecodeGate::default());
        // Sent in this order; the last two of a group's first three are shown before its key picture.
        let group = |doze: &mut IdleDecodeGate, at: i64, now| {
            let pictures = [(0, true), (-2, false), (-1, false), (3, false), (1, false), (2, false)];
            pictures.into_iter().for_each(|(n, key)| doze.push(frame(at + n, key)));
            std::iter::from_fn(|| doze.next(now)).map(|f| f.pts.as_millis() / 40 - at).collect::<Vec<_>>()
        };
        assert_eq!(group(&mut doze, 10, start), [0, -2, -1, 3, 1, 2]);
        assert_eq!(group(&mut doze, 16, start), [0, -2, -1, 3, 1, 2]);
        doze.missed();
        assert_eq!(group(&mut doze, 22, start), [0, 3, 1, 2]);
        doze.watched(false, start);
        let later = start + REST_AFTER;
        assert_eq!(group(&mut doze, 28, later), [0i64; 0]);
        doze.push(frame(34, true));
        doze.push(frame(33, false));
        doze.push(frame(35, false));
        doze.watched(true, later);
        let woken: Vec<_> = std::iter::from_fn(|| doze.next(later)).map(|f| f.pts.as_millis() / 40).collect();
        assert_eq!(woken, [34, 35], "the group before was not decoded");
        // Another decoder finds out for itself.
        doze.missed();
        doze.restart(&[frame(34, true), frame(33, false)], later);
        assert_eq!(std::iter::from_fn(|| doze.next(later)).count(), 2);
    }

    #[test]
    fn as_much_waits_for_a_new_decoder_as_is_kept_for_it() {
        let mut gop = GopCache::default();
        (0..media::GOP_MAX_FRAMES as i64).for_each(|n| gop.push(&frame(n, n == 0)));
        let (now, mut doze) = (Instant::now(), IdleDecodeGate::default());
        doze.restart(gop.frames(), now);
        assert!(doze.may_wait(), "ten seconds at 240 a second");
        doze.push(frame(media::GOP_MAX_FRAMES as i64, false));
        assert!(!doze.may_wait());
        while doze.next(now).is_some() {}
        assert!(!doze.may_wait(), "it has caught up");
    }
}
