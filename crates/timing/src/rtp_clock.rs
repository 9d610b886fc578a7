//! The RTP clock of WHIP: maps RTP timestamps to the time of capture on our clock, by RTCP sender reports, alike for audio and video.
//!
//! Without a sender report a stream's timestamps are tied to the earliest arrival they explain. With one they are tied to the sender's
//! wall clock (RFC 3550 §6.4.1), which in turn is tied to ours by the fastest report seen. Some senders have no such clock, one that
//! stands still, or one for each stream: reports that contradict those of another stream, or again and again their own, count for nothing.
//!
//! **May assume** of the network and the sender: nothing; timestamps and reports may be wrong, and then cost the sender its alignment.

use std::time::{Duration, Instant};

/// How long slower reports than the fastest are ignored before the clocks are taken to have drifted.
const DRIFT_EVERY: Duration = Duration::from_secs(10);
/// How far the tie follows then, in nanoseconds: 100 ppm, what crystals differ by.
const DRIFT_STEP: i128 = 1_000_000;
/// A tie that is off by more than this (nanoseconds) is no drift: the sender's clock was set.
const CLOCK_SET: i128 = 2_000_000_000;
/// How often a stream's reports may say that the sender's clock was set. People set clocks once; a clock that stands still would say so
/// every two seconds.
const MAX_CLOCK_SETS: u8 = 2;

/// The sender's wall clock, which its streams share.
#[derive(Debug)]
pub struct SenderClock {
    origin: Instant,
    /// Our time minus the sender's wall clock, in ns, of the fastest report.
    tie: Option<i128>,
    moved: Instant,
    /// How often it was set.
    sets: u32,
}

/// One stream's RTP timestamps: unwrapped, and tied to arrivals and reports.
#[derive(Debug)]
pub struct RtpTimestamps {
    rate: u32,
    /// The newest timestamp, unwrapped.
    last: Option<i64>,
    /// Our time minus media time in ns, by the earliest arrival.
    arrival: Option<i128>,
    /// A timestamp and the sender's wall clock for it, in ns.
    report: Option<(i64, i128)>,
    /// How often the sender's clock had been set at this report; reports from before do not fit the tie.
    epoch: u32,
    /// Whether a report of this stream has agreed with the tie.
    agreed: bool,
    /// How often its reports said that the clock was set.
    sets: u8,
}

impl SenderClock {
    /// A clock that has seen nothing.
    pub fn new(now: Instant) -> Self {
        Self { origin: now, tie: None, moved: now, sets: 0 }
    }

    /// Takes a report that arrived at `now`: `timestamp` of `stream` belongs to `wall`, the sender's time since any epoch; zero is a sender
    /// that has no clock (RFC 3550 §6.4.1).
    pub fn report(&mut self, stream: &mut RtpTimestamps, timestamp: u32, wall: Duration, now: Instant) {
        let extended = stream.extend(timestamp);
        if wall.is_zero() || stream.sets > MAX_CLOCK_SETS {
            return;
        }
        let wall = i128::try_from(wall.as_nanos()).unwrap_or(i128::MAX / 2);
        let seen = self.nanos(now) - wall;
        let tie = *self.tie.get_or_insert(seen);
        if (seen - tie).abs() > CLOCK_SET {
            if !self.is_set(stream) {
                stream.report = None;
                return;
            }
            (self.tie, self.moved) = (Some(seen), now);
        } else if seen < tie {
            (self.tie, self.moved) = (Some(seen), now);
        } else if now.saturating_duration_since(self.moved) >= DRIFT_EVERY {
            (self.tie, self.moved) = (Some(seen.min(tie + DRIFT_STEP)), now);
        }
        stream.agreed = true;
        stream.epoch = self.sets;
        stream.report = Some((extended, wall));
    }

    /// Whether the sender's clock was set, as a report of this stream is far off. Another stream's may have said so already. A stream that
    /// never agreed has a clock of its own, and one that says so again and again has none.
    fn is_set(&mut self, stream: &mut RtpTimestamps) -> bool {
        stream.sets = stream.sets.saturating_add(1);
        let set = stream.agreed && stream.sets <= MAX_CLOCK_SETS;
        self.sets += u32::from(set);
        set
    }

