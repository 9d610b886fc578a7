//! The audio branch: decode, join by the sample clock, encode.

mod decode;
mod encode;

use crate::damage::DamageMeter;
use crate::usable_kinds::UsableKinds;
use decode::{DecodedAudio, Decoder, Format};
use encode::Encoder;
use ipc::transcode::{Event, Job};
use model::{AudioConfig, Blame, Fault, Frame, Kind, MediaTime};
use std::sync::mpsc::Receiver;
use std::time::Instant;
use timing::sample_clock::{Join, SampleClock};
use worker::watchdog::Busy;
use worker::{Error, Events, Outbox, decode_errors};

/// Decoders in a row that may give up without output before audio counts as unusable.
const MAX_DECODER_FAILURES: u32 = 5;

/// Packets in a row without output before audio counts as unusable: five seconds of AAC.
const MAX_FRAMES_WITHOUT_OUTPUT: u32 = 250;

/// Commands to the thread.
pub(crate) enum Command {
    Config(AudioConfig),
    Frame(Frame),
    ShowFrom(MediaTime),
}

/// See the [module](self).
pub(crate) struct Audio {
    job: Job,
    events: Events<Event>,
    usable: UsableKinds,
    config: Option<AudioConfig>,
    decoder: Option<Decoder>,
    failures: u32,
    without_output: u32,
    damage: DamageMeter,
    format: Option<Format>,
    sample_clock: SampleClock,
    encoder: Option<Encoder>,
    show_from: Option<MediaTime>,
}

impl Audio {
    /// Without media yet.
    pub(crate) fn new(job: Job, events: Events<Event>, usable: UsableKinds) -> Self {
        Self {
            job,
            events,
            usable,
            config: None,
            decoder: None,
            failures: 0,
            without_output: 0,
            damage: DamageMeter::of_audio(),
            format: None,
            sample_clock: SampleClock::default(),
            encoder: None,
            show_from: None,
        }
    }

    /// Works until `commands` ends; then lets everything out that is inside.
    pub(crate) fn run(mut self, commands: &Receiver<Command>, busy: &Busy) {
        for command in commands {
            let _working = busy.enter();
            match command {
                Command::Config(config) => self.configure(config),
                Command::Frame(frame) => self.frame(frame),
                Command::ShowFrom(from) => self.show_from = Some(from),
            }
        }
        let _working = busy.enter();
        self.drain_decoder();
        if let Some(Err(e)) = self.encoder.take().map(Encoder::finish) {
            self.not_encoded(&e);
        }
    }

    fn configure(&mut self, config: AudioConfig) {
        if self.config.as_ref() == Some(&config) && self.decoder.is_some() {
            return;
        }
        self.drain_decoder();
        self.usable();
        self.failures = 0;
        self.without_output = 0;
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
            self.take_audio();
        }
        self.decoder = None;
    }

    fn frame(&mut self, frame: Frame) {
        let Some(decoder) = &mut self.decoder else { return };
        self.without_output += 1;
        let pushed = decoder.push(frame);
        self.judge();
        self.take_audio();
        if let Err(e) = pushed {
            self.decoder_failed(&e);
        } else if self.without_output == MAX_FRAMES_WITHOUT_OUTPUT {
            let text = format!("{}: no sound can be decoded", self.codec());
            self.usable.failed(Kind::Audio, Fault::new(Blame::Source, text));
        }
    }

    /// Tells the parent if much comes out of the decoder damaged, and when it does no longer.
    fn judge(&mut self) {
        if let Some(verdict) = self.damage.unit(true, decode_errors::take(), Instant::now()) {
            self.events.send(&verdict.event(Kind::Audio));
        }
    }

    fn take_audio(&mut self) {
        loop {
            let Some(decoder) = &mut self.decoder else { return };
            let (events, format) = (&self.events, &mut self.format);
            let report = |now: Format| {
                if format.replace(now) != Some(now) {
                    events.send(&Event::AudioFormat { sample_rate: now.rate, channels: now.channels });
                }
            };
            match decoder.next_audio(report) {
                Ok(Some(audio)) => {
                    (self.failures, self.without_output) = (0, 0);
                    self.usable.works(Kind::Audio);
                    if let Err(e) = self.encode(&audio) {
                        return self.not_encoded(&e);
                    }
                }
                Ok(None) => return,
                Err(e) => return self.decoder_failed(&e),
            }
        }
    }

    fn encode(&mut self, audio: &DecodedAudio) -> Result<(), Error> {
        if self.show_from.is_some_and(|from| audio.pts < from) {
            return Ok(());
        }
        let channels = usize::from(self.job.audio.channels);
        let encoder = match &mut self.encoder {
            Some(e) => e,
            slot => slot.insert(Encoder::new(self.job.audio, self.events.clone())?),
        };
        match self.sample_clock.next(audio.pts, audio.samples.len() / channels) {
            Join::Restart(pts) => {
                encoder.restart(pts)?;
                encoder.push(&audio.samples)
            }
            Join::Continue(0) => encoder.push(&audio.samples),
            Join::Continue(by) => encoder.push(&timing::sample_clock::stretch(&audio.samples, channels, by)),
            Join::Trim(n) => encoder.push(&audio.samples[n * channels..]),
        }
    }

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
        if self.usable.works(Kind::Audio) {
            self.format = None;
        }
    }

    fn unusable(&mut self, error: &Error) {
        self.decoder = None;
        self.usable.failed(Kind::Audio, error.fault(self.codec()));
    }

    /// What was decoded can't be encoded: that is not the source's fault.
    fn not_encoded(&mut self, error: &Error) {
        self.decoder = None;
        let fault = Fault { blame: Blame::Us, ..error.fault(self.codec()) };
        self.usable.failed(Kind::Audio, fault);
    }

    /// The codec's name for people.
    fn codec(&self) -> &'static str {
        self.config.as_ref().map_or("audio", |c| decode::name(c.codec))
    }
}

/// Loads what most sources and rooms need, so that the first packet need not wait for it.
///
/// # Errors
/// If the Opus encoder is not installed.
pub(crate) fn preload() -> Result<(), Error> {
    let config =
        AudioConfig { codec: model::AudioCodec::Aac, record: bytes::Bytes::new(), sample_rate: None, channels: None };
    // Sources with other codecs load theirs when they come; a missing decoder is reported then.
    let _ = Decoder::new(&config, 2);
    Encoder::new(model::AudioEncoding { channels: 2, bitrate: 96_000, dtx: true }, Outbox::new().events()).map(drop)
}
