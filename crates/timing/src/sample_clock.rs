//! Where decoded sound goes on the session's timeline.
//!
//! Sound is counted in samples and its source's timestamps are only compared with the count: RTMP rounds them to milliseconds
//! and encoders jitter, and a packet moved by a millisecond is a click. What stays off for longer is followed:
//! a clock that runs at another speed by stretching the sound by single samples, a jump by jumping.

use model::MediaTime;

/// Samples a second of all that is counted here: Opus' rate.
pub const RATE: u32 = 48_000;

/// The distance from which on picture and sound are seen to part (ITU-R BT.1359 gives 45 ms for sound that is early).
const APART: i64 = 40_000_000;
/// How much sound must be that far off before it counts as a jump: an encoder that hands over several packets at once gives
/// them one time.
const PATIENCE: i64 = 100_000_000;
/// A distance that no jitter makes: followed at once.
const JUMP: i64 = 200_000_000;
/// Sound that comes again, by up to this much, is left out; a longer way back is a new timeline.
const REPEAT: i64 = 1_000_000_000;
/// Within this a mean distance is the rounding of timestamps, not drift.
const ROUNDING: f64 = 1_500_000.0;
/// Time over which the distance is averaged, and over which what remains of it is worked off, in nanoseconds.
const SETTLE: f64 = 4e9;
/// The same until [`SETTLE`] has passed: the first stamps of a live line are tens of milliseconds off (a receiver knows a sender's
/// clock by the packets that came quickest, and only after some), and all counting starts there.
const SETTLE_AT_FIRST: f64 = 0.5e9;
/// How much longer or shorter sound may become: what the longest distance asks for three times over, a sixth of a semitone.
const MOST: f64 = 0.01;
/// The same until [`SETTLE`] has passed: a third of a semitone, for two seconds at the most.
const MOST_AT_FIRST: f64 = 0.02;

/// What to do with a piece of sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It begins here; what came before ends.
    At(MediaTime),
    /// It follows what came before, longer by this many samples (shorter, if negative).
    Next(i32),
    /// It follows what came before, without so many samples at its start.
    Without(usize),
}

/// Places one piece after the other.
#[derive(Debug, Default)]
pub struct Timeline {
    start: Option<MediaTime>,
    samples: i64,
    mean: f64,
    /// What the mean asks to be added, in samples, as far as it has not been.
    owed: f64,
    apart: i64,
}

impl Timeline {
    /// Takes `samples` samples of which the source says that they begin at `pts`.
    pub fn place(&mut self, pts: MediaTime, samples: usize) -> Place {
        let count = i64::try_from(samples).unwrap_or(i64::MAX);
        let Some(start) = self.start else { return self.start_at(pts, count) };
        let expected = start + MediaTime::from_ticks(self.samples, RATE);
        let off = (pts - expected).as_nanos();
        let length = MediaTime::from_ticks(count, RATE).as_nanos();
        self.apart = if off.abs() > APART { self.apart.saturating_add(length) } else { 0 };
        if off.abs() <= APART || (off.abs() < JUMP && self.apart < PATIENCE) {
            return self.follow(off, count, length);
        }
        if !(-REPEAT..=0).contains(&off) {
            return self.start_at(pts, count);
        }
        let repeated = MediaTime::from_nanos(-off).as_ticks(RATE).clamp(0, count);
        self.samples = self.samples.saturating_add(count - repeated);
        Place::Without(usize::try_from(repeated).unwrap_or(samples))
    }

    fn start_at(&mut self, pts: MediaTime, count: i64) -> Place {
        *self = Self { start: Some(pts), samples: count, ..Self::default() };
        Place::At(pts)
    }

    fn follow(&mut self, off: i64, count: i64, length: i64) -> Place {
        let heard = MediaTime::from_ticks(self.samples, RATE).as_nanos() as f64;
        let (settle, most) = match heard {
            SETTLE.. => (SETTLE, MOST),
            _ => (SETTLE_AT_FIRST, MOST_AT_FIRST),
        };
        let share = (length as f64 / settle).min(1.0);
        self.mean += (off.clamp(-APART, APART) as f64 - self.mean) * share;
        let beyond = self.mean - self.mean.clamp(-ROUNDING, ROUNDING);
        self.owed += beyond * share * f64::from(RATE) / 1e9;
        let most = (count as f64 * most).floor().max(1.0);
        let stretch = self.owed.trunc().clamp(-most, most);
        self.owed -= stretch;
        self.mean -= stretch * 1e9 / f64::from(RATE);
        let stretch = stretch as i32;
        self.samples = self.samples.saturating_add(count).saturating_add(i64::from(stretch));
        Place::Next(stretch)
    }
}

/// Makes interleaved `samples` longer by `by` samples of each channel (shorter, if negative) by moving all a little.
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