    /// When the media of `timestamp`, which arrived at `now`, was captured: never after it arrived.
    pub fn captured_at(&mut self, stream: &mut RtpTimestamps, timestamp: u32, now: Instant) -> Instant {
        let extended = stream.extend(timestamp);
        let arrived = self.nanos(now);
        let media = stream.nanos(extended);
        let earliest = stream.arrival.get_or_insert(arrived - media);
        *earliest = (*earliest).min(arrived - media);
        let report = stream.report.filter(|_| stream.epoch == self.sets);
        let at = match (report, self.tie) {
            (Some((timestamp, wall)), Some(tie)) => {
                let taken = wall + media - stream.nanos(timestamp);
                // It came faster than any report, so it is the tie; otherwise times would jitter as the network does.
                let tie =
                    if taken + tie > arrived && taken + tie < arrived + CLOCK_SET { arrived - taken } else { tie };
                self.tie = Some(tie);
                taken + tie
            }
            _ => media + *earliest,
        };
        // Anything older is a wrong report.
        self.instant(at.clamp(arrived - CLOCK_SET, arrived))
    }

    /// The moment that is so many nanoseconds after this clock began; what was captured before that has times of its own, too.
    fn instant(&self, nanos: i128) -> Instant {
        let by = Duration::from_nanos(u64::try_from(nanos.unsigned_abs()).unwrap_or(u64::MAX));
        let at = if nanos < 0 { self.origin.checked_sub(by) } else { self.origin.checked_add(by) };
        at.unwrap_or(self.origin)
    }

    fn nanos(&self, at: Instant) -> i128 {
        i128::try_from(at.saturating_duration_since(self.origin).as_nanos()).unwrap_or(i128::MAX / 2)
    }
}

impl RtpTimestamps {
    /// Timestamps of `rate` ticks a second.
    pub fn new(rate: u32) -> Self {
        Self { rate, last: None, arrival: None, report: None, epoch: 0, agreed: false, sets: 0 }
    }

    /// Forgets everything: the sender begins a new numbering.
    pub fn restart(&mut self) {
        *self = Self::new(self.rate);
    }

    /// The timestamp unwrapped: the one nearest to the newest.
    pub fn extend(&mut self, timestamp: u32) -> i64 {
        let last = *self.last.get_or_insert(i64::from(timestamp));
        // Wraps as the difference of two timestamps does (RFC 3550 §5.1).
        let extended = last + i64::from(timestamp.wrapping_sub(last as u32) as i32);
        self.last = Some(last.max(extended));
        extended
    }

