//! Paces audio: evens out when its packets leave.
//!
//! Encoders hand audio over in clumps (with each picture, or whenever two frames are full), and its packets are cut again on the way. A
//! viewer's jitter buffer answers 40 ms of that with 100 ms and more of delay (measured with libwebrtc's), and video waits as long to
//! stay aligned. So each packet is held until nearly all would have come, which takes no longer than the clumps are long, and leaves
//! when it is due.
//!
//! **May assume** of [`crate::ingest_clock`]: each packet comes with the wall-clock time of its audio, on one even clock; packets come in
//! order, in clumps and late.

use crate::av_alignment::MAX_PACING;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Packets whose lateness is remembered: five seconds of 20 ms, several turns of anything that repeats in an encoder.
const WINDOW: usize = 250;
/// Of these, this many may come too late. A jitter buffer looks at the 95th percentile, so a few do not move it.
const OUTLIERS: usize = 8;
/// How long the first packet is held, in nanoseconds, before anything is known: audio cut from frames of 21 ms into packets of 20 ms.
const FIRST_HOLD: i64 = 20_000_000;
/// How much shorter each packet may be held than the one before, in nanoseconds. A jump would look like jitter.
const MAX_SHRINK: i64 = 500_000;
/// How long after its last packet audio counts as going on. An encoder that saves silence sends one every 400 ms (RFC 6716 §2.1.9 and
/// libopus); audio that has ended is not waited for.
const AUDIO_ENDS_AFTER: Duration = Duration::from_secs(2);
/// Items that may wait: what fits into [`MAX_PACING`] of the shortest packets (2.5 ms), rounded up; three layers of 120 pictures a
/// second are as many. One more than that leaves at once.
pub(crate) const MAX_QUEUED: usize = 32;

/// See the [module](self).
#[derive(Debug)]
pub struct AudioPacer<T> {
    /// With the time at which each is due.
    waiting: VecDeque<(Instant, T)>,
    /// How long after its time each of the last packets came, in nanoseconds.
    late: VecDeque<i64>,
    /// How long after its time a packet leaves now.
    hold: Option<i64>,
    /// When the newest packet came.
    newest: Option<Instant>,
}

impl<T> Default for AudioPacer<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> AudioPacer<T> {
    /// Nothing waits.
    pub fn new() -> Self {
        Self { waiting: VecDeque::new(), late: VecDeque::with_capacity(WINDOW), hold: None, newest: None }
    }

    /// A packet came at `now` whose audio belongs to `at`.
    pub fn push(&mut self, at: Instant, now: Instant, packet: T) {
        let late = nanos(at, now);
        self.newest = Some(now);
        if self.late.len() == WINDOW {
            self.late.pop_front();
        }
        self.late.push_back(late);
        let wanted = self.wanted();
        let hold = match self.hold {
            None => late + FIRST_HOLD,
            Some(before) => wanted.max(before - MAX_SHRINK).min(self.least() + MAX_PACING),
        };
        self.hold = Some(hold);
        let due = now + Duration::from_nanos(u64::try_from(hold - late).unwrap_or(0));
        // Order is kept.
        let due = self.waiting.back().map_or(due, |(before, _)| due.max(*before));
        self.waiting.push_back((due, packet));
    }

    /// How long after its time audio leaves, in nanoseconds; `None` while there is no audio.
    pub fn hold(&self, now: Instant) -> Option<i64> {
        let goes_on = |newest: Instant| now.saturating_duration_since(newest) <= AUDIO_ENDS_AFTER;
        self.hold.filter(|_| self.newest.is_some_and(goes_on))
    }

    /// The next packet that is due.
    pub fn pop(&mut self, now: Instant) -> Option<T> {
        let full = self.waiting.len() > MAX_QUEUED;
        let due = self.waiting.front().is_some_and(|(due, _)| full || *due <= now);
        if due { self.waiting.pop_front().map(|(_, packet)| packet) } else { None }
    }

    /// When [`AudioPacer::pop`] will have something.
    pub fn deadline(&self) -> Option<Instant> {
        self.waiting.front().map(|(due, _)| *due)
    }

    /// The hold with which nearly all packets are in time. Packets that no hold could help are behind a stall, not in a clump.
    fn wanted(&self) -> i64 {
        let stalled = self.least() + 2 * MAX_PACING;
        let mut late: Vec<i64> = self.late.iter().copied().filter(|late| *late <= stalled).collect();
        let index = late.len().saturating_sub(1 + OUTLIERS.min(self.late.len() / 30));
        *late.select_nth_unstable(index).1
    }

    fn least(&self) -> i64 {
        self.late.iter().copied().min().unwrap_or(0)
    }
}

