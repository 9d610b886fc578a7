//! When what comes live goes up: all tracks by one clock, so late that nearly nothing that comes is later.
//!
//! What sends MPEG-TS gathers sound: FFmpeg (and with it OBS) until a packet holds 3 kB or 350 ms of it, while pictures leave one by
//! one. A viewer gets the sound of a moment that much later than its picture, and libwebrtc leaves them apart (measured: 350 ms).
//! So pictures wait for as long as sound is gathered, and sound then leaves evenly; a source that is even is hardly held.
//!
//! Where the hold grows much (the second of FFmpeg's packets of sound is longer than the first), media pauses for as long: its times
//! move on with the hold, for all tracks alike. Viewers who were not told of the pause would take it for a network's and hold sound
//! back for half a minute (libwebrtc: 158 ms behind the picture eight seconds after, 49 ms ten seconds later), but not pictures.
//!
//! Pure: times go in, and when something is due comes out.

/// The longest that anything is held, in nanoseconds: the longest that sound was seen to be gathered, and half as much for the
/// line's own unevenness. What is later than this is behind a stall.
const MOST: i64 = 500_000_000;
/// The same of streams over HTTP, which nobody takes for immediate: a page of Ogg lasts a second (libogg's and FFmpeg's default), and
/// FFmpeg fills 32 kB before it sends anything to an Icecast in WebM, which are half a second to two. But only for what is seen to be
/// gathered: media that is late by more than [`MOST`] so often in what is remembered. A network that stalls does it once or twice.
const MOST_OVER_HTTP: i64 = 2_000_000_000;
const GATHERED: usize = 3;
/// How long lateness is remembered, once or twice this: several turns of whatever gathers.
const WINDOW: i64 = 4_000_000_000;
/// The same in the beginning, and how long that is: senders and servers begin with what they have, in one go, and the first of it is
/// late by all of that (measured over SRT from FFmpeg: half a second, for 1.5 s). Two turns of sound that is gathered for 350 ms; and
/// what shrinks while hardly anybody watches shrinks at once.
const FIRST_WINDOW: i64 = 400_000_000;
const BEGINNING: i64 = 3_000_000_000;
/// One in so many may come later than all are held for: it leaves at once, and viewers' jitter buffers bridge it. Held for the latest
/// of all, everything would wait for it. Measured over SRT from FFmpeg, delay over SRT's latency and sound after picture: held for the
/// latest 155 and 33 ms, for all but one in 100 141 and 31 ms, for all but one in 33 132 and 36 ms (RTSP 42, 37 and 50 ms).
const LATER: usize = 100;
/// So many of the latest are remembered: that one in [`LATER`] of what comes in two windows, at 60 pictures and 50 packets of sound a
/// second.
const LATEST: usize = 10;
/// How much of the time that passes the hold may shrink by: viewers' jitter buffers play that much faster without being heard.
const SLEW: i64 = 20;
/// A hold that grows by more at once is a pause: what lies below is stretched by the decoding side ([`crate::audio`]: 40 ms), or is
/// what viewers bridge.
const PAUSE: i64 = 60_000_000;
/// So far from all that came before is another clock.
const JUMP: i64 = 2_000_000_000;

/// See the [module](self). All times are nanoseconds; those of arrival by any clock that goes on evenly.
#[derive(Debug, Default)]
pub struct Even {
    /// What is added to a media time to get when it is due, and when that was so.
    offset: Option<(i64, i64)>,
    begun: Option<i64>,
    window: i64,
    current: Option<Range>,
    previous: Option<Range>,
    paused: i64,
    over_http: bool,
    /// Media came gathered.
    gathered: bool,
    /// What came last is late by more than [`MOST`], or has not been in time again since.
    high: bool,
}

/// How far arrivals lay behind their media times.
#[derive(Clone, Debug)]
struct Range {
    least: i64,
    count: usize,
    /// How often it became more than [`MOST`].
    rises: usize,
    /// Of the latest, in falling order.
    latest: Vec<i64>,
}

impl Range {
    fn new(behind: i64) -> Self {
        Self { least: behind, count: 1, rises: 0, latest: vec![behind] }
    }

    fn add(&mut self, other: &Self) {
        self.least = self.least.min(other.least);
        self.count += other.count;
        self.rises += other.rises;
        for behind in &other.latest {
            let at = self.latest.partition_point(|b| b >= behind);
            self.latest.insert(at, *behind);
            self.latest.truncate(LATEST);
        }
    }

    /// Nearly nothing was later.
    fn most(&self) -> i64 {
        self.latest.get(self.count / LATER).or(self.latest.last()).copied().unwrap_or(self.least)
    }
}

