//! Evens out when packets of sound leave, and lets pictures leave beside them. Pure: packets and `now` go in, packets come out.
//!
//! Encoders hand sound over in clumps (beside each picture, or whenever two frames are full), and its packets are cut anew on
//! the way. A viewer's jitter buffer answers 40 ms of that with 100 ms and more of delay (measured with libwebrtc's), and since
//! lips have to match, the picture waits as long. So each packet is held until most would have come, which takes as little as
//! the clumps are long, and then goes out when it is due.
//!
//! A picture is there 20 ms and more before the sound of the same moment, which first has to fill a packet. A viewer leaves the
//! two up to 30 ms apart (libwebrtc's `kMinDeltaMs`), and shows what it has: measured, sound 41 ms after the picture where both
//! leave as they come, and 15 ms where both leave together, at 11 ms more of delay.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Packets whose lateness is remembered: five seconds of 20 ms, several turns of anything that repeats in an encoder.
const WINDOW: usize = 250;
/// Of these, this many may come too late. A jitter buffer looks at the 95th percentile, so a few leave it alone.
const OUTLIERS: usize = 8;
/// The longest that a packet is held. More than one picture of 25 a second (with which encoders hand sound over) and one
/// packet; what is less even than this costs less in the viewer's buffer than here.
const MOST: i64 = 60_000_000;
/// What is assumed before it is known: sound cut from frames of 21 ms into packets of 20 ms.
const AT_FIRST: i64 = 20_000_000;
/// How much shorter each packet may be held than the one before. A jump would look like jitter.
const SLEW: i64 = 500_000;
/// How long after its last packet sound counts as going on. An encoder that saves silence sends one every 400 ms (RFC 6716
/// §2.1.9 and libopus); of sound that has ended nothing is to be waited for.
const GOES_ON: Duration = Duration::from_secs(2);
/// Packets that may wait: what fits into [`MOST`] of the shortest packets (2.5 ms), rounded up; three layers of 120 pictures a
/// second are as many.
const WAITING: usize = 32;

/// See the [module](self).
#[derive(Debug)]
pub struct Steady<T> {
    waiting: VecDeque<(Instant, T)>,
    /// How long after the point in time that it belongs to each of the last packets came, in nanoseconds.
    late: VecDeque<i64>,
    /// The same for packets as they are let out.
    hold: Option<i64>,
    /// When the newest packet came.
    newest: Option<Instant>,
}

impl<T> Steady<T> {
    /// Nothing waits.
    pub fn new() -> Self {
        Self { waiting: VecDeque::new(), late: VecDeque::with_capacity(WINDOW), hold: None, newest: None }
    }

    /// A packet comes at `now` whose sound belongs to `at`.
    pub fn push(&mut self, at: Instant, now: Instant, packet: T) {
        let late = nanos(at, now);
        self.newest = Some(now);
        if self.late.len() == WINDOW {
            self.late.pop_front();
        }
        self.late.push_back(late);
        let wanted = self.wanted();
        let hold = match self.hold {
            None => late + AT_FIRST,
            Some(before) => wanted.max(before - SLEW).min(self.least() + MOST),
        };
        self.hold = Some(hold);
        let due = now + Duration::from_nanos(u64::try_from(hold - late).unwrap_or(0));
        // In the order they came.
        let due = self.waiting.back().map_or(due, |(before, _)| due.max(*before));
        self.waiting.push_back((due, packet));
    }

    /// How long after its point in time sound leaves, in nanoseconds; `None` while there is none.
    pub fn hold(&self, now: Instant) -> Option<i64> {
        let goes_on = |newest: Instant| now.saturating_duration_since(newest) <= GOES_ON;
        self.hold.filter(|_| self.newest.is_some_and(goes_on))
    }

    /// The next packet that is due.
    pub fn pop(&mut self, now: Instant) -> Option<T> {
        let full = self.waiting.len() > WAITING;
        let due = self.waiting.front().is_some_and(|(due, _)| full || *due <= now);
        if due { self.waiting.pop_front().map(|(_, packet)| packet) } else { None }
    }

    /// When [`Steady::pop`] will have something.
    pub fn deadline(&self) -> Option<Instant> {
        self.waiting.front().map(|(due, _)| *due)
    }

    /// How late packets may be for nearly all to be in time. Those that no hold could help are behind a stall, not in a clump.
    fn wanted(&self) -> i64 {
        let stalled = self.least() + 2 * MOST;
        let mut late: Vec<i64> = self.late.iter().copied().filter(|late| *late <= stalled).collect();
        let index = late.len().saturating_sub(1 + OUTLIERS.min(self.late.len() / 30));
        *late.select_nth_unstable(index).1
    }

    fn least(&self) -> i64 {
        self.late.iter().copied().min().unwrap_or(0)
    }
}

/// Pictures that leave together with the sound of their moment.
#[derive(Debug)]
pub struct Beside<T> {
    waiting: VecDeque<(Instant, T)>,
}

