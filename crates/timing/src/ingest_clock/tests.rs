//! Sources as they are: interleaved, jittering, jumping, drifting, remapped.

use super::*;
use proptest::prelude::*;

const MS: Duration = Duration::from_millis(1);

fn ms(v: i64) -> MediaTime {
    MediaTime::from_millis(v)
}

struct Bench {
    t0: Instant,
    clock: IngestClock,
    /// Each offset that was ever in use.
    offsets: Vec<MediaTime>,
}

impl Bench {
    fn new() -> Self {
        // Some uptime to subtract from.
        Self { t0: Instant::now() + Duration::from_secs(100_000), clock: IngestClock::new(), offsets: Vec::new() }
    }

    fn put(&mut self, kind: Kind, source_ms: i64, arrived_ms: u32) -> i64 {
        self.late(kind, source_ms, arrived_ms).dts.as_millis()
    }

    fn map(&mut self, kind: Kind, dts: MediaTime, pts: MediaTime, now: Instant) -> Mapped {
        let mapped = self.clock.map(kind, dts, pts, now);
        let offset = self.clock.offset.unwrap();
        if !self.offsets.contains(&offset) {
            self.offsets.push(offset);
        }
        mapped
    }

    /// How often the offset changed: the source's clock jumped, or media time moved on.
    fn jumps(&self) -> usize {
        self.offsets.len() - 1
    }
}

#[test]
fn a_start_at_hours_maps_to_the_first_second() {
    let mut b = Bench::new();
    assert_eq!(b.put(Kind::Video, 7_200_000, 0), 1_000);
    assert_eq!(b.put(Kind::Audio, 7_199_980, 0), 980);
    assert_eq!(b.put(Kind::Video, 7_200_040, 40), 1_040);
}

#[test]
fn both_tracks_jump_together() {
    for to in [0, 3_600_000] {
        let mut b = Bench::new();
        for i in 0..50 {
            b.put(Kind::Video, 500_000 + i * 40, i as u32 * 40);
            b.put(Kind::Audio, 500_010 + i * 40, i as u32 * 40);
        }
        let v = b.put(Kind::Video, to, 2_000);
        let a = b.put(Kind::Audio, to + 10, 2_001);
        assert!((2_990..=3_020).contains(&v), "{v}");
        assert_eq!(a - v, 10, "A/V alignment is kept over a jump to {to}");
        assert_eq!(b.jumps(), 1);
        assert_eq!(b.put(Kind::Video, to + 40, 2_040) - v, 40);
    }
}

#[test]
fn timestamps_that_stand_still_give_way_to_arrival() {
    for both in [false, true] {
        let (mut b, mut last) = (Bench::new(), 0);
        for i in 0..60 {
            let at = i * 33;
            let v = b.put(Kind::Video, 0, at as u32);
            b.put(Kind::Audio, if both { 0 } else { at }, at as u32);
            assert!(v >= last, "{v}");
            last = v;
            // The first quarter of a second tells nothing yet.
            if at > 300 {
                assert!((v - 1_000 - at).abs() <= 1, "{v} at {at}");
            }
            let now = b.t0 + MS * at as u32;
            assert_eq!(b.clock.stands_still(Kind::Video, now), at >= 264, "{at}");
            assert_eq!(b.clock.stands_still(Kind::Audio, now), both && at >= 264, "{at}");
        }
        // They begin to move: from here on, they count.
        for i in 1..60 {
            let v = b.put(Kind::Video, i * 33, (60 + i as u32) * 33);
            assert!((v - 1_000 - (60 + i) * 33).abs() <= 34, "{v} at {i}");
        }
        assert!(!b.clock.stands_still(Kind::Video, b.t0 + MS * 4_000));
    }
}

#[test]
fn parts_of_a_picture_and_bursts_do_not_stand_still() {
    let mut b = Bench::new();
    for i in 0..100 {
        for _ in 0..8 {
            b.put(Kind::Video, i * 100, i as u32 * 100);
        }
        assert!(!b.clock.stands_still(Kind::Video, b.t0 + MS * (i as u32 * 100)));
    }
    // A slide show whose encoder repeats a picture with its timestamp, now and then.
    for i in 0..4 {
        b.put(Kind::Video, 9_950, 10_000 + i * 1_000);
    }
    assert!(!b.clock.stands_still(Kind::Video, b.t0 + MS * 13_000));
}

#[test]
fn a_pause_is_not_a_jump() {
    let mut b = Bench::new();
    b.put(Kind::Video, 0, 0);
    assert_eq!(b.put(Kind::Video, 10_000, 10_000), 11_000);
    // Frames that queued up behind a stalled network come in a burst, with the times they were made.
    assert_eq!(b.put(Kind::Video, 10_040, 15_000), 11_040);
    assert_eq!(b.put(Kind::Video, 10_080, 15_000), 11_080);
    assert_eq!(b.jumps(), 0);
}