impl Even {
    /// For a stream over HTTP.
    pub fn over_http() -> Self {
        Self { over_http: true, ..Self::default() }
    }

    /// Media of the time `media` comes at `now`.
    pub fn came(&mut self, media: i64, now: i64) {
        let behind = now.saturating_sub(media);
        let mut this = Range::new(behind);
        let jumped = |r: Range| behind > r.most().saturating_add(JUMP) || behind < r.least.saturating_sub(JUMP);
        if self.seen().is_some_and(jumped) {
            *self = Self { paused: self.paused, over_http: self.over_http, ..Self::default() };
        }
        self.begun.get_or_insert(now);
        let window = if self.begins(now) { FIRST_WINDOW } else { WINDOW };
        if self.current.is_none() || now - self.window >= window {
            (self.previous, self.window) = (self.current.take(), now);
        }
        if let Some(over) = self.seen().map(|seen| behind.saturating_sub(seen.least)) {
            this.rises = usize::from(over > MOST && !self.high);
            self.high = over > if self.high { MOST / 2 } else { MOST };
        }
        match &mut self.current {
            Some(current) => current.add(&this),
            None => self.current = Some(this),
        }
        if self.over_http && !self.begins(now) {
            let rises = self.seen().map_or(0, |seen| seen.rises);
            self.gathered = rises >= GATHERED || self.gathered && rises > 1;
        }
        let (before, after) = (self.offset.map(|(offset, _)| offset), self.offset_at(now));
        if let Some(grown) = after.zip(before).map(|(after, before)| after - before).filter(|grown| *grown > PAUSE) {
            self.paused += grown;
        }
        self.offset = after.map(|offset| (offset, now));
    }

    /// For how long media has paused in all: what is to be added to its times.
    pub fn paused(&self) -> i64 {
        self.paused
    }

    /// What is added to a media time to get when it is due.
    pub fn offset(&self, now: i64) -> i64 {
        self.offset_at(now).unwrap_or(0)
    }

    fn begins(&self, now: i64) -> bool {
        self.begun.is_none_or(|begun| now - begun < BEGINNING)
    }

    fn seen(&self) -> Option<Range> {
        let mut seen = self.current.clone().or_else(|| self.previous.clone())?;
        if let Some(previous) = self.previous.as_ref().filter(|_| self.current.is_some()) {
            seen.add(previous);
        }
        Some(seen)
    }