    fn nanos(&self, extended: i64) -> i128 {
        i128::from(extended) * 1_000_000_000 / i128::from(self.rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn reports_align_audio_and_video() {
        let t0 = Instant::now();
        let mut clock = SenderClock::new(t0);
        let (mut audio, mut video) = (RtpTimestamps::new(48_000), RtpTimestamps::new(90_000));
        // Both were captured at the sender's second 1000; video took 80 ms longer to come.
        let (audio_at, video_at) = (
            clock.captured_at(&mut audio, 7, t0 + MS * 20),
            clock.captured_at(&mut video, u32::MAX - 10, t0 + MS * 100),
        );
        assert_eq!(video_at - audio_at, MS * 80, "nothing else is known yet");
        let wall = Duration::from_secs(1000);
        clock.report(&mut audio, 7, wall, t0 + MS * 120);
        clock.report(&mut video, u32::MAX - 10, wall, t0 + MS * 120);
        let later = t0 + MS * 1120;
        let audio_at = clock.captured_at(&mut audio, 7 + 48_000, later);
        let video_at = clock.captured_at(&mut video, (u32::MAX - 10).wrapping_add(90_000), later);
        assert_eq!(audio_at, video_at);
    }

    #[test]
    fn what_was_captured_before_the_clock_began_keeps_its_distances() {
        let t0 = Instant::now();
        let mut clock = SenderClock::new(t0);
        let mut video = RtpTimestamps::new(90_000);
        // The sender has gathered a second before its connection stood, and sends it at once, behind a report.
        clock.report(&mut video, 90_000, Duration::from_secs(100), t0 + MS * 100);
        let gathered: Vec<_> = (0..30).map(|n| clock.captured_at(&mut video, n * 3_000, t0 + MS * 110)).collect();
        let apart: Vec<_> = gathered.windows(2).map(|pair| (pair[1] - pair[0]).as_millis()).collect();
        assert!(apart.iter().all(|ms| (33..=34).contains(ms)), "{apart:?}");
        assert!(gathered[0] < t0 && gathered[29] > t0);
    }

    #[test]
    fn only_a_clock_that_was_set_moves_the_tie() {
        let t0 = Instant::now();
        let mut clock = SenderClock::new(t0);
        let mut audio = RtpTimestamps::new(48_000);
        clock.report(&mut audio, 0, Duration::from_secs(50), t0);
        let before = clock.captured_at(&mut audio, 48_000, t0 + MS * 1500);
        clock.report(&mut audio, 48_000, Duration::from_secs(51), t0 + MS * 1400);
        assert_eq!(clock.captured_at(&mut audio, 48_000, t0 + MS * 1500), before);
        clock.report(&mut audio, 96_000, Duration::from_secs(2), t0 + MS * 2000);
        assert_eq!(clock.captured_at(&mut audio, 96_000, t0 + MS * 2000), t0 + MS * 2000);
    }

    /// How far apart what was captured at the same time comes out, in ms, over 30 s of reports each second by these clocks.
    fn misalignment(audio_wall: impl Fn(u64) -> Duration, video_wall: impl Fn(u64) -> Duration) -> Vec<u128> {
        let t0 = Instant::now();
        let mut clock = SenderClock::new(t0);
        let (mut audio, mut video) = (RtpTimestamps::new(48_000), RtpTimestamps::new(90_000));
        let mut apart = Vec::new();
        for n in 0..3_000u64 {
            let (at, ticks) = (t0 + MS * 10 * n as u32, n as u32 * 10);
            let a = clock.captured_at(&mut audio, ticks * 48, at + MS * 20);
            let v = clock.captured_at(&mut video, ticks * 90, at + MS * 30);
            apart.push(a.max(v).duration_since(a.min(v)).as_millis());
            if n % 100 == 50 {
                clock.report(&mut audio, ticks * 48, audio_wall(n * 10), at + MS * 20);
                clock.report(&mut video, ticks * 90, video_wall(n * 10), at + MS * 30);
            }
        }
        apart
    }

    #[test]
    fn reports_without_a_clock_count_for_nothing() {
        let right = |ms| Duration::from_secs(1_700_000_000) + Duration::from_millis(ms);
        let none = |_| Duration::ZERO;
        let uptime = |ms| Duration::from_secs(77) + Duration::from_millis(ms);
        let still = |_| Duration::from_secs(1_700_000_000);
        let within = |apart: Vec<u128>, limit| {
            let late = &apart[apart.len() * 2 / 3..];
            assert!(late.iter().all(|ms| *ms <= limit), "{:?}", late.iter().max());
        };
        within(misalignment(right, right), 1);
        within(misalignment(none, none), 10);
        within(misalignment(right, none), 20);
        within(misalignment(uptime, uptime), 1);
        within(misalignment(right, uptime), 20);
        within(misalignment(uptime, right), 20);
        within(misalignment(still, still), 20);
        within(misalignment(right, still), 20);
        // Set once: reports fit again.
        let set = |ms| if ms > 5_000 { right(ms) + Duration::from_secs(3_600) } else { right(ms) };
        within(misalignment(set, set), 1);
    }

    proptest! {
        #[test]
        fn nothing_is_captured_after_it_came(steps in proptest::collection::vec((any::<u32>(), 0u64..500, any::<bool>(), any::<u64>()), 1..60)) {
            let mut now = Instant::now();
            let mut clock = SenderClock::new(now);
            let mut stream = RtpTimestamps::new(90_000);
            for (timestamp, pause, report, wall) in steps {
                now += Duration::from_millis(pause);
                if report {
                    clock.report(&mut stream, timestamp, Duration::from_nanos(wall), now);
                }
                prop_assert!(clock.captured_at(&mut stream, timestamp, now) <= now);
            }
        }
    }
}
