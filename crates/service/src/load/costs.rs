//! What sessions cost when they are watched: estimated from what they are asked to encode, then measured by what their workers use.
//! Pure: what was read from `/proc` goes in with the time.
//!
//! An unwatched session rests and uses next to nothing, yet viewers may come at any moment. So a session counts with what it uses
//! while all of its layers are wanted, or would.

use super::process::ProcessUsage;
use model::{EncodedVideo, IngressSpec, InputKind, Layer, VideoEncoding};
use session::Work;
use std::time::Duration;
use tokio::time::Instant;

/// Cores that a worker takes for a million pixels a second of H.264, all layers of a session together, with what decodes and scales
/// for them, until this machine's own figure is known. Measured: 0.40 cores for 720p25 in three layers, which is 30.2 million (one
/// core of a Xeon at 2.1 GHz).
const H264: f64 = 0.0135;
/// The same for VP8. Measured: 0.36 cores for the same source.
const VP8: f64 = 0.012;
/// How far this machine's own figure may lie from those, either way. Chosen: a sixteenfold range holds all that such programs run on.
const RANGE: f64 = 4.0;
/// Cores that a session takes beside its worker, and all that one takes without transcoding. Measured: 0.02 to 0.04 in this process,
/// and 0.02 in the worker that demultiplexes.
const BESIDE: f64 = 0.05;
/// Without pictures nobody knows how many there are a second; encoders send 30 by default.
const USUAL_FRAME_RATE: f64 = 30.0;

/// Bytes of memory that a session takes of its own whatever its pictures: measured as 25 to 45 MiB.
const MEMORY: u64 = 45 << 20;
/// And for each pixel of its largest picture. Measured: 0.3 GiB for 4K, 0.8 GiB for 8K.
const MEMORY_PER_PIXEL: u64 = 32;

/// For how long all layers have to be wanted for a measurement: an encoder's load follows its pictures over a few seconds.
const WINDOW: Duration = Duration::from_secs(5);
/// How much of a measurement counts where it is above what was known, and below. What a session needed once it may need again.
const RISE: f64 = 0.5;
const FALL: f64 = 0.1;

/// What a session costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Cost {
    /// Cores.
    pub(crate) cpu: f64,
    /// Bytes.
    pub(crate) memory: u64,
}

/// What a session is to encode when all of it is wanted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Demand {
    /// `None`: nothing is encoded.
    codec: Option<EncodedVideo>,
    /// Pixels a second of all layers.
    pixels: f64,
    /// Pixels of the largest picture.
    largest: u64,
}

impl Demand {
    /// Nothing is encoded.
    pub(crate) const PASSTHROUGH: Self = Self { codec: None, pixels: 0.0, largest: 0 };

    /// As configured: the source's size and rate are not known yet, and are taken to be as large as layers can be.
    pub(crate) fn of(spec: &IngressSpec) -> Self {
        if spec.input == InputKind::Whip && !spec.transcode {
            return Self::PASSTHROUGH;
        }
        Self::encoded_as(&spec.video.encoding)
    }

    /// The same, where this is the encoding.
    pub(crate) fn encoded_as(encoding: &VideoEncoding) -> Self {
        let frame_rate = if encoding.max_frame_rate > 0.0 { encoding.max_frame_rate } else { USUAL_FRAME_RATE };
        Self::encoded(encoding.codec, &encoding.layers, frame_rate)
    }

    fn encoded(codec: EncodedVideo, layers: &[Layer], frame_rate: f64) -> Self {
        let area = |layer: &Layer| u64::from(layer.width) * u64::from(layer.height);
        let pixels = layers.iter().map(area).sum::<u64>() as f64 * frame_rate;
        Self { codec: Some(codec), pixels, largest: layers.iter().map(area).max().unwrap_or(0) }
    }

    fn memory(&self) -> u64 {
        self.codec.map_or(0, |_| MEMORY + self.largest * MEMORY_PER_PIXEL)
    }
}

/// What encoding costs on this machine.
#[derive(Clone, Debug)]
pub(crate) struct Rates {
    h264: f64,
    vp8: f64,
}

impl Default for Rates {
    fn default() -> Self {
        Self { h264: H264, vp8: VP8 }
    }
}

