//! Sources as they are: interleaved, jittering, jumping, drifting, replaced.

use super::*;
use proptest::prelude::*;

const MS: Duration = Duration::from_millis(1);

fn ms(v: i64) -> MediaTime {
    MediaTime::from_millis(v)
}

struct Bench {
    t0: Instant,
    line: Timeline,
}

impl Bench {
    fn new() -> Self {
        // Some uptime to subtract from.
        Self { t0: Instant::now() + Duration::from_secs(100_000), line: Timeline::new() }
    }

    fn put(&mut self, kind: Kind, source_ms: i64, arrived_ms: u32) -> i64 {
        let now = self.t0 + MS * arrived_ms;
        self.line.place(kind, ms(source_ms), ms(source_ms), now).dts.as_millis()
    }
}

#[test]
fn a_source_that_starts_at_hours_starts_at_the_beginning() {
    let mut b = Bench::new();
    assert_eq!(b.put(Kind::Video, 7_200_000, 0), 1_000);
    assert_eq!(b.put(Kind::Audio, 7_199_980, 0), 980);
    assert_eq!(b.put(Kind::Video, 7_200_040, 40), 1_040);
}

#[test]
fn both_tracks_jump_together_and_stay_together() {
    for to in [0, 3_600_000] {
        let mut b = Bench::new();
        for i in 0..50 {
            b.put(Kind::Video, 500_000 + i * 40, i as u32 * 40);
            b.put(Kind::Audio, 500_010 + i * 40, i as u32 * 40);
        }
        let v = b.put(Kind::Video, to, 2_000);
        let a = b.put(Kind::Audio, to + 10, 2_001);
        assert!((2_990..=3_020).contains(&v), "{v}");
        assert_eq!(a - v, 10, "lip sync is kept over a jump to {to}");
        assert_eq!(b.line.jumps(), 1);
        assert_eq!(b.put(Kind::Video, to + 40, 2_040) - v, 40);
    }
}

#[test]
fn a_pause_is_not_a_jump() {
    let mut b = Bench::new();
    b.put(Kind::Video, 0, 0);
    assert_eq!(b.put(Kind::Video, 10_000, 10_000), 11_000);
    // Frames that queued up behind a stalled network come in a burst, with the times they were made.
    assert_eq!(b.put(Kind::Video, 10_040, 15_000), 11_040);
    assert_eq!(b.put(Kind::Video, 10_080, 15_000), 11_080);
    assert_eq!(b.line.jumps(), 0);
}

impl Bench {
    fn late(&mut self, kind: Kind, source_ms: i64, arrived_ms: u32) -> Placed {
        let now = self.t0 + MS * arrived_ms;
        self.line.place(kind, ms(source_ms), ms(source_ms), now)
    }

