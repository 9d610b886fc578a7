//! Maps decoded audio to the session's timeline by counting samples.
//!
//! The source's timestamps are only compared with the count: RTMP rounds them to milliseconds and encoders jitter, and audio moved
//! by a millisecond is a click. A lasting distance is followed: drift by stretching the audio by single samples, a jump by jumping.
//!
//! **May assume** of [`crate::ingest_clock`]: audio's PTS are on the session's timeline; they may still jitter, drift and jump.

use crate::av_alignment::NOTICEABLE_OFFSET;
use model::MediaTime;

/// Samples a second: Opus' rate, at which all audio is counted here.
pub const RATE: u32 = 48_000;

/// How much audio (nanoseconds) must be off by more than [`NOTICEABLE_OFFSET`] before it counts as a jump: an encoder that hands over
/// several packets at once gives them one timestamp.
const JUMP_CONFIRMED_AFTER: i64 = 100_000_000;
/// A distance that no jitter makes, in nanoseconds: followed at once.
const CERTAIN_JUMP: i64 = 200_000_000;
/// Audio repeated by up to this much (nanoseconds) is trimmed; a longer step back is a new timeline.
const MAX_REPEAT: i64 = 1_000_000_000;
/// A mean distance up to this (nanoseconds) is the rounding of timestamps, not drift.
const ROUNDING: f64 = 1_500_000.0;
/// Period over which the distance is averaged, and over which what remains of it is worked off, in nanoseconds.
const AVERAGED_OVER: f64 = 4e9;
/// The same until [`AVERAGED_OVER`] has passed: the first timestamps of a live source are tens of milliseconds off (a receiver learns a
/// sender's clock from the fastest packets, and only after some), and all counting starts there.
const AVERAGED_OVER_AT_FIRST: f64 = 0.5e9;
/// The largest share by which audio is stretched: three times what the longest distance needs, a sixth of a semitone.
const MAX_STRETCH: f64 = 0.01;
/// The same until [`AVERAGED_OVER`] has passed: a third of a semitone, for two seconds at most.
const MAX_STRETCH_AT_FIRST: f64 = 0.02;

/// How a piece of audio joins what came before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Join {
    /// A new run begins at this PTS; what came before ends.
    Restart(MediaTime),
    /// It continues, stretched by this many samples (shortened, if negative).
    Continue(i32),
    /// It continues, without this many samples at its start, which were there before.
    Trim(usize),
}

/// See the [module](self).
#[derive(Debug, Default)]
pub struct SampleClock {
    /// PTS of the run's first sample.
    start: Option<MediaTime>,
    /// Samples of the run so far.
    samples: i64,
    /// Mean distance of the source's timestamps from the count, in nanoseconds.
    mean: f64,
    /// Samples that the mean asks to add and that are not added yet.
    pending: f64,
    /// How much audio in a row was off by more than [`NOTICEABLE_OFFSET`], in nanoseconds.
    apart: i64,
}

impl SampleClock {
    /// Takes `samples` samples whose first has this PTS by the source.
    pub fn next(&mut self, pts: MediaTime, samples: usize) -> Join {
        let count = i64::try_from(samples).unwrap_or(i64::MAX);
        let Some(start) = self.start else { return self.restart(pts, count) };
        let expected = start + MediaTime::from_ticks(self.samples, RATE);
        let off = (pts - expected).as_nanos();
        let length = MediaTime::from_ticks(count, RATE).as_nanos();
        self.apart = if off.abs() > NOTICEABLE_OFFSET { self.apart.saturating_add(length) } else { 0 };
        if off.abs() <= NOTICEABLE_OFFSET || (off.abs() < CERTAIN_JUMP && self.apart < JUMP_CONFIRMED_AFTER) {
            return self.follow(off, count, length);
        }
        if !(-MAX_REPEAT..=0).contains(&off) {
            return self.restart(pts, count);
        }
        let repeated = MediaTime::from_nanos(-off).as_ticks(RATE).clamp(0, count);
        self.samples = self.samples.saturating_add(count - repeated);
        Join::Trim(usize::try_from(repeated).unwrap_or(samples))
    }

    fn restart(&mut self, pts: MediaTime, count: i64) -> Join {
        *self = Self { start: Some(pts), samples: count, ..Self::default() };
        Join::Restart(pts)
    }

    fn follow(&mut self, off: i64, count: i64, length: i64) -> Join {
        let heard = MediaTime::from_ticks(self.samples, RATE).as_nanos() as f64;
        let (settle, most) = match heard {
            AVERAGED_OVER.. => (AVERAGED_OVER, MAX_STRETCH),
            _ => (AVERAGED_OVER_AT_FIRST, MAX_STRETCH_AT_FIRST),
        };
        let share = (length as f64 / settle).min(1.0);
        self.mean += (off.clamp(-NOTICEABLE_OFFSET, NOTICEABLE_OFFSET) as f64 - self.mean) * share;
        let beyond = self.mean - self.mean.clamp(-ROUNDING, ROUNDING);
        self.pending += beyond * share * f64::from(RATE) / 1e9;
        let most = (count as f64 * most).floor().max(1.0);
        let stretch = self.pending.trunc().clamp(-most, most);
        self.pending -= stretch;
        self.mean -= stretch * 1e9 / f64::from(RATE);
        let stretch = stretch as i32;
        self.samples = self.samples.saturating_add(count).saturating_add(i64::from(stretch));
        Join::Continue(stretch)
    }
}

/// Stretches interleaved `samples` by `by` samples of each channel (shortens, if negative) by linear interpolation.
pub fn stretch(samples: &[i16], channels: usize, by: i32) -> Vec<i16> {
    let from = samples.len() / channels;
    let to = from.saturating_add_signed(by as isize);
    if from < 2 || to < 2 {
        return samples.to_vec();
    }
    let step = (from - 1) as f32 / (to - 1) as f32;
    let mut out = Vec::with_capacity(to * channels);
    for i in 0..to {
        let at = i as f32 * step;
        let left = (at as usize).min(from - 2);
        let part = at - left as f32;
        for c in 0..channels {
            let (a, b) = (f32::from(samples[left * channels + c]), f32::from(samples[(left + 1) * channels + c]));
            out.push((a + (b - a) * part) as i16);
        }
    }
    out
}

#[cfg(test)]
mod tests;