impl Rates {
    /// What a session is expected to cost.
    pub(crate) fn cost(&self, demand: &Demand) -> Cost {
        let rate = match demand.codec {
            None => 0.0,
            Some(EncodedVideo::H264) => self.h264,
            Some(EncodedVideo::Vp8) => self.vp8,
        };
        Cost { cpu: rate * demand.pixels / 1e6 + BESIDE, memory: demand.memory() }
    }

    /// A worker took so many cores for this.
    fn learn(&mut self, demand: &Demand, cores: f64) {
        let (rate, usual) = match demand.codec {
            Some(EncodedVideo::H264) => (&mut self.h264, H264),
            Some(EncodedVideo::Vp8) => (&mut self.vp8, VP8),
            None => return,
        };
        if demand.pixels > 0.0 {
            let measured = (cores * 1e6 / demand.pixels).clamp(usual / RANGE, usual * RANGE);
            *rate = towards(*rate, measured);
        }
    }
}

/// What one session costs, from its beginning to its end.
#[derive(Debug)]
pub(crate) struct Meter {
    demand: Demand,
    codec: EncodedVideo,
    /// 0 where none is configured.
    max_frame_rate: f64,
    work: Work,
    stalled: bool,
    /// Cores of its worker while all layers are wanted.
    measured: Option<f64>,
    window: Option<(Instant, ProcessUsage)>,
    /// Bytes that its worker has now.
    memory: u64,
}

impl Meter {
    /// Of a session that begins.
    pub(crate) fn new(spec: &IngressSpec) -> Self {
        Self {
            demand: Demand::of(spec),
            codec: spec.video.encoding.codec,
            max_frame_rate: spec.video.encoding.max_frame_rate,
            work: Work::default(),
            stalled: false,
            measured: None,
            window: None,
            memory: 0,
        }
    }

    /// The session's worker is asked for this from now on.
    pub(crate) fn works(&mut self, work: Work) {
        let same = (&self.work.layers, self.work.frame_rate) == (&work.layers, work.frame_rate);
        if !same && !work.layers.is_empty() {
            let rate = work.frame_rate.filter(|rate| *rate > 0.0).unwrap_or(USUAL_FRAME_RATE);
            let limit = if self.max_frame_rate > 0.0 { self.max_frame_rate } else { rate };
            self.demand = Demand::encoded(self.codec, &work.layers, rate.min(limit));
            self.measured = None;
        }
        (self.work, self.window) = (work, None);
    }

    /// Whether the source has sent nothing for some time.
    pub(crate) fn stalled(&mut self, stalled: bool) {
        if std::mem::replace(&mut self.stalled, stalled) != stalled {
            self.window = None;
        }
    }

    /// The process to look at, if there is one.
    pub(crate) fn worker(&self) -> Option<u32> {
        self.work.worker
    }

    /// Its worker has used this. Where the machine has nothing to spare, `starved`, it would have used more.
    pub(crate) fn sample(&mut self, usage: ProcessUsage, starved: bool, rates: &mut Rates, now: Instant) {
        self.memory = usage.memory;
        let whole = !self.work.layers.is_empty() && self.work.wanted.iter().all(|wanted| *wanted) && !self.stalled;
        let Some((since, before)) = self.window.filter(|_| whole) else {
            self.window = whole.then_some((now, usage));
            return;
        };
        let elapsed = now - since;
        if elapsed < WINDOW {
            return;
        }
        self.window = Some((now, usage));
        let cores = (usage.cpu - before.cpu).max(0.0) / elapsed.as_secs_f64();
        let known = self.measured.unwrap_or_else(|| rates.cost(&self.demand).cpu - BESIDE);
        if starved && cores < known {
            return;
        }
        self.measured = Some(self.measured.map_or(cores, |known| towards(known, cores)));
        rates.learn(&self.demand, cores);
    }

    /// What it costs when all of it is wanted.
    pub(crate) fn cost(&self, rates: &Rates) -> Cost {
        let expected = rates.cost(&self.demand);
        Cost { cpu: self.measured.map_or(expected.cpu, |cores| cores + BESIDE), ..expected }
    }

    /// Bytes that it is still to take.
    pub(crate) fn memory_to_come(&self) -> u64 {
        self.demand.memory().saturating_sub(self.memory)
    }
}

/// From what is known towards what is measured: up fast, down slowly.
fn towards(known: f64, measured: f64) -> f64 {
    let share = if measured > known { RISE } else { FALL };
    known + share * (measured - known)
}

#[cfg(test)]
mod tests;
