//! The jitter delay of live pulls: all tracks leave on one clock, so late that nearly nothing comes later.
//!
//! A sender of MPEG-TS gathers audio: FFmpeg (and with it OBS) until a packet holds 3 kB or 350 ms of it, while video leaves frame by
//! frame. A viewer gets audio that much later than its video, and libwebrtc leaves them apart (measured: 350 ms). So video waits for as
//! long as audio is gathered, and audio then leaves evenly; a source that is even is hardly held.
//!
//! Where the delay grows much (FFmpeg's second packet of audio is longer than its first), media pauses for as long: its times move on
//! with the delay, for all tracks alike. Viewers who are not told of the pause take it for the network's and hold audio back for half a
//! minute, but not video (libwebrtc: 158 ms behind video eight seconds after, 49 ms ten seconds later).
//!
//! **May assume** of [`crate::decode_order`]: each track's DTS rise about as evenly as its frames were made; arrivals are uneven.

/// The longest delay, in nanoseconds: the longest that audio was seen to be gathered, and half as much for the network's own jitter.
/// What is later than this is behind a stall.
const MAX_DELAY: i64 = 500_000_000;
/// The same for streams over HTTP, which nobody takes for immediate: a page of Ogg lasts a second (libogg's and FFmpeg's default), and
/// FFmpeg fills 32 kB before it sends anything to an Icecast in WebM, which is half a second to two. Only for media that is seen to be
/// gathered: it is late by more than [`MAX_DELAY`] at least [`GATHERED_AFTER`] times in what is remembered.
const MAX_DELAY_OVER_HTTP: i64 = 2_000_000_000;
/// See [`MAX_DELAY_OVER_HTTP`]. A network that stalls does it once or twice.
const GATHERED_AFTER: usize = 3;
/// How long lateness is remembered, in nanoseconds; once or twice this. Several turns of whatever gathers.
const WINDOW: i64 = 4_000_000_000;
/// The same during [`BEGINNING`]: senders and servers begin with what they have, in one go, and the first of it is late by all of that
/// (measured over SRT from FFmpeg: half a second, for 1.5 s). Two turns of audio that is gathered for 350 ms.
const FIRST_WINDOW: i64 = 400_000_000;
/// How long the beginning lasts, in nanoseconds. Hardly anybody watches yet, so the delay may shrink at once.
const BEGINNING: i64 = 3_000_000_000;
/// One in this many may come later than the delay: it leaves at once, and viewers' jitter buffers bridge it. With the delay of the
/// latest of all, everything would wait for that one. Measured over SRT from FFmpeg, delay over SRT's latency and audio after video:
/// with the delay of the latest 155 and 33 ms, of all but one in 100 141 and 31 ms, of all but one in 33 132 and 36 ms (RTSP 42, 37 and
/// 50 ms).
const LATE_ONE_IN: usize = 100;
/// How many of the latest are remembered: one in [`LATE_ONE_IN`] of what comes in two windows, at 60 pictures and 50 packets of audio a
/// second.
const LATEST_KEPT: usize = 10;
/// The delay may shrink by one in this many nanoseconds: viewers' jitter buffers play that much faster without being heard.
const SHRINK_ONE_IN: i64 = 20;
/// A delay that grows at once by more than this (nanoseconds) is a pause. What lies below is stretched by [`crate::sample_clock`]
/// (40 ms), or bridged by viewers.
const MIN_PAUSE: i64 = 60_000_000;
/// Media this far from all that came before (nanoseconds) is on another clock.
const OTHER_CLOCK: i64 = 2_000_000_000;

/// See the [module](self). All times are nanoseconds; arrival times are by any monotonic clock.
#[derive(Debug, Default)]
pub struct JitterDelay {
    /// What is added to a media time to get when it is due, and when that was computed.
    offset: Option<(i64, i64)>,
    begun: Option<i64>,
    window: i64,
    current: Option<Range>,
    previous: Option<Range>,
    paused: i64,
    over_http: bool,
    /// The sender gathers media.
    gathered: bool,
    /// Media is late by more than [`MAX_DELAY`], or was and has not been in time again since.
    high: bool,
}

/// How far arrivals lay behind their media times, in nanoseconds.
#[derive(Clone, Debug)]
struct Range {
    least: i64,
    count: usize,
    /// How often it rose above [`MAX_DELAY`].
    rises: usize,
    /// The latest, in falling order.
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
            self.latest.truncate(LATEST_KEPT);
        }
    }

    /// What nearly nothing was later than.
    fn most(&self) -> i64 {
        self.latest.get(self.count / LATE_ONE_IN).or(self.latest.last()).copied().unwrap_or(self.least)
    }
}