impl Bench {
    fn late(&mut self, kind: Kind, source_ms: i64, arrived_ms: u32) -> Mapped {
        self.map(kind, ms(source_ms), ms(source_ms), self.t0 + MS * arrived_ms)
    }

    /// A second of both tracks in time, audio muxed 300 ms behind video.
    fn running() -> Self {
        let mut b = Self::new();
        for i in 0..25 {
            assert_eq!(b.late(Kind::Video, i * 40, i as u32 * 40).late, Duration::ZERO);
            assert_eq!(b.late(Kind::Audio, i * 40, i as u32 * 40 + 300).late, Duration::ZERO);
        }
        b
    }
}

#[test]
fn a_backlog_is_late_until_drained() {
    let mut b = Bench::running();
    // Ten seconds of stall, then all of it within half a second: 250 frames, one every two milliseconds.
    for i in 0..250 {
        let mapped = b.late(Kind::Video, 1_000 + i * 40, 11_000 + i as u32 * 2);
        assert_eq!(mapped.late, MS * (10_000 - i as u32 * 38), "frame {i}");
    }
    let mapped = b.late(Kind::Video, 11_520, 11_520);
    assert_eq!((mapped.late, mapped.dts), (Duration::ZERO, ms(12_520)));
    assert_eq!(b.jumps(), 0);
}

#[test]
fn a_clock_that_stood_still_is_soon_in_time() {
    let mut b = Bench::running();
    let mut late = Vec::new();
    for i in 0..50 {
        let mapped = b.late(Kind::Video, 1_000 + i * 40, 11_000 + i as u32 * 40);
        let audio = b.late(Kind::Audio, 1_000 + i * 40, 11_000 + i as u32 * 40 + 300);
        late.push(mapped.late.max(audio.late));
        if i > 30 {
            assert_eq!(
                (mapped.dts, audio.dts),
                (ms(12_000 + i * 40), ms(12_000 + i * 40)),
                "media time is real time again"
            );
        }
    }
    assert_eq!(late.iter().position(Duration::is_zero), Some(15), "{late:?}");
    assert!(late[16..].iter().all(|l| *l < MAX_LATENESS), "{late:?}");
}

#[test]
fn bursts_after_a_break_do_not_stay_late() {
    let mut b = Bench::running();
    for i in 0..200 {
        // Half a second later than before the break, at the least.
        let arrived = 1_000 + (i as u32 / 25 + 1) * 1_000 + 500;
        let late = b.late(Kind::Video, 1_000 + i * 40, arrived).late;
        assert!(i < 100 || late <= MS * (24 - i as u32 % 25) * 40 + MAX_LATENESS / 10, "{i}: {late:?}");
    }
    assert_eq!(b.jumps(), 1);
}

#[test]
fn a_backlog_with_a_gap_is_no_jump() {
    let mut b = Bench::running();
    // Three seconds of stall, two thirds of them at once, 1.6 s of nothing, and the rest.
    for i in 0..200u32 {
        let due = 1_000 + i * 40;
        let arrived = if i < 55 { 4_000 + i } else { due.max(5_655 + (i - 55)) };
        b.late(Kind::Video, i64::from(due), arrived);
    }
    assert_eq!(b.jumps(), 0);
}

#[test]
fn a_start_in_a_burst_is_tied_to_its_end() {
    let mut b = Bench::new();
    // An encoder hands over two seconds that it had queued.
    for i in 0..50 {
        assert_eq!(b.late(Kind::Video, i * 40, i as u32).late, Duration::ZERO);
    }
    for i in 50..200 {
        let now = 50 + (i as u32 - 50) * 40;
        let mapped = b.late(Kind::Video, i * 40, now);
        assert_eq!(mapped.late, Duration::ZERO, "frame {i}");
        let off = signed_nanos(b.clock.wall(mapped.dts, b.t0), b.t0 + MS * now).abs();
        assert!(off <= 40_000_000, "{off}");
    }
}

#[test]
fn small_steps_back_are_flattened() {
    let mut b = Bench::new();
    b.put(Kind::Audio, 100, 0);
    assert_eq!(b.put(Kind::Audio, 90, 5), 1_000);
    assert_eq!(b.put(Kind::Audio, 123, 23), 1_023);
}

#[test]
fn a_late_track_with_its_own_clock_is_aligned() {
    let mut b = Bench::new();
    for i in 0..100 {
        b.put(Kind::Video, 90_000 + i * 40, i as u32 * 40);
    }
    let a = b.put(Kind::Audio, 0, 4_000);
    assert!((4_990..=5_010).contains(&a), "{a}");
}

#[test]
fn another_encoder_continues_the_timeline() {
    let mut b = Bench::new();
    for i in 0..100 {
        b.put(Kind::Video, i * 40, i as u32 * 40);
        b.put(Kind::Audio, i * 40, i as u32 * 40);
    }
    b.clock.restart();
    let v = b.put(Kind::Video, 4_100, 6_000);
    let a = b.put(Kind::Audio, 4_110, 6_000);
    assert!((6_990..=7_010).contains(&v), "{v}");
    assert_eq!(a - v, 10);
}