impl<T> Beside<T> {
    /// Nothing waits.
    pub fn new() -> Self {
        Self { waiting: VecDeque::new() }
    }

    /// A picture comes at `now` that is to be shown at `at`; sound leaves `hold` after its time, if there is any. Where sound
    /// is much later than pictures it is left to the viewer how long these wait.
    pub fn push(&mut self, at: Instant, hold: Option<i64>, now: Instant, picture: T) {
        let wait = hold.map_or(0, |hold| (hold - nanos(at, now)).clamp(0, MOST));
        let due = now + Duration::from_nanos(wait.unsigned_abs());
        let due = self.waiting.back().map_or(due, |(before, _)| due.max(*before));
        self.waiting.push_back((due, picture));
    }

    /// The next picture that is due.
    pub fn pop(&mut self, now: Instant) -> Option<T> {
        let full = self.waiting.len() > WAITING;
        let due = self.waiting.front().is_some_and(|(due, _)| full || *due <= now);
        if due { self.waiting.pop_front().map(|(_, picture)| picture) } else { None }
    }

    /// When [`Beside::pop`] will have something.
    pub fn deadline(&self) -> Option<Instant> {
        self.waiting.front().map(|(due, _)| *due)
    }
}

/// From `at` to `now`, negative if that lies ahead.
fn nanos(at: Instant, now: Instant) -> i64 {
    let ns = |d: Duration| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX / 4);
    if now >= at { ns(now - at) } else { -ns(at - now) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PACKET: Duration = Duration::from_millis(20);

    /// Lets packets come, each so long after its time, and gives how long after it each went out, in ms. The clock ticks in ms.
    fn run(late: &[u64]) -> Vec<u64> {
        let start = Instant::now();
        let mut steady = Steady::new();
        let mut out = vec![0; late.len()];
        let mut coming: Vec<(Duration, usize)> =
            late.iter().enumerate().map(|(i, ms)| (PACKET * i as u32 + Duration::from_millis(*ms), i)).collect();
        coming.sort();
        let mut coming = coming.into_iter().peekable();
        let mut tick = Duration::ZERO;
        while coming.peek().is_some() || steady.deadline().is_some() {
            while let Some((_, i)) = coming.next_if(|(when, _)| *when <= tick) {
                steady.push(start + PACKET * i as u32, start + tick, i);
            }
            while let Some(i) = steady.pop(start + tick) {
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
    fn clumps_come_out_evenly_and_no_later_than_the_last_of_a_clump() {
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
    fn what_is_even_is_held_for_the_first_second_only() {
        let out = run(&[30; 200]);
        assert_eq!(out[0], 50);
        assert_eq!(out[199], 30);
        assert!(out.windows(2).all(|w| w[0] - w[1] <= 1), "{out:?}");
    }

    #[test]
    fn a_stall_delays_nothing_that_comes_after_it() {
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
        let (now, mut steady) = (Instant::now(), Steady::new());
        for i in 0..200u32 {
            steady.push(now + PACKET * i, now, i);
            while steady.pop(now).is_some() {}
            assert!(steady.waiting.len() <= WAITING);
            assert!(steady.deadline().is_none_or(|d| d <= now + Duration::from_millis(60)));
        }
    }

    #[test]
    fn sound_that_has_ended_holds_nothing_back() {
        let (start, mut steady) = (Instant::now(), Steady::new());
        assert_eq!(steady.hold(start), None);
        for i in 0..50 {
            steady.push(start + PACKET * i, start + PACKET * (i + 2), ());
        }
        let last = start + PACKET * 51;
        assert!(steady.hold(last + Duration::from_millis(400)).is_some(), "silence is sound, too");
        assert_eq!(steady.hold(last + Duration::from_secs(3)), None);
        steady.push(last + Duration::from_secs(4), last + Duration::from_secs(4), ());
        assert!(steady.hold(last + Duration::from_secs(4)).is_some());
    }

    #[test]
    fn pictures_leave_with_the_sound_of_their_moment_but_do_not_wait_for_ever() {
        let (start, ms) = (Instant::now(), Duration::from_millis);
        let mut beside = Beside::new();
        let mut left_after = |at: u64, hold: Option<i64>, came: u64| {
            beside.push(start + ms(at), hold.map(|ms| ms * 1_000_000), start + ms(came), ());
            let due = beside.deadline().unwrap() - start;
            assert_eq!(beside.pop(start + due), Some(()));
            due.as_millis() as u64 - came
        };
        assert_eq!(left_after(0, None, 10), 0, "no sound");
        assert_eq!(left_after(100, Some(45), 110), 35);
        assert_eq!(left_after(200, Some(45), 260), 0, "late");
        assert_eq!(left_after(300, Some(900), 310), 60, "sound that is far behind");
        assert_eq!(left_after(400, Some(-50), 350), 0, "sound that is ahead");
    }

    proptest! {
        #[test]
        fn all_go_out_in_order_within_the_bound(late in proptest::collection::vec(0u64..120, 1..300)) {
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
