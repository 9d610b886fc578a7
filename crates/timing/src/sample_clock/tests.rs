//! Audio with all the faults that timestamps have.

use super::*;
use proptest::prelude::*;

/// Joins audio as the encoder does, and counts restarts and stretched samples.
struct Player {
    clock: SampleClock,
    start: MediaTime,
    length: i64,
    jumps: usize,
    stretched: i64,
}

impl Player {
    fn new() -> Self {
        Self { clock: SampleClock::default(), start: MediaTime::ZERO, length: 0, jumps: 0, stretched: 0 }
    }

    fn position(&self) -> MediaTime {
        self.start + MediaTime::from_ticks(self.length, RATE)
    }

    /// Plays `samples` samples that the source wants at `pts`; gives by how many milliseconds they are played later.
    fn play(&mut self, pts: MediaTime, samples: i64) -> f64 {
        let join = self.clock.next(pts, samples as usize);
        if let Join::Restart(at) = join {
            self.jumps += 1;
            (self.start, self.length) = (at, 0);
        }
        let off = self.position() - pts;
        self.length += match join {
            Join::Restart(_) => samples,
            Join::Continue(by) => {
                self.stretched += i64::from(by);
                samples + i64::from(by)
            }
            Join::Trim(n) => samples - n as i64,
        };
        off.as_nanos() as f64 / 1e6
    }
}

/// Whole milliseconds, as RTMP has them.
fn rounded(ns: f64) -> MediaTime {
    MediaTime::from_millis((ns / 1e6).round() as i64)
}

/// AAC: 1024 samples at 44.1 kHz are 1114 or 1115 at 48 kHz.
fn aac(i: i64) -> (f64, i64) {
    let at = |i: i64| i * 1024 * 48_000 / 44_100;
    (i as f64 * 1024.0 / 44_100.0 * 1e9, at(i + 1) - at(i))
}

#[test]
fn rounded_timestamps_stretch_nothing_for_ten_hours() {
    let mut p = Player::new();
    for i in 0..(36_000 * 44_100 / 1024) {
        let (ns, samples) = aac(i);
        let off = p.play(rounded(ns), samples);
        assert!(off.abs() < 1.1, "{off} ms off at packet {i}");
    }
    assert_eq!((p.jumps, p.stretched), (1, 0));
}

#[test]
fn drift_is_tracked_for_hours_without_a_jump() {
    for ppm in [-300.0, -50.0, 50.0, 300.0] {
        let mut p = Player::new();
        for i in 0..(3 * 3600 * 44_100 / 1024) {
            let (ns, samples) = aac(i);
            let off = p.play(rounded(ns * (1.0 + ppm / 1e6)), samples);
            assert!(off.abs() < 10.0, "{off} ms off at packet {i}, {ppm} ppm");
        }
        assert_eq!(p.jumps, 1);
    }
}

#[test]
fn a_gap_is_followed_and_not_filled() {
    let mut p = Player::new();
    for i in 0..1000 {
        let (ns, samples) = aac(i);
        let gap = if i >= 500 { 300e9 } else { 0.0 };
        let off = p.play(rounded(ns + gap), samples);
        assert!(off.abs() < 1.1);
    }
    assert_eq!(p.jumps, 2);
}

#[test]
fn a_small_gap_is_worked_off_within_seconds() {
    let mut p = Player::new();
    for i in 0..1500 {
        let (ns, samples) = aac(i);
        let gap = if i >= 500 { 35e6 } else { 0.0 };
        let off = p.play(rounded(ns + gap), samples);
        assert!(off.abs() < 40.0);
        if i > 1400 {
            assert!(off.abs() < 5.0, "{off} ms at {i}");
        }
    }
    assert_eq!(p.jumps, 1);
}

#[test]
fn a_start_stamped_late_is_worked_off_at_once() {
    // As an RTSP client stamps: by when the first packets came, and within a second by when the quickest did.
    for off in [-47.0, -30.0, -15.0, 15.0, 30.0] {
        let mut p = Player::new();
        for i in 0..250 {
            let (ns, samples) = aac(i);
            let learnt = (i as f64 / 40.0).min(1.0) * off * 1e6;
            let off = p.play(rounded(1e9 + ns + learnt), samples);
            assert!(i < 150 || off.abs() < 5.0, "{off} ms off three and a half seconds after, at {i}");
        }
        // A whole jump would be heard.
        assert_eq!(p.jumps, 1);
    }
}

#[test]
fn one_late_packet_is_jitter_and_several_are_a_gap() {
    let mut p = Player::new();
    for i in 0..600 {
        let (ns, samples) = aac(i);
        let late = if i == 100 {
            90e6
        } else if i >= 300 {
            60e6
        } else {
            0.0
        };
        let off = p.play(rounded(ns + late), samples);
        assert!(i < 310 || off.abs() < 5.0);
    }
    assert_eq!(p.jumps, 2);
}

#[test]
fn repeated_audio_is_trimmed_and_a_restart_followed() {
    let mut p = Player::new();
    for i in (0..100).chain(90..300) {
        let (ns, samples) = aac(i);
        let before = p.position();
        p.play(rounded(ns), samples);
        assert!(p.position() >= before);
    }
    assert_eq!(p.jumps, 1);
    for i in 0..100 {
        let (ns, samples) = aac(i);
        p.play(rounded(ns), samples);
    }
    assert_eq!(p.jumps, 2);
}

#[test]
fn stretching_keeps_the_wave() {
    let wave: Vec<i16> = (0..960).flat_map(|i| [(f64::sin(f64::from(i) * 0.05) * 10_000.0) as i16, 100]).collect();
    for by in [-9, -1, 0, 1, 9] {
        let out = stretch(&wave, 2, by);
        assert_eq!(out.len() as i64, 1920 + 2 * i64::from(by));
        assert_eq!((out[0], out[1]), (wave[0], 100));
        for (i, s) in out.iter().step_by(2).enumerate() {
            let at = i as f64 * 959.0 / (959.0 + f64::from(by));
            assert!((f64::from(*s) - f64::sin(at * 0.05) * 10_000.0).abs() < 20.0);
        }
        assert!(out.iter().skip(1).step_by(2).all(|s| (99..=100).contains(s)));
    }
    assert_eq!(stretch(&[], 2, 1), Vec::<i16>::new());
    assert_eq!(stretch(&[1, 2], 2, -1), [1, 2]);
}

proptest! {
    #[test]
    fn any_times_and_lengths_are_joined(
        steps in proptest::collection::vec((any::<i64>(), 0i64..5000), 1..200),
    ) {
        let mut p = Player::new();
        for (pts, samples) in steps {
            p.play(MediaTime::from_nanos(pts / 4), samples);
        }
    }

    #[test]
    fn thirty_ms_of_jitter_are_no_jump(jitter in proptest::collection::vec(-30e6f64..30e6, 500)) {
        let mut p = Player::new();
        for (i, j) in jitter.into_iter().enumerate() {
            let (ns, samples) = aac(i as i64);
            p.play(rounded(ns + 1e9 + if i == 0 { 0.0 } else { j }), samples);
        }
        prop_assert_eq!(p.jumps, 1);
    }
}