#[test]
fn a_stray_timestamp_keeps_av_alignment() {
    for kind in [Kind::Video, Kind::Audio] {
        for astray in [0, 3_600_000, 503_000] {
            let mut b = Bench::new();
            for i in 0..100 {
                for track in [Kind::Video, Kind::Audio] {
                    // Arrivals are uneven, as they are.
                    let arrived = i as u32 * 40 + (i as u32 * 13) % 35;
                    let stamp = if track == kind && i == 50 { astray } else { 500_000 + i * 40 };
                    b.put(track, stamp, arrived);
                }
            }
            let (v, a) = (b.put(Kind::Video, 504_000, 4_000), b.put(Kind::Audio, 504_000, 4_000));
            assert_eq!(v, a, "{kind:?} at {astray}");
        }
    }
}

#[test]
fn steps_at_the_jitter_limit_keep_av_alignment() {
    for by in (440..=580).step_by(5) {
        for first in [Kind::Video, Kind::Audio] {
            let mut b = Bench::new();
            let mut frames: Vec<_> = (0..50).map(|i| (i * 40, Kind::Video)).collect();
            frames.extend((0..94).map(|i| (i * 2_000 / 94, Kind::Audio)));
            frames.sort_by_key(|(at, kind)| (*at, *kind != first));
            for (at, kind) in &frames {
                b.put(*kind, 500_000 + at, *at as u32);
            }
            for (at, kind) in &frames {
                b.put(*kind, 502_000 - by + at, 2_000 + *at as u32);
            }
            let (v, a) = (b.put(Kind::Video, 504_000 - by, 4_000), b.put(Kind::Audio, 504_000 - by, 4_000));
            assert_eq!(v, a, "back by {by} ms, {first:?} first");
        }
    }
}

#[test]
fn an_early_takeover_keeps_av_alignment() {
    let mut b = Bench::new();
    for i in 0..20 {
        b.put(Kind::Video, i * 40, i as u32 * 40);
    }
    b.clock.restart();
    let a = b.put(Kind::Audio, 0, 2_000);
    let v = b.put(Kind::Video, 10, 2_010);
    assert_eq!(v - a, 10);
    assert!((2_990..=3_010).contains(&a), "{a}");
}

#[test]
fn only_sane_composition_offsets_survive() {
    let mut b = Bench::new();
    let p = b.map(Kind::Video, ms(0), ms(80), b.t0);
    assert_eq!((p.pts - p.dts).as_millis(), 80);
    let p = b.map(Kind::Video, ms(40), ms(3_600_000), b.t0 + MS * 40);
    assert_eq!(p.pts, p.dts);
}

#[test]
fn the_wall_clock_follows_drift() {
    for ppm in [-150i64, 150] {
        let mut b = Bench::new();
        let mut last = (MediaTime::ZERO, b.t0);
        for i in 0..90_000u64 {
            // 40 ms of the encoder are not quite 40 ms of ours; every tenth frame is 30 ms late on top.
            let ours = Duration::from_nanos((i * 40_000_000).saturating_add_signed(i as i64 * 40 * ppm));
            let now = b.t0 + ours + if i % 10 == 3 { 30 * MS } else { Duration::ZERO };
            let p = b.map(Kind::Video, ms(i as i64 * 40), ms(i as i64 * 40), now);
            last = (p.dts, now);
        }
        let off = signed_nanos(b.clock.wall(last.0, last.1), last.1) / 1_000_000;
        assert!(off.abs() < 40, "{off} ms off after an hour at {ppm} ppm");
        assert_eq!(b.jumps(), 0);
    }
}

proptest! {
    #[test]
    fn dts_rise_whatever_comes(
        frames in proptest::collection::vec((any::<bool>(), any::<i64>(), any::<i64>(), 0u32..5_000), 1..200),
    ) {
        let mut b = Bench::new();
        let (mut audio, mut video, mut now) = (None, None, b.t0);
        for (is_audio, dts, pts, wait) in frames {
            now += MS * wait;
            let kind = if is_audio { Kind::Audio } else { Kind::Video };
            let p = b.map(kind, MediaTime::from_nanos(dts), MediaTime::from_nanos(pts), now);
            let last = if is_audio { &mut audio } else { &mut video };
            prop_assert!(last.is_none_or(|l| p.dts > l), "{last:?} then {p:?}");
            prop_assert!(p.pts >= MediaTime::ZERO);
            // No matter what stamps say, media never runs far ahead of the time that passed.
            let passed = (now - b.t0).as_millis() as i64;
            prop_assert!(p.dts.as_millis() <= passed + 1_000 + 200 * 2_001, "{p:?} after {passed} ms");
            *last = Some(p.dts);
            let _ = b.clock.wall(p.pts, now);
        }
    }
}
