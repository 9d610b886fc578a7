//! The audio branch: decode, place on the timeline, encode.

mod decode;
mod encode;

use decode::{Decoder, Format, Sound};
use encode::Encoder;
use ipc::{Job, ToParent};
use model::{AudioConfig, Frame, Kind, MediaTime};
use std::sync::mpsc::Receiver;
use timing::sample_clock::{Place, Timeline};
use worker::Branches;
use worker::Error;
use worker::Outbox;
use worker::watchdog::Busy;

/// Decoders in a row that may give up without a sound before the publisher is told.
const FAILURES: u32 = 5;

/// Packets in a row without a sound before the publisher is told: five seconds of AAC.
const BARREN: u32 = 250;

/// What the branch is told.
pub(crate) enum Order {
    Config(AudioConfig),
    Frame(Frame),
    ShowFrom(MediaTime),
}

/// The branch.
pub(crate) struct Audio {
    job: Job,
    outbox: Outbox,
    branches: Branches,
    config: Option<AudioConfig>,
    decoder: Option<Decoder>,
    failures: u32,
    barren: u32,
    format: Option<Format>,
    timeline: Timeline,
    encoder: Option<Encoder>,
    show_from: Option<MediaTime>,
}

impl Audio {
    /// A branch without media yet.
    pub(crate) fn new(job: Job, outbox: Outbox, branches: Branches) -> Self {
        Self {
            job,
            outbox,
            branches,
            config: None,
            decoder: None,
            failures: 0,
            barren: 0,
            format: None,
            timeline: Timeline::default(),
            encoder: None,
            show_from: None,
        }
    }

    /// Works until `orders` ends; then lets everything out that is inside.
    pub(crate) fn run(mut self, orders: &Receiver<Order>, busy: &Busy) {
        for order in orders {
            let _working = busy.enter();
            match order {
                Order::Config(config) => self.configure(config),
                Order::Frame(frame) => self.frame(frame),
                Order::ShowFrom(from) => self.show_from = Some(from),
            }
        }
        let _working = busy.enter();
        self.drain_decoder();
        if let Some(Err(e)) = self.encoder.take().map(Encoder::finish) {
            self.unusable(&e);
        }
    }

    fn configure(&mut self, config: AudioConfig) {
        if self.config.as_ref() == Some(&config) && self.decoder.is_some() {
            return;
        }
        self.drain_decoder();
        self.usable();
        self.failures = 0;
        self.barren = 0;
        self.config = Some(config);
        self.build_decoder();
    }

    fn build_decoder(&mut self) {
        let Some(config) = &self.config else { return };
        match Decoder::new(config, self.job.audio.channels) {
            Ok(decoder) => self.decoder = Some(decoder),
            Err(e) => self.unusable(&e),
        }
    }

    fn drain_decoder(&mut self) {
        if let Some(decoder) = &self.decoder {
            decoder.drain();
            self.take_sound();
        }
        self.decoder = None;
    }

    fn frame(&mut self, frame: Frame) {
        let Some(decoder) = &mut self.decoder else { return };
        self.outbox.count_received();
        self.barren += 1;
        let pushed = decoder.push(frame);
        self.take_sound();
        if let Err(e) = pushed {
            self.decoder_failed(&e);
        } else if self.barren == BARREN {
            self.branches.unusable(Kind::Audio, self.words("no sound can be decoded"));
        }
    }

    fn take_sound(&mut self) {
        loop {
            let Some(decoder) = &mut self.decoder else { return };
            let (outbox, format) = (&self.outbox, &mut self.format);
            let told = |now: Format| {
                if format.replace(now) != Some(now) {
                    outbox.fact(ToParent::AudioFormat { sample_rate: now.rate, channels: now.channels });
                }
            };
            match decoder.next_sound(told) {
                Ok(Some(sound)) => {
                    (self.failures, self.barren) = (0, 0);
                    self.branches.usable(Kind::Audio);
                    if let Err(e) = self.encode(&sound) {
                        return self.unusable(&e);
                    }
                }
                Ok(None) => return,
                Err(e) => return self.decoder_failed(&e),
            }
        }
    }

    fn encode(&mut self, sound: &Sound) -> Result<(), Error> {
        if self.show_from.is_some_and(|from| sound.pts < from) {
            return Ok(());
        }
        let channels = usize::from(self.job.audio.channels);
        let encoder = match &mut self.encoder {
            Some(e) => e,
            slot => slot.insert(Encoder::new(self.job.audio, self.outbox.clone())?),
        };
        match self.timeline.place(sound.pts, sound.samples.len() / channels) {
            Place::At(pts) => {
                encoder.restart(pts)?;
                encoder.push(&sound.samples)
            }
            Place::Next(0) => encoder.push(&sound.samples),
            Place::Next(by) => encoder.push(&timing::sample_clock::stretch(&sound.samples, channels, by)),
            Place::Without(n) => encoder.push(&sound.samples[n * channels..]),
        }
    }

    fn decoder_failed(&mut self, error: &Error) {
        self.decoder = None;
        self.failures += 1;
        if self.failures < FAILURES {
            self.build_decoder();
        } else {
            self.unusable(error);
        }
    }

    /// It works (again): where it was said not to, the parent has to hear of the format once more.
    fn usable(&mut self) {
        if self.branches.usable(Kind::Audio) {
            self.format = None;
        }
    }

    fn unusable(&mut self, error: &Error) {
        self.decoder = None;
        self.branches.unusable(Kind::Audio, self.words(&error.to_string()));
    }

    fn words(&self, reason: &str) -> String {
        let codec = self.config.as_ref().map_or("audio", |c| decode::name(c.codec));
        format!("{codec}: {reason}")
    }
}

/// Loads what most sources and rooms need, so that the first sound need not wait for it.
///
/// # Errors
/// If the Opus encoder is not installed.
pub(crate) fn preload(outbox: Outbox) -> Result<(), Error> {
    let config =
        AudioConfig { codec: model::AudioCodec::Aac, record: bytes::Bytes::new(), sample_rate: None, channels: None };
    // Sources with other codecs load theirs when they come; a missing decoder is told then.
    let _ = Decoder::new(&config, 2);
    Encoder::new(model::AudioEncoding { channels: 2, bitrate: 96_000, dtx: true }, outbox).map(drop)
}