impl JitterDelay {
    /// The delay of a stream over HTTP.
    pub fn over_http() -> Self {
        Self { over_http: true, ..Self::default() }
    }

    /// Media of the time `media` came at `now`.
    pub fn came(&mut self, media: i64, now: i64) {
        let behind = now.saturating_sub(media);
        let mut this = Range::new(behind);
        let jumped =
            |r: Range| behind > r.most().saturating_add(OTHER_CLOCK) || behind < r.least.saturating_sub(OTHER_CLOCK);
        if self.seen().is_some_and(jumped) {
            *self = Self { paused: self.paused, over_http: self.over_http, ..Self::default() };
        }
        self.begun.get_or_insert(now);
        let window = if self.begins(now) { FIRST_WINDOW } else { WINDOW };
        if self.current.is_none() || now - self.window >= window {
            (self.previous, self.window) = (self.current.take(), now);
        }
        if let Some(over) = self.seen().map(|seen| behind.saturating_sub(seen.least)) {
            this.rises = usize::from(over > MAX_DELAY && !self.high);
            self.high = over > if self.high { MAX_DELAY / 2 } else { MAX_DELAY };
        }
        match &mut self.current {
            Some(current) => current.add(&this),
            None => self.current = Some(this),
        }
        if self.over_http && !self.begins(now) {
            let rises = self.seen().map_or(0, |seen| seen.rises);
            self.gathered = rises >= GATHERED_AFTER || self.gathered && rises > 1;
        }
        let (before, after) = (self.offset.map(|(offset, _)| offset), self.offset_at(now));
        if let Some(grown) = after.zip(before).map(|(after, before)| after - before).filter(|grown| *grown > MIN_PAUSE)
        {
            self.paused += grown;
        }
        self.offset = after.map(|offset| (offset, now));
    }

