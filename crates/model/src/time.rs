//! Media time: one signed scale in nanoseconds, for everything between a source's timestamps and RTP timestamps.

use serde::{Deserialize, Serialize};
use std::ops::{Add, Sub};
use std::time::Duration;

/// A point on a timeline, in nanoseconds. Signed: a source may start below its own zero (B-frames), and the difference of two
/// points is a point too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MediaTime(i64);

impl MediaTime {
    /// The timeline's zero.
    pub const ZERO: Self = Self(0);

    /// From nanoseconds.
    pub const fn from_nanos(ns: i64) -> Self {
        Self(ns)
    }

    /// From milliseconds, the unit of RTMP (saturating).
    pub const fn from_millis(ms: i64) -> Self {
        Self(ms.saturating_mul(1_000_000))
    }

    /// From ticks of a clock with `rate` ticks a second (90 000 for video RTP and MPEG-TS, 48 000 for Opus); saturating.
    /// `rate` must not be 0.
    pub fn from_ticks(ticks: i64, rate: u32) -> Self {
        let ns = i128::from(ticks) * 1_000_000_000 / i128::from(rate);
        Self(ns.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64)
    }

    /// Nanoseconds.
    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// Whole milliseconds, rounded towards zero.
    pub const fn as_millis(self) -> i64 {
        self.0 / 1_000_000
    }

    /// Ticks of a clock with `rate` ticks a second, rounded to the nearest. The low 32 bits are an RTP timestamp.
    pub fn as_ticks(self, rate: u32) -> i64 {
        let t = i128::from(self.0) * i128::from(rate);
        ((t + t.signum() * 500_000_000) / 1_000_000_000) as i64
    }

    /// The time from `earlier` to this point; `None` if `earlier` is later.
    pub fn since(self, earlier: Self) -> Option<Duration> {
        u64::try_from(self.0.saturating_sub(earlier.0)).ok().map(Duration::from_nanos)
    }

    /// This point as a duration from zero; zero for points before it.
    pub fn to_duration(self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0).unwrap_or(0))
    }
}

impl Add for MediaTime {
    type Output = Self;
    fn add(self, o: Self) -> Self {
        Self(self.0.saturating_add(o.0))
    }
}

impl Sub for MediaTime {
    type Output = Self;
    fn sub(self, o: Self) -> Self {
        Self(self.0.saturating_sub(o.0))
    }
}

impl From<Duration> for MediaTime {
    fn from(d: Duration) -> Self {
        Self(i64::try_from(d.as_nanos()).unwrap_or(i64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_round_trip_at_rtp_rates() {
        for rate in [48_000, 90_000, 44_100] {
            for ticks in [-90_001, -1, 0, 1, 3_003, 90_000, 1 << 40] {
                assert_eq!(MediaTime::from_ticks(ticks, rate).as_ticks(rate), ticks, "{ticks} at {rate}");
            }
        }
    }

    #[test]
    fn differences_may_be_negative_and_extremes_saturate() {
        assert_eq!((MediaTime::from_millis(1) - MediaTime::from_millis(3)).as_millis(), -2);
        assert_eq!(MediaTime::from_millis(i64::MAX) + MediaTime::from_millis(1), MediaTime::from_nanos(i64::MAX));
        assert_eq!(MediaTime::from_millis(1).since(MediaTime::from_millis(3)), None);
    }
}