    /// Both tracks in time, sound muxed 300 ms behind the picture, for a second.
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
fn a_backlog_is_late_until_it_has_drained() {
    let mut b = Bench::running();
    // Ten seconds of stall, then all of them within half a second: 250 pictures, one every two milliseconds.
    for i in 0..250 {
        let placed = b.late(Kind::Video, 1_000 + i * 40, 11_000 + i as u32 * 2);
        assert_eq!(placed.late, MS * (10_000 - i as u32 * 38), "picture {i}");
    }
    let placed = b.late(Kind::Video, 11_520, 11_520);
    assert_eq!((placed.late, placed.dts), (Duration::ZERO, ms(12_520)));
    assert_eq!(b.line.jumps(), 0);
}

#[test]
fn a_source_that_stood_still_is_late_for_a_moment_only() {
    let mut b = Bench::running();
    let mut late = Vec::new();
    for i in 0..50 {
        let placed = b.late(Kind::Video, 1_000 + i * 40, 11_000 + i as u32 * 40);
        let sound = b.late(Kind::Audio, 1_000 + i * 40, 11_000 + i as u32 * 40 + 300);
        late.push(placed.late.max(sound.late));
        if i > 30 {
            assert_eq!(
                (placed.dts, sound.dts),
                (ms(12_000 + i * 40), ms(12_000 + i * 40)),
                "media time is real time again"
            );
        }
    }
    assert_eq!(late.iter().position(Duration::is_zero), Some(15), "{late:?}");
    assert!(late[16..].iter().all(|l| *l < LATE), "{late:?}");
}

#[test]
fn what_comes_a_second_at_a_time_after_a_break_is_not_late_for_ever() {
    let mut b = Bench::running();
    for i in 0..200 {
        // Half a second later than before the break, at the least.
        let arrived = 1_000 + (i as u32 / 25 + 1) * 1_000 + 500;
        let late = b.late(Kind::Video, 1_000 + i * 40, arrived).late;
        assert!(i < 100 || late <= MS * (24 - i as u32 % 25) * 40 + LATE / 10, "{i}: {late:?}");
    }
    assert_eq!(b.line.jumps(), 1);
}

#[test]
fn a_backlog_that_drains_with_a_gap_in_between_is_no_jump() {
    let mut b = Bench::running();
    // Three seconds of stall, two thirds of them at once, 1.6 s of nothing, and the rest.
    for i in 0..200u32 {
        let due = 1_000 + i * 40;
        let arrived = if i < 55 { 4_000 + i } else { due.max(5_655 + (i - 55)) };
        b.late(Kind::Video, i64::from(due), arrived);
    }
    assert_eq!(b.line.jumps(), 0);
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
        let placed = b.late(Kind::Video, i * 40, now);
        assert_eq!(placed.late, Duration::ZERO, "picture {i}");
        let off = signed_nanos(b.line.wall(placed.dts, b.t0), b.t0 + MS * now).abs();
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
fn a_track_that_starts_late_with_its_own_clock_is_put_beside_the_other() {
    let mut b = Bench::new();
    for i in 0..100 {
        b.put(Kind::Video, 90_000 + i * 40, i as u32 * 40);
    }
    let a = b.put(Kind::Audio, 0, 4_000);
    assert!((4_990..=5_010).contains(&a), "{a}");
}

#[test]
fn another_encoder_continues_where_the_first_stopped() {
    let mut b = Bench::new();
    for i in 0..100 {
        b.put(Kind::Video, i * 40, i as u32 * 40);
        b.put(Kind::Audio, i * 40, i as u32 * 40);
    }
    b.line.restart();
    let v = b.put(Kind::Video, 4_100, 6_000);
    let a = b.put(Kind::Audio, 4_110, 6_000);
    assert!((6_990..=7_010).contains(&v), "{v}");
    assert_eq!(a - v, 10);
}

#[test]
fn a_stamp_gone_astray_parts_nothing() {
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
fn steps_back_at_the_limit_of_jitter_part_nothing() {
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
fn a_takeover_within_the_first_second_parts_nothing() {
    let mut b = Bench::new();
    for i in 0..20 {
        b.put(Kind::Video, i * 40, i as u32 * 40);
    }
    b.line.restart();
    let a = b.put(Kind::Audio, 0, 2_000);
    let v = b.put(Kind::Video, 10, 2_010);
    assert_eq!(v - a, 10);
    assert!((2_990..=3_010).contains(&a), "{a}");
}

#[test]
fn composition_times_survive_and_nonsense_ones_do_not() {
    let mut b = Bench::new();
    let p = b.line.place(Kind::Video, ms(0), ms(80), b.t0);
    assert_eq!((p.pts - p.dts).as_millis(), 80);
    let p = b.line.place(Kind::Video, ms(40), ms(3_600_000), b.t0 + MS * 40);
    assert_eq!(p.pts, p.dts);
}

#[test]
fn the_wall_clock_follows_an_encoder_that_runs_fast_or_slow() {
    for ppm in [-150i64, 150] {
        let mut b = Bench::new();
        let mut last = (MediaTime::ZERO, b.t0);
        for i in 0..90_000u64 {
            // 40 ms of the encoder are not quite 40 ms of ours; every tenth frame is 30 ms late on top.
            let ours = Duration::from_nanos((i * 40_000_000).saturating_add_signed(i as i64 * 40 * ppm));
            let now = b.t0 + ours + if i % 10 == 3 { 30 * MS } else { Duration::ZERO };
            let p = b.line.place(Kind::Video, ms(i as i64 * 40), ms(i as i64 * 40), now);
            last = (p.dts, now);
        }
        let off = signed_nanos(b.line.wall(last.0, last.1), last.1) / 1_000_000;
        assert!(off.abs() < 40, "{off} ms off after an hour at {ppm} ppm");
        assert_eq!(b.line.jumps(), 0);
    }
}

proptest! {
    #[test]
    fn time_never_goes_back_and_never_panics(
        frames in proptest::collection::vec((any::<bool>(), any::<i64>(), any::<i64>(), 0u32..5_000), 1..200),
    ) {
        let mut b = Bench::new();
        let (mut audio, mut video, mut now) = (None, None, b.t0);
        for (is_audio, dts, pts, wait) in frames {
            now += MS * wait;
            let kind = if is_audio { Kind::Audio } else { Kind::Video };
            let p = b.line.place(kind, MediaTime::from_nanos(dts), MediaTime::from_nanos(pts), now);
            let last = if is_audio { &mut audio } else { &mut video };
            prop_assert!(last.is_none_or(|l| p.dts > l), "{last:?} then {p:?}");
            prop_assert!(p.pts >= MediaTime::ZERO);
            // No matter what stamps say, media never runs far ahead of the time that passed.
            let passed = (now - b.t0).as_millis() as i64;
            prop_assert!(p.dts.as_millis() <= passed + 1_000 + 200 * 2_001, "{p:?} after {passed} ms");
            *last = Some(p.dts);
            let _ = b.line.wall(p.pts, now);
        }
    }
}