    fn offset_at(&self, now: i64) -> Option<i64> {
        let seen = self.seen()?;
        let most = if self.gathered { MOST_OVER_HTTP } else { MOST };
        let most = seen.least.saturating_add(most);
        let wanted = seen.most().min(most);
        let Some((before, at)) = self.offset.filter(|_| !self.begins(now)) else { return Some(wanted) };
        Some(wanted.max(before.saturating_sub(now.saturating_sub(at).max(0) / SLEW)).min(most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: i64 = 1_000_000;

    /// Lets media come, each (media time, arrival) in ms; gives how long after its arrival each is due, in ms.
    fn run(even: &mut Even, coming: impl IntoIterator<Item = (i64, i64)>) -> Vec<i64> {
        coming
            .into_iter()
            .map(|(media, came)| {
                even.came(media * MS, came * MS);
                (media * MS + even.offset(came * MS) - came * MS) / MS
            })
            .collect()
    }

    #[test]
    fn pictures_wait_for_sound_that_is_gathered() {
        let mut even = Even::default();
        // Sound in clumps of 350 ms, pictures every 40.
        let coming = (0..100).flat_map(|i| {
            let at = i * 40;
            let clump = (at % 360 == 320).then_some((at - 320, at + 30));
            [Some((at, at + 30)), clump].into_iter().flatten()
        });
        let held = run(&mut even, coming);
        assert!(held[20..].iter().all(|ms| *ms >= 0));
        assert_eq!(held[20..].iter().max(), Some(&320));
    }

    #[test]
    fn a_hold_that_grows_much_is_a_pause() {
        let mut even = Even::default();
        let coming = |clump: i64, from: i64| {
            (from..from + 100).flat_map(move |i| {
                let at = i * 40;
                let clump = (at % 360 == 320).then_some((at - clump, at));
                [Some((at, at)), clump].into_iter().flatten()
            })
        };
        run(&mut even, coming(150, 0));
        assert_eq!(even.paused(), 150 * MS);
        run(&mut even, coming(320, 100));
        assert_eq!(even.paused(), 320 * MS, "once, for as much as it grew");
        let mut even = Even::default();
        run(&mut even, coming(30, 0));
        assert_eq!(even.paused(), 0);
        // Another clock is no pause.
        run(&mut even, (0..100).map(|i| (900_000 + i * 20, 30_000 + i * 20)));
        assert_eq!(even.paused(), 0);
    }

    #[test]
    fn a_stream_over_http_may_come_a_second_at_a_time() {
        // Two seconds at once in the beginning, then each second that second's.
        let coming = || (0..100).map(|i| (i * 20, 2_000)).chain((100..1_300).map(|i| (i * 20, (i / 50 + 1) * 1_000)));
        let held = run(&mut Even::over_http(), coming());
        assert!(held[..100].iter().all(|ms| *ms <= 500), "{held:?}");
        assert!(held[350..].iter().all(|ms| (0..=1_000).contains(ms)), "{held:?}");
        assert!(run(&mut Even::default(), coming())[350..].contains(&-480), "others are not held for as long");
        // A stall, even two, are none.
        let stalls = (0..1_000)
            .map(|i| (i * 20, if (400..500).contains(&(i % 600)) { (i / 600 * 600 + 500) * 20 } else { i * 20 }));
        assert!(run(&mut Even::over_http(), stalls).iter().all(|ms| *ms <= 500));
    }

    #[test]
    fn what_is_even_is_not_held() {
        let held = run(&mut Even::default(), (0..500).map(|i| (i * 20 + 77, i * 20)));
        assert!(held.iter().all(|ms| *ms == 0), "{held:?}");
    }

    #[test]
    fn what_is_late_once_in_a_while_holds_nothing() {
        let late = |i: i64| if i % 150 == 149 { 120 } else { 0 };
        let held = run(&mut Even::default(), (0..1000).map(|i| (i * 20, i * 20 + late(i))));
        assert!(held[500..].iter().all(|ms| *ms <= 0), "{held:?}");
        let late = |i: i64| if i % 20 == 19 { 120 } else { 0 };
        let held = run(&mut Even::default(), (0..1000).map(|i| (i * 20, i * 20 + late(i))));
        assert!(held[20..].iter().all(|ms| [0, 120].contains(ms)), "{held:?}");
    }

    #[test]
    fn what_comes_in_one_go_at_first_is_made_up_for() {
        // A server that begins with what it has: a second at once.
        let coming = (0..50).map(|i| (i * 20, 1000)).chain((51..1300).map(|i| (i * 20, i * 20)));
        let held = run(&mut Even::default(), coming);
        assert!(held.iter().all(|ms| *ms <= 500), "{held:?}");
        assert!(held[100..].iter().all(|ms| *ms == 0), "within a second after it: {held:?}");
    }

    #[test]
    fn what_shrinks_later_shrinks_slowly() {
        let mut even = Even::default();
        let clumps =
            (0..150).flat_map(|i| [Some((i * 40, i * 40)), (i % 9 == 8).then_some((i * 40 - 320, i * 40))]).flatten();
        run(&mut even, clumps);
        let held = run(&mut even, (150..600).map(|i| (i * 40, i * 40)));
        assert_eq!((held.first(), held.last()), (Some(&320), Some(&0)));
        assert!(held.windows(2).all(|w| (0..=2).contains(&(w[0] - w[1]))), "{held:?}");
    }

    #[test]
    fn a_stall_or_another_clock_holds_nothing_for_long() {
        let even = &mut Even::default();
        run(even, (0..100).map(|i| (i * 20, i * 20)));
        // Three seconds of nothing, then all of it.
        let held = run(even, (100..250).map(|i| (i * 20, 5000)).chain((250..1300).map(|i| (i * 20, i * 20))));
        assert!(held.iter().all(|ms| *ms <= 500), "{held:?}");
        assert_eq!(held.last(), Some(&0));
        let held = run(even, (0..100).map(|i| (i * 20, 40_000 + i * 20)));
        assert!(held.iter().all(|ms| *ms == 0), "{held:?}");
        let held = run(even, (0..100).map(|i| (900_000 + i * 20, 50_000 + i * 20)));
        assert!(held.iter().all(|ms| *ms == 0), "{held:?}");
    }

    proptest! {
        #[test]
        fn nothing_is_held_beyond_the_bound(coming in proptest::collection::vec((0i64..100_000, 0i64..300), 1..300)) {
            let (mut even, mut now) = (Even::default(), 0);
            for (media, pause) in coming {
                now += pause;
                let [held] = run(&mut even, [(media, now)])[..] else { unreachable!() };
                prop_assert!(held <= MOST / MS);
            }
        }
    }
}
