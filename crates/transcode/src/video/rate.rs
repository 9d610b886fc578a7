//! Pictures a second: the limit that the job sets, what the source says, and the rate that really comes.

use media::codec_config::avc;
use model::{MediaTime, VideoCodec, VideoConfig};
use std::ops::RangeInclusive;
use std::time::Duration;

/// How much earlier than its turn a picture may come, as a part of the interval: RTMP's whole milliseconds move a picture by
/// up to a millisecond of 33, and encoders jitter by some more.
const EARLY: i64 = 4;

/// Drops pictures above a rate. It never makes one: viewers' players repeat pictures without help.
#[derive(Debug)]
pub(crate) struct Limit {
    interval: i64,
    due: Option<i64>,
}

impl Limit {
    /// At most `rate` pictures a second; no limit if that is no positive number.
    pub(crate) fn new(rate: f64) -> Self {
        let interval =
            if rate > 0.0 { Duration::try_from_secs_f64(rate.recip()).unwrap_or_default() } else { Duration::ZERO };
        Self { interval: i64::try_from(interval.as_nanos()).unwrap_or(0), due: None }
    }

    /// Whether the picture to be shown at `pts` is within the rate.
    pub(crate) fn admits(&mut self, pts: MediaTime) -> bool {
        let pts = pts.as_nanos();
        // A time far before its turn is a jump back of the timeline, from which counting starts again.
        let due = self.due.filter(|due| pts > due.saturating_sub(self.interval.saturating_mul(4))).unwrap_or(pts);
        if pts < due.saturating_sub(self.interval / EARLY) {
            return false;
        }
        // What was not used for longer than one interval is lost: a gap is not followed by a burst.
        self.due = Some(due.max(pts.saturating_sub(self.interval)).saturating_add(self.interval));
        true
    }
}

/// Measures pictures a second over spans of media time.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    start: Option<MediaTime>,
    pictures: u32,
}

/// Long enough that whole-millisecond timestamps matter by less than a thousandth.
const SPAN: Duration = Duration::from_secs(2);

impl Meter {
    /// Takes a picture's time; now and then gives the rate of the span that it ends.
    pub(crate) fn measure(&mut self, pts: MediaTime) -> Option<f64> {
        let passed = self.start.and_then(|start| pts.since(start));
        match passed {
            // The first picture, or a jump back of the timeline.
            None => (self.start, self.pictures) = (Some(pts), 0),
            Some(passed) => {
                self.pictures += 1;
                if passed >= SPAN {
                    let rate = f64::from(self.pictures) / passed.as_secs_f64();
                    (self.start, self.pictures) = (Some(pts), 0);
                    return Some(rate);
                }
            }
        }
        None
    }
}

/// Rates outside of these are garbage in a header, or a clock that has nothing to do with pictures.
const PLAUSIBLE: RangeInclusive<f64> = 0.1..=480.0;

/// A measured rate is told again when it differs by more than this: variable rates differ a little in each span.
const CHANGE: f64 = 0.1;

/// The source's rate: what its configuration declares, else what is measured. Decoders are not asked. They repeat what they are told,
/// and with nothing to repeat libav's of GStreamer 1.26 make one up (25, for any H.264).
#[derive(Debug, Default)]
pub(crate) struct SourceRate {
    declared: Option<f64>,
    measured: Option<f64>,
    meter: Meter,
}

impl SourceRate {
    /// A new configuration begins.
    pub(crate) fn configure(&mut self, config: &VideoConfig) {
        let declared = match config.codec {
            VideoCodec::H264 => avc::frame_rate(&config.record),
            _ => None,
        };
        *self = Self { declared: declared.filter(|rate| PLAUSIBLE.contains(rate)), ..Self::default() };
    }

