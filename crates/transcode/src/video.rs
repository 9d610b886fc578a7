//! The video thread: decode, limit the rate, scale, and hand over to one encoder for each layer.
//!
//! When the child cannot keep up, decoded pictures are dropped at the entrance of the encoder that is behind, as soon as the
//! media is later than [`MAX_LATENESS`]; before that the thread waits, and the source with it (see [`timing::lateness`]). So nothing ever
//! piles up: no more than a few pictures wait for each encoder.

mod decode;
mod encode;
mod rate;
mod scale;
mod shape;
mod tone;

use crate::damage::DamageMeter;
use crate::usable_kinds::UsableKinds;
use decode::Decoder;
use encode::LayerEncoder;
use gstreamer as gst;
use gstreamer_video::VideoInfo;
use ipc::transcode::{Event, Job};
use model::{Blame, Fault, Frame, Kind, Layer, MediaTime, VideoConfig};
use scale::Cascade;
use shape::Size;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};
use timing::lateness::Lateness;
use worker::watchdog::{Busy, Watchdog};
use worker::{Error, Events, decode_errors};

/// How late media may be before decoded pictures are dropped. A tenth of a second: two or three pictures, as much as a viewer's
/// jitter buffer takes without a stall.
const MAX_LATENESS: Duration = Duration::from_millis(100);

/// Decoders in a row that may give up without a single picture before video counts as unusable.
const MAX_DECODER_FAILURES: u32 = 5;

/// Access units in a row without a picture before video counts as unusable: five seconds at 30 pictures a second, far more than
/// any reordering.
const MAX_FRAMES_WITHOUT_OUTPUT: u32 = 150;

/// A decoded picture.
#[derive(Clone, Debug)]
pub(crate) struct Picture {
    buffer: gst::Buffer,
    info: VideoInfo,
    /// Nits of the brightest in the stream, if that is known.
    peak: Option<u16>,
    pts: MediaTime,
}

/// Commands to the thread.
pub(crate) enum Command {
    Config(VideoConfig),
    Frame(Frame),
    Layers(Vec<Layer>),
    Wanted { layer: u8, wanted: bool },
    KeyFrame { layer: u8 },
    ShowFrom(MediaTime),
    Repeat(MediaTime),
}

struct Slot {
    encoder: LayerEncoder,
    wanted: bool,
}

/// See the [module](self).
pub(crate) struct Video {
    job: Job,
    events: Events<Event>,
    watch: Watchdog,
    usable: UsableKinds,
    lateness: Lateness,
    limit: rate::Limit,
    source_rate: rate::SourceRate,
    config: Option<VideoConfig>,
    decoder: Option<Decoder>,
    failures: u32,
    without_output: u32,
    damage: DamageMeter,
    format: Option<(Size, Option<f64>)>,
    slots: Vec<Slot>,
    cascade: Cascade,
    held: Option<Picture>,
    /// The last that was shown, or would have been in time.
    shown: Option<Picture>,
    late: Duration,
    show_from: Option<MediaTime>,
}

impl Video {
    /// Without media yet.
    pub(crate) fn new(job: Job, events: Events<Event>, watch: Watchdog, usable: UsableKinds) -> Self {
        Self {
            limit: rate::Limit::new(job.max_frame_rate),
            source_rate: rate::SourceRate::default(),
            lateness: Lateness::new(Instant::now()),
            cascade: Cascade::new(&[]),
            job,
            events,
            watch,
            usable,
            config: None,
            decoder: None,
            failures: 0,
            without_output: 0,
            damage: DamageMeter::of_video(),
            format: None,
            slots: Vec::new(),
            held: None,
            shown: None,
            late: Duration::ZERO,
            show_from: None,
        }
    }

    /// Works until `commands` ends; then lets everything out that is inside.
    pub(crate) fn run(mut self, commands: &Receiver<Command>, busy: &Busy) {
        for command in commands {
            let _working = busy.enter();
            self.step(command);
        }
        let _working = busy.enter();
        self.drain_decoder();
        for slot in self.slots {
            slot.encoder.finish();
        }
    }

    fn step(&mut self, command: Command) {
        match command {
            Command::Config(config) => self.configure(config),
            Command::Frame(frame) => self.frame(frame),
            Command::Layers(layers) if self.slots.is_empty() => self.start_layers(&layers),
            Command::Layers(layers) => self.resize_layers(&layers),
            Command::Wanted { layer, wanted } => self.want(layer, wanted),
            Command::ShowFrom(from) => self.show_from = Some(from),
            Command::Repeat(at) => self.repeat(at),
            Command::KeyFrame { layer } => {
                if let Some(slot) = self.slots.get(usize::from(layer)) {
                    slot.encoder.force_key_frame();
                }
            }
        }
    }

    fn configure(&mut self, config: VideoConfig) {
        // Many encoders repeat theirs before each key frame.
        if self.config.as_ref() == Some(&config) && self.decoder.is_some() {
            return;
        }
        self.drain_decoder();
        self.usable();
        self.failures = 0;
        self.without_output = 0;
        self.source_rate.configure(&config);
        self.config = Some(config);
        self.build_decoder();
    }

    fn build_decoder(&mut self) {
        let Some(config) = &self.config else { return };
        match Decoder::new(config) {
            Ok(decoder) => {
                self.damage.restart();
                self.decoder = Some(decoder);
            }
            Err(e) => self.unusable(&e),
        }
    }

    fn drain_decoder(&mut self) {
        if let Some(decoder) = &self.decoder {
            // What comes out at once here is the reordering's depth and no sign of being behind.
            self.late = Duration::ZERO;
            decoder.drain();
            self.take_pictures();
        }
        self.decoder = None;
    }