/// From `at` to `now` in nanoseconds, negative if `at` lies ahead.
pub(crate) fn nanos(at: Instant, now: Instant) -> i64 {
    let ns = |d: Duration| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX / 4);
    if now >= at { ns(now - at) } else { -ns(at - now) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PACKET: Duration = Duration::from_millis(20);

    /// Lets packets come, each so long after its time; gives how long after it each left. All in ms, on a clock that ticks in ms.
    fn run(late: &[u64]) -> Vec<u64> {
        let start = Instant::now();
        let mut pacer = AudioPacer::new();
        let mut out = vec![0; late.len()];
        let mut coming: Vec<(Duration, usize)> =
            late.iter().enumerate().map(|(i, ms)| (PACKET * i as u32 + Duration::from_millis(*ms), i)).collect();
        coming.sort();
        let mut coming = coming.into_iter().peekable();
        let mut tick = Duration::ZERO;
        while coming.peek().is_some() || pacer.deadline().is_some() {
            while let Some((_, i)) = coming.next_if(|(when, _)| *when <= tick) {
                pacer.push(start + PACKET * i as u32, start + tick, i);
            }
            while let Some(i) = pacer.pop(start + tick) {
                out[i] = (tick - PACKET * i as u32).as_millis() as u64;
            }
            tick += Duration::from_millis(1);
        }
        out
    }

    fn spread(out: &[u64]) -> u64 {
        out.iter().max().unwrap() - out.iter().min().unwrap()
    }

    #[test]
    fn clumps_leave_evenly_and_no_later_than_their_last() {
        // AAC frames of 21.3 ms, handed over with each picture of 30 a second, cut into packets of 20 ms.
        let late: Vec<u64> = (1..=500u64)
            .map(|i| {
                let whole = (i * 960).div_ceil(1024) * 1024;
                let with_picture = (whole * 30).div_ceil(48_000) * 48_000 / 30;
                (with_picture - (i - 1) * 960) / 48
            })
            .collect();
        assert!(spread(&late[100..]) > 30, "{late:?}");
        let out = run(&late);
        assert!(spread(&out[60..]) <= 2, "{:?}", &out[60..]);
        assert!(out.iter().max().unwrap() <= &(late.iter().max().unwrap() + 1));
    }

    #[test]
    fn even_audio_is_held_for_the_first_second_only() {
        let out = run(&[30; 200]);
        assert_eq!(out[0], 50);
        assert_eq!(out[199], 30);
        assert!(out.windows(2).all(|w| w[0] - w[1] <= 1), "{out:?}");
    }

    #[test]
    fn a_stall_delays_nothing_after_it() {
        let mut late = vec![30; 600];
        for (i, ms) in late.iter_mut().enumerate().skip(300).take(20) {
            *ms = 30 + (320 - i as u64) * 20;
        }
        let out = run(&late);
        let after: Vec<u64> = out[321..].to_vec();
        assert!(after.iter().all(|ms| *ms <= 30 + 60 + 1), "{after:?}");
        assert_eq!(out[399], 30, "{after:?}");
    }

    #[test]
    fn a_burst_ahead_of_its_time_is_not_hoarded() {
        let (now, mut pacer) = (Instant::now(), AudioPacer::new());
        for i in 0..200u32 {
            pacer.push(now + PACKET * i, now, i);
            while pacer.pop(now).is_some() {}
            assert!(pacer.waiting.len() <= MAX_QUEUED);
            assert!(pacer.deadline().is_none_or(|d| d <= now + Duration::from_millis(60)));
        }
    }

    #[test]
    fn ended_audio_holds_nothing_back() {
        let (start, mut pacer) = (Instant::now(), AudioPacer::new());
        assert_eq!(pacer.hold(start), None);
        for i in 0..50 {
            pacer.push(start + PACKET * i, start + PACKET * (i + 2), ());
        }
        let last = start + PACKET * 51;
        assert!(pacer.hold(last + Duration::from_millis(400)).is_some(), "silence is audio, too");
        assert_eq!(pacer.hold(last + Duration::from_secs(3)), None);
        pacer.push(last + Duration::from_secs(4), last + Duration::from_secs(4), ());
        assert!(pacer.hold(last + Duration::from_secs(4)).is_some());
    }

    proptest! {
        #[test]
        fn all_leave_in_order_within_the_bound(late in proptest::collection::vec(0u64..120, 1..300)) {
            // In order, as they come from a queue.
            let mut at = 0;
            let late: Vec<u64> = late.iter().enumerate().map(|(i, ms)| {
                at = at.max(i as u64 * 20 + ms);
                at - i as u64 * 20
            }).collect();
            let out = run(&late);
            for (i, (came, left)) in late.iter().zip(&out).enumerate() {
                prop_assert!(left >= came && *left <= came + 61, "{i}: {came} {left}");
            }
            let times: Vec<u64> = out.iter().enumerate().map(|(i, ms)| i as u64 * 20 + ms).collect();
            prop_assert!(times.is_sorted());
        }
    }
}