    /// The rate, as far as it is known with the picture shown at `pts`.
    pub(crate) fn at(&mut self, pts: MediaTime) -> Option<f64> {
        if self.declared.is_some() {
            return self.declared;
        }
        if let Some(rate) = self.meter.measure(pts).filter(|rate| PLAUSIBLE.contains(rate))
            && self.measured.is_none_or(|before| (rate - before).abs() > before * CHANGE)
        {
            self.measured = Some((rate * 100.0).round() / 100.0);
        }
        self.measured
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Times of `n` pictures at `rate`, in whole milliseconds as RTMP has them.
    fn millis(rate: f64, n: u32) -> impl Iterator<Item = MediaTime> {
        (0..n).map(move |i| MediaTime::from_millis((f64::from(i) * 1000.0 / rate).round() as i64))
    }

    fn admitted(limit: f64, rate: f64) -> usize {
        let mut l = Limit::new(limit);
        millis(rate, 600).filter(|t| l.admits(*t)).count()
    }

    #[test]
    fn what_is_within_the_rate_passes_whole() {
        for rate in [1.0, 15.0, 24000.0 / 1001.0, 25.0, 30000.0 / 1001.0, 30.0] {
            assert_eq!(admitted(30.0, rate), 600, "{rate}");
        }
        assert_eq!(admitted(0.0, 240.0), 600);
        assert_eq!(admitted(f64::NAN, 240.0), 600);
    }

    #[test]
    fn what_is_above_is_thinned_to_the_rate() {
        assert_eq!(admitted(30.0, 60.0), 300);
        assert_eq!(admitted(25.0, 50.0), 300);
        assert!((358..=362).contains(&admitted(30.0, 50.0)));
        assert!((145..=155).contains(&admitted(30.0, 120.0)));
    }

    #[test]
    fn a_jump_of_the_timeline_does_not_stop_the_pictures() {
        let mut l = Limit::new(30.0);
        for t in [0, 33, 67, 1_000_000, 1_000_033, 50, 83] {
            assert!(l.admits(MediaTime::from_millis(t)), "{t}");
        }
    }

    #[test]
    fn the_meter_tells_the_rate() {
        for rate in [5.0, 25.0, 29.97, 59.94] {
            let mut meter = Meter::default();
            let got = millis(rate, 600).find_map(|t| meter.measure(t)).unwrap();
            assert!((got - rate).abs() < rate * 0.002, "{got} for {rate}");
        }
    }

    fn source(codec: VideoCodec, record: &'static [u8]) -> SourceRate {
        let mut source = SourceRate::default();
        source.configure(&VideoConfig::new(codec, bytes::Bytes::from_static(record), None));
        source
    }

    /// avcC with x264's parameter set for 30 pictures a second.
    const DECLARED: &[u8] = b"\x01\xf4\x00\x0d\xff\xe1\x00\x19\x67\xf4\x00\x0d\x91\x9b\x28\x28\x33\xf1\xb8\x08\x80\x00\x00\x03\x00\x80\x00\x00\x1e\x07\x8a\x14\xcb\x00";

    #[test]
    fn a_declared_rate_is_known_at_once_and_stays() {
        let mut source = source(VideoCodec::H264, DECLARED);
        assert!(millis(15.0, 200).all(|t| source.at(t) == Some(30.0)));
    }

    #[test]
    fn a_rate_that_nothing_declares_is_measured() {
        let mut source = source(VideoCodec::Flv1, b"");
        let rates: Vec<f64> = millis(15.0, 200).filter_map(|t| source.at(t)).collect();
        assert!(rates.iter().all(|r| (r - 15.0).abs() < 0.05), "{rates:?}");
        // Not known before two seconds are over.
        assert!((160..=170).contains(&rates.len()), "{}", rates.len());
        // Another configuration is another source.
        source.configure(&VideoConfig::new(VideoCodec::H264, bytes::Bytes::from_static(DECLARED), None));
        assert_eq!(source.at(MediaTime::from_millis(20_000)), Some(30.0));
    }

    #[test]
    fn a_measured_rate_follows_changes_but_not_jitter() {
        let mut source = source(VideoCodec::Vp8, b"");
        let (mut told, mut at) = (Vec::new(), 0.0);
        for rate in [30.0, 29.0, 31.0, 20.0] {
            for _ in 0..150 {
                at += 1000.0 / rate;
                source.at(MediaTime::from_millis(at as i64));
            }
            told.push(source.measured.unwrap().round());
        }
        assert_eq!(told, [30.0, 30.0, 30.0, 20.0]);
    }

    proptest! {
        #[test]
        fn jitter_of_a_fifth_of_the_interval_costs_no_picture(jitter in proptest::collection::vec(-6i64..=6, 300)) {
            let mut l = Limit::new(30.0);
            let passed = jitter.iter().enumerate().filter(|(i, j)| {
                l.admits(MediaTime::from_millis((*i as i64 * 1000 + 500) / 30 + **j))
            }).count();
            prop_assert!(passed >= 285, "{passed}");
        }
    }
}