    fn frame(&mut self, frame: Frame) {
        self.late = self.lateness.of(frame.dts, Instant::now());
        let Some(decoder) = &mut self.decoder else { return };
        if self.show_from.is_some_and(|from| frame.pts < from) && decoder.is_spare(&frame) {
            return;
        }
        self.without_output += 1;
        let key = frame.key;
        let pushed = decoder.push(frame);
        self.judge(key);
        self.take_pictures();
        if let Err(e) = pushed {
            self.decoder_failed(&e);
        } else if self.without_output == MAX_FRAMES_WITHOUT_OUTPUT {
            let text = format!("{}: no picture can be decoded", self.codec());
            self.usable.failed(Kind::Video, Fault::new(Blame::Source, text));
        }
    }

    /// Tells the parent if much comes out of the decoder damaged, and when it does no longer.
    fn judge(&mut self, key: bool) {
        if let Some(verdict) = self.damage.unit(key, decode_errors::take(), Instant::now()) {
            self.events.send(&verdict.event(Kind::Video));
        }
    }

    fn take_pictures(&mut self) {
        loop {
            let Some(decoder) = &mut self.decoder else { return };
            match decoder.next_picture() {
                Ok(Some(picture)) => self.picture(picture),
                Ok(None) => return,
                Err(e) => return self.decoder_failed(&e),
            }
        }
    }

    fn picture(&mut self, picture: Picture) {
        (self.failures, self.without_output) = (0, 0);
        self.usable();
        self.report_format(&picture);
        if self.show_from.is_some_and(|from| picture.pts < from) {
            self.shown = Some(picture);
            return;
        }
        if self.slots.is_empty() {
            self.held = Some(picture);
        } else if self.limit.admits(picture.pts) {
            self.encode(picture);
        }
    }

    /// Encodes the last picture once more; this is no picture of the source, and not reported as one.
    fn repeat(&mut self, at: MediaTime) {
        if let Some(picture) = self.shown.clone().filter(|p| p.pts < at) {
            self.encode(Picture { pts: at, ..picture });
        }
    }

    fn encode(&mut self, picture: Picture) {
        self.shown = Some(picture.clone());
        let (slots, may_wait) = (&self.slots, self.late < MAX_LATENESS);
        let wanted = |i: usize| slots.get(i).is_some_and(|s| s.wanted);
        let done = self.cascade.run(picture, wanted, |i, p| slots[i].encoder.picture(p, may_wait));
        if let Err(e) = done {
            self.unusable(&e);
        }
    }

    fn report_format(&mut self, picture: &Picture) {
        let format = (Size::shown(&picture.info), self.source_rate.at(picture.pts));
        if self.format != Some(format) {
            self.format = Some(format);
            let (Size { width, height }, frame_rate) = format;
            self.events.send(&Event::VideoFormat { width, height, frame_rate });
        }
    }

    fn start_layers(&mut self, layers: &[Layer]) {
        self.cascade = Cascade::new(layers);
        let rate = self.format.and_then(|(_, rate)| rate);
        let frame_rate = rate.map(|r| if self.job.max_frame_rate > 0.0 { r.min(self.job.max_frame_rate) } else { r });
        for (index, &layer) in (0u8..).zip(layers) {
            let config = encode::Config { index, layer, codec: self.job.video_codec, frame_rate };
            let events = self.events.clone();
            // Pictures come decoded, so it is not for the source that an encoder gives up: another child may do better.
            let failed = move |e: &Error| events.crash(format!("layer {index} can't be encoded: {e}"));
            match LayerEncoder::start(config, self.events.clone(), &self.watch, failed) {
                Ok(encoder) => self.slots.push(Slot { encoder, wanted: true }),
                Err(e) => return self.events.crash(format!("the system has no threads left: {e}")),
            }
        }
        if let Some(picture) = self.held.take() {
            self.limit.admits(picture.pts);
            self.encode(picture);
        }
    }

    /// What is encoded from here on is of other sizes. There are as many layers as before.
    fn resize_layers(&mut self, layers: &[Layer]) {
        for (slot, &layer) in self.slots.iter().zip(layers) {
            slot.encoder.resize(layer);
        }
        self.cascade.resize(layers);
    }

    fn want(&mut self, layer: u8, wanted: bool) {
        let layer = usize::from(layer);
        let Some(slot) = self.slots.get_mut(layer) else { return };
        if slot.wanted && !wanted {
            slot.encoder.release();
            self.cascade.release(layer);
        }
        slot.wanted = wanted;
    }

    /// A decoder that gave up is replaced and starts at the next key frame.
    fn decoder_failed(&mut self, error: &Error) {
        self.decoder = None;
        self.failures += 1;
        if self.failures < MAX_DECODER_FAILURES {
            self.build_decoder();
        } else {
            self.unusable(error);
        }
    }

    /// It works (again): where it was said not to, the parent has to hear of the format once more.
    fn usable(&mut self) {
        if self.usable.works(Kind::Video) {
            self.format = None;
        }
    }

    fn unusable(&mut self, error: &Error) {
        self.decoder = None;
        self.usable.failed(Kind::Video, error.fault(self.codec()));
    }

    /// The codec's name for people.
    fn codec(&self) -> &'static str {
        self.config.as_ref().map_or("video", |c| decode::name(c.codec))
    }
}

/// Loads what most sources and rooms need, so that the first picture need not wait for it.
///
/// # Errors
/// If the H.264 encoder is not installed.
pub(crate) fn preload() -> Result<(), Error> {
    // Sources with other codecs load theirs when they come; a missing decoder is reported then.
    let _ = Decoder::new(&VideoConfig::new(model::VideoCodec::H264, bytes::Bytes::new(), None));
    encode::preload()
}