    /// How long media has paused in all: what is to be added to its times.
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
        let most = if self.gathered { MAX_DELAY_OVER_HTTP } else { MAX_DELAY };
        let most = seen.least.saturating_add(most);
        let wanted = seen.most().min(most);
        let Some((before, at)) = self.offset.filter(|_| !self.begins(now)) else { return Some(wanted) };
        Some(wanted.max(before.saturating_sub(now.saturating_sub(at).max(0) / SHRINK_ONE_IN)).min(most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: i64 = 1_000_000;

    /// Lets media come, each (media time, arrival) in ms; gives how long after its arrival each is due, in ms.
    fn run(delay: &mut JitterDelay, coming: impl IntoIterator<Item = (i64, i64)>) -> Vec<i64> {
        coming
            .into_iter()
            .map(|(media, came)| {
                delay.came(media * MS, came * MS);
                (media * MS + delay.offset(came * MS) - came * MS) / MS
            })
            .collect()
    }

    #[test]
    fn video_waits_for_gathered_audio() {
        let mut delay = JitterDelay::default();
        // Audio in clumps of 350 ms, video every 40.
        let coming = (0..100).flat_map(|i| {
            let at = i * 40;
            let clump = (at % 360 == 320).then_some((at - 320, at + 30));
            [Some((at, at + 30)), clump].into_iter().flatten()
        });
        let held = run(&mut delay, coming);
        assert!(held[20..].iter().all(|ms| *ms >= 0));
        assert_eq!(held[20..].iter().max(), Some(&320));
    }

    #[test]
    fn a_delay_that_grows_much_is_a_pause() {
        let mut delay = JitterDelay::default();
        let coming = |clump: i64, from: i64| {
            (from..from + 100).flat_map(move |i| {
                let at = i * 40;
                let clump = (at % 360 == 320).then_some((at - clump, at));
                [Some((at, at)), clump].into_iter().flatten()
            })
        };
        run(&mut delay, coming(150, 0));
        assert_eq!(delay.paused(), 150 * MS);
        run(&mut delay, coming(320, 100));
        assert_eq!(delay.paused(), 320 * MS, "once, for as much as it grew");
        let mut delay = JitterDelay::default();
        run(&mut delay, coming(30, 0));
        assert_eq!(delay.paused(), 0);
        // Another clock is no pause.
        run(&mut delay, (0..100).map(|i| (900_000 + i * 20, 30_000 + i * 20)));
        assert_eq!(delay.paused(), 0);
    }

    #[test]
    fn http_streams_may_come_a_second_at_a_time() {
        // Two seconds at once in the beginning, then each second that second's.
        let coming = || (0..100).map(|i| (i * 20, 2_000)).chain((100..1_300).map(|i| (i * 20, (i / 50 + 1) * 1_000)));
        let held = run(&mut JitterDelay::over_http(), coming());
        assert!(held[..100].iter().all(|ms| *ms <= 500), "{held:?}");
        assert!(held[350..].iter().all(|ms| (0..=1_000).contains(ms)), "{held:?}");
        assert!(run(&mut JitterDelay::default(), coming())[350..].contains(&-480), "others are not held for as long");
        // A stall, even two, are none.
        let stalls = (0..1_000)
            .map(|i| (i * 20, if (400..500).contains(&(i % 600)) { (i / 600 * 600 + 500) * 20 } else { i * 20 }));
        assert!(run(&mut JitterDelay::over_http(), stalls).iter().all(|ms| *ms <= 500));
    }

    #[test]
    fn even_media_is_not_held() {
        let held = run(&mut JitterDelay::default(), (0..500).map(|i| (i * 20 + 77, i * 20)));
        assert!(held.iter().all(|ms| *ms == 0), "{held:?}");
    }

    #[test]
    fn rarely_late_media_holds_nothing() {
        let late = |i: i64| if i % 150 == 149 { 120 } else { 0 };
        let held = run(&mut JitterDelay::default(), (0..1000).map(|i| (i * 20, i * 20 + late(i))));
        assert!(held[500..].iter().all(|ms| *ms <= 0), "{held:?}");
        let late = |i: i64| if i % 20 == 19 { 120 } else { 0 };
        let held = run(&mut JitterDelay::default(), (0..1000).map(|i| (i * 20, i * 20 + late(i))));
        assert!(held[20..].iter().all(|ms| [0, 120].contains(ms)), "{held:?}");
    }

    #[test]
    fn a_first_burst_is_made_up_for() {
        // A server that begins with what it has: a second at once.
        let coming = (0..50).map(|i| (i * 20, 1000)).chain((51..1300).map(|i| (i * 20, i * 20)));
        let held = run(&mut JitterDelay::default(), coming);
        assert!(held.iter().all(|ms| *ms <= 500), "{held:?}");
        assert!(held[100..].iter().all(|ms| *ms == 0), "within a second after it: {held:?}");
    }

    #[test]
    fn later_the_delay_shrinks_slowly() {
        let mut delay = JitterDelay::default();
        let clumps =
            (0..150).flat_map(|i| [Some((i * 40, i * 40)), (i % 9 == 8).then_some((i * 40 - 320, i * 40))]).flatten();
        run(&mut delay, clumps);
        let held = run(&mut delay, (150..600).map(|i| (i * 40, i * 40)));
        assert_eq!((held.first(), held.last()), (Some(&320), Some(&0)));
        assert!(held.windows(2).all(|w| (0..=2).contains(&(w[0] - w[1]))), "{held:?}");
    }

    #[test]
    fn a_stall_or_another_clock_is_soon_over() {
        let delay = &mut JitterDelay::default();
        run(delay, (0..100).map(|i| (i * 20, i * 20)));
        // Three seconds of nothing, then all of it.
        let held = run(delay, (100..250).map(|i| (i * 20, 5000)).chain((250..1300).map(|i| (i * 20, i * 20))));
        assert!(held.iter().all(|ms| *ms <= 500), "{held:?}");
        assert_eq!(held.last(), Some(&0));
        let held = run(delay, (0..100).map(|i| (i * 20, 40_000 + i * 20)));
        assert!(held.iter().all(|ms| *ms == 0), "{held:?}");
        let held = run(delay, (0..100).map(|i| (900_000 + i * 20, 50_000 + i * 20)));
        assert!(held.iter().all(|ms| *ms == 0), "{held:?}");
    }

    proptest! {
        #[test]
        fn nothing_is_held_beyond_the_bound(coming in proptest::collection::vec((0i64..100_000, 0i64..300), 1..300)) {
            let (mut delay, mut now) = (JitterDelay::default(), 0);
            for (media, pause) in coming {
                now += pause;
                let [held] = run(&mut delay, [(media, now)])[..] else { unreachable!() };
                prop_assert!(held <= MAX_DELAY / MS);
            }
        }
    }
}
