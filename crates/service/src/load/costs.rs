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
/// And for each pixel of its largest picture, the source's or a layer's. Measured: 0.3 GiB for 4K, 0.8 GiB for 8K.
const MEMORY_PER_PIXEL: u64 = 32;

/// A session of fewer pixels a second is mostly sound and what is around the pictures: it teaches nothing about others. 360p at 15.
const TEACHING_PIXELS: f64 = 3.5e6;
/// The part of the highest layer's cost that counts where the source makes it. Chosen: it may have to be encoded again at any picture, but
/// of many sessions not of all at once.
const PASSED_SHARE: f64 = 0.25;

/// For how long all layers have to be wanted for a measurement: an encoder's load follows its pictures over a few seconds.
const WINDOW: Duration = Duration::from_secs(5);
/// How much of a measurement counts where it is above what was known, and below. What a session needed once it may need again.
const SESSION: (f64, f64) = (0.5, 0.1);
/// The same for what is expected of others: one session tells little about the next.
const MACHINE: (f64, f64) = (0.1, 0.05);

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
        Cost { cpu: self.encoding(demand) + BESIDE, memory: demand.memory() }
    }

    /// Cores that its worker is expected to take.
    fn encoding(&self, demand: &Demand) -> f64 {
        let rate = match demand.codec {
            None => 0.0,
            Some(EncodedVideo::H264) => self.h264,
            Some(EncodedVideo::Vp8) => self.vp8,
        };
        rate * demand.pixels / 1e6
    }

    /// A worker took so many cores for this.
    fn learn(&mut self, demand: &Demand, cores: f64) {
        let (rate, usual) = match demand.codec {
            Some(EncodedVideo::H264) => (&mut self.h264, H264),
            Some(EncodedVideo::Vp8) => (&mut self.vp8, VP8),
            None => return,
        };
        if demand.pixels >= TEACHING_PIXELS {
            let measured = (cores * 1e6 / demand.pixels).clamp(usual / RANGE, usual * RANGE);
            *rate = towards(*rate, measured, MACHINE);
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
    window: Option<Window>,
    /// The source makes the highest layer itself.
    passes: bool,
    /// Bytes that its worker has now.
    memory: u64,
}

/// What was there at the beginning of a measurement.
#[derive(Clone, Copy, Debug)]
struct Window {
    since: Instant,
    usage: ProcessUsage,
    pictures: u64,
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
            passes: false,
            memory: 0,
        }
    }

    /// The session's worker is asked for this from now on.
    pub(crate) fn works(&mut self, work: Work) {
        let same =
            (&self.work.layers, self.work.size, self.work.frame_rate) == (&work.layers, work.size, work.frame_rate);
        if self.work.worker != work.worker {
            self.memory = 0;
        }
        (self.work, self.window) = (work, None);
        if !same && !self.work.layers.is_empty() {
            self.demand = self.asked(self.work.frame_rate.filter(|rate| *rate > 0.0).unwrap_or(USUAL_FRAME_RATE));
            self.measured = None;
        }
    }

    /// Whether the source makes the highest layer itself.
    pub(crate) fn passes(&mut self, passes: bool) {
        if std::mem::replace(&mut self.passes, passes) != passes {
            (self.measured, self.window) = (None, None);
        }
    }

    /// What is asked for, with so many pictures a second.
    fn asked(&self, rate: f64) -> Demand {
        let limit = if self.max_frame_rate > 0.0 { self.max_frame_rate } else { rate };
        let demand = Demand::encoded(self.codec, &self.work.layers, rate.min(limit));
        let source = self.work.size.map_or(0, |(width, height)| u64::from(width) * u64::from(height));
        Demand { largest: demand.largest.max(source), ..demand }
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
        let pictures = self.work.pictures.get();
        let Some(before) = self.window.filter(|_| self.is_whole()) else {
            self.window = self.is_whole().then_some(Window { since: now, usage, pictures });
            return;
        };
        let elapsed = (now - before.since).as_secs_f64();
        if elapsed < WINDOW.as_secs_f64() {
            return;
        }
        self.window = Some(Window { since: now, usage, pictures });
        let cores = (usage.cpu - before.usage.cpu).max(0.0) / elapsed;
        let known = self.measured.unwrap_or_else(|| self.encoding(rates));
        if starved && cores < known {
            return;
        }
        self.measured = Some(self.measured.map_or(cores, |known| towards(known, cores, SESSION)));
        if !self.passes {
            // By what has come: what a source says of its rate may be anything.
            let asked = self.asked(pictures.saturating_sub(before.pictures) as f64 / elapsed);
            rates.learn(&asked, cores);
        }
    }

    /// Whether the worker does all that it will ever have to: that of a source that makes the highest layer does all the others.
    fn is_whole(&self) -> bool {
        let encoded = self.work.wanted.len() - usize::from(self.passes && !self.work.wanted.is_empty());
        let (lower, top) = self.work.wanted.split_at(encoded);
        let rests = top.iter().all(|wanted| !wanted);
        !self.work.layers.is_empty() && lower.iter().all(|wanted| *wanted) && rests && !self.stalled
    }

    /// Cores that encoding is expected to cost, without a highest layer that the source makes.
    fn encoding(&self, rates: &Rates) -> f64 {
        let whole = rates.encoding(&self.demand);
        if self.passes { whole - self.highest(rates) } else { whole }
    }

    /// Cores that the highest layer is expected to cost.
    fn highest(&self, rates: &Rates) -> f64 {
        let area = |layer: &Layer| f64::from(layer.width) * f64::from(layer.height);
        let all: f64 = self.work.layers.iter().map(area).sum();
        let share = self.work.layers.last().map_or(0.0, |top| area(top) / all.max(1.0));
        share * rates.encoding(&self.demand)
    }

    /// What it costs when all of it is wanted.
    pub(crate) fn cost(&self, rates: &Rates) -> Cost {
        let passed = if self.passes { self.highest(rates) * PASSED_SHARE } else { 0.0 };
        let encoding = self.measured.unwrap_or_else(|| self.encoding(rates));
        Cost { cpu: encoding + passed + BESIDE, memory: self.demand.memory() }
    }

    /// Bytes that it is still to take.
    pub(crate) fn memory_to_come(&self) -> u64 {
        self.demand.memory().saturating_sub(self.memory)
    }
}

/// From what is known towards what is measured, by a share on the way up and one on the way down.
fn towards(known: f64, measured: f64, (up, down): (f64, f64)) -> f64 {
    known + if measured > known { up } else { down } * (measured - known)
}

#[cfg(test)]
mod tests;
