//! One layer's encoder, in a thread of its own.
//!
//! Threads: each layer encodes in one thread, without slices or frame threads of the encoder's own. A 720p picture takes
//! 7 ms then, well inside its 33; layers run beside each other; and no bits or cycles go into cutting pictures into slices.
//! Layers above [`ONE_THREAD`] get as many slice threads as they need to stay in time: these shorten the picture's own time
//! and delay nothing, unlike frame threads.

use super::Picture;
use super::rate::Meter;
use gstreamer::{self as gst, prelude::*};
use gstreamer_video as gst_video;
use ipc::transcode::Event;
use media::KeyframeGate;
use model::{EncodedVideo, Layer, MediaTime};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use worker::pad_chain::{Output, PadChain, element, from_clock, into_bytes, set_known, to_clock};
use worker::watchdog::{Waits, Watchdog};
use worker::{Error, Events};

/// Pictures that wait for the encoder beside the one it works on. While the encoder keeps up there is none; after a reordered
/// picture or a hitch of the network several come at once, which is no reason to drop any. An encoder that does not keep up
/// is this many pictures late and no more.
pub(crate) const QUEUE: usize = 3;

/// Pixels a second that one thread encodes with ease on a slow core: 1080p at 30 pictures a second takes half of a core of
/// the measuring machine.
const ONE_THREAD: f64 = 1920.0 * 1088.0 * 30.0;

/// The picture rate that is assumed until it is measured, if the source does not tell its own.
const USUAL_RATE: f64 = 30.0;

enum Command {
    Picture(Picture),
    /// Nobody watches: let go of the encoder.
    Rest,
    /// The pictures that follow are of another size, or may take other many bits.
    Resize(Layer),
}

/// The way to a layer's encoder. Dropping it lets the encoder finish; join the thread to wait for that.
pub(crate) struct LayerEncoder {
    commands: Option<SyncSender<Command>>,
    key: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// What an encoder needs to know.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Config {
    /// Index among the layers.
    pub(crate) index: u8,
    /// Size and bitrate.
    pub(crate) layer: Layer,
    /// The codec.
    pub(crate) codec: EncodedVideo,
    /// Pictures a second that the source tells, if it does.
    pub(crate) frame_rate: Option<f64>,
}

impl LayerEncoder {
    /// Starts the thread. `failed` is called if the encoder cannot go on.
    pub(crate) fn start(
        config: Config,
        events: Events<Event>,
        watch: &Watchdog,
        failed: impl FnOnce(&Error) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (commands, receiver) = sync_channel(QUEUE);
        let key = Arc::new(AtomicBool::new(false));
        let worker = Worker {
            config,
            events,
            key: Arc::clone(&key),
            encoder: None,
            meter: Meter::default(),
            last: None,
            gate: KeyframeGate::open(),
        };
        let thread = watch.spawn(&format!("layer {}", config.index), Waits::ForHelpers, move |busy| {
            if let Err(e) = worker.run(&receiver, &busy) {
                failed(&e);
            }
        })?;
        Ok(Self { commands: Some(commands), key, thread: Some(thread) })
    }

    /// Gives a picture to encode. If the encoder is behind, waits for it, or drops the picture if `may_wait` is false.
    pub(crate) fn picture(&self, picture: Picture, may_wait: bool) {
        let Some(commands) = &self.commands else { return };
        // A thread that is gone has said why.
        match commands.try_send(Command::Picture(picture)) {
            Err(TrySendError::Full(command)) if may_wait => drop(commands.send(command)),
            _ => {}
        }
    }

    /// Makes the next picture a key frame.
    pub(crate) fn force_key_frame(&self) {
        self.key.store(true, Ordering::Relaxed);
    }

    /// Lets go of the encoder until the next picture, which will be a key frame.
    pub(crate) fn release(&self) {
        if let Some(commands) = &self.commands {
            let _ = commands.send(Command::Rest);
        }
    }

    /// From the next picture on, encodes for this. A change begins with a key frame.
    pub(crate) fn resize(&self, layer: Layer) {
        if let Some(commands) = &self.commands {
            let _ = commands.send(Command::Resize(layer));
        }
    }

    /// Waits until all is encoded and sent.
    pub(crate) fn finish(mut self) {
        self.commands = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Worker {
    config: Config,
    events: Events<Event>,
    key: Arc<AtomicBool>,
    encoder: Option<Encoder>,
    meter: Meter,
    last: Option<MediaTime>,
    /// Closed while a picture was lost on its way up.
    gate: KeyframeGate,
}

impl Worker {
    fn run(mut self, commands: &Receiver<Command>, busy: &worker::watchdog::Busy) -> Result<(), Error> {
        for command in commands {
            let _busy = busy.enter();
            match command {
                Command::Picture(picture) => self.encode(picture)?,
                Command::Rest => self.encoder = None,
                Command::Resize(layer) if layer == self.config.layer => {}
                Command::Resize(layer) => (self.config.layer, self.encoder) = (layer, None),
            }
        }
        if let Some(encoder) = &self.encoder {
            encoder.chain.drain();
        }
        self.send_outputs();
        Ok(())
    }

    fn encode(&mut self, picture: Picture) -> Result<(), Error> {
        // No encoder takes a time that is not after the last. Where time went back for good, a new one begins.
        match self.last.replace(picture.pts).filter(|last| *last >= picture.pts) {
            Some(last) if last - picture.pts < MediaTime::from_millis(1000) => {
                self.last = Some(last);
                return Ok(());
            }
            Some(_) => self.encoder = None,
            None => {}
        }
        let encoder = match &mut self.encoder {
            Some(e) => e,
            slot => slot.insert(Encoder::new(&self.config)?),
        };
        if let Some(rate) = self.meter.measure(picture.pts) {
            encoder.follow_rate(rate, &self.config);
        }
        if self.key.swap(false, Ordering::Relaxed) {
            encoder.chain.force_key_frame();
        }
        encoder.push(picture, &self.config)?;
        self.send_outputs();
        Ok(())
    }

    fn send_outputs(&mut self) {
        let Some(encoder) = &self.encoder else { return };
        while let Some(output) = encoder.chain.next_output() {
            let Output::Buffer(buffer, Some(time)) = output else { continue };
            let key = !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
            if !self.gate.admits(key) {
                continue;
            }
            let Some(data) = into_bytes(buffer) else { continue };
            let pts = from_clock(time);
            if !self.events.offer(&Event::AccessUnit { layer: self.config.index, pts, key, data }) {
                self.gate.close();
                encoder.chain.force_key_frame();
            }
        }
    }
}

struct Encoder {
    chain: PadChain,
    element: gst::Element,
    /// The rate that the encoder was opened with, and the one that its bitrate is set for.
    nominal: f64,
    rate: f64,
    colours: Option<gst_video::VideoColorimetry>,
}

impl Encoder {
    fn new(config: &Config) -> Result<Self, Error> {
        let nominal = config.frame_rate.unwrap_or(USUAL_RATE);
        let (element, caps) = match config.codec {
            EncodedVideo::H264 => (h264(config, nominal)?, h264_caps()),
            EncodedVideo::Vp8 => (vp8(config)?, gst::Caps::builder("video/x-vp8").build()),
        };
        let chain = PadChain::new(vec![element.clone()], &caps)?;
        Ok(Self { chain, element, nominal, rate: nominal, colours: None })
    }

    fn push(&mut self, picture: Picture, config: &Config) -> Result<(), Error> {
        let colours = picture.info.colorimetry();
        if self.colours.as_ref() != Some(&colours) {
            let info =
                gst_video::VideoInfo::builder(gst_video::VideoFormat::I420, config.layer.width, config.layer.height)
                    .colorimetry(&colours)
                    .chroma_site(picture.info.chroma_site())
                    .fps(fraction(self.nominal))
                    .build()?;
            self.chain.caps(&info.to_caps()?)?;
            self.colours = Some(colours);
        }
        let mut buffer = picture.buffer;
        // libvpx takes the first picture's duration for the rate; x264 takes none. A buffer of the decoder is not touched
        // without need: the decoder still reads it, so that a change would copy the whole picture.
        let duration = buffer.duration().is_none() && config.codec == EncodedVideo::Vp8;
        let time = to_clock(picture.pts);
        if duration || buffer.pts() != time {
            let b = buffer.make_mut();
            b.set_pts(time);
            b.set_duration(gst::ClockTime::from_nseconds((1e9 / self.rate) as u64));
        }
        self.chain.push(buffer)
    }

    /// x264 counts pictures, not time, when it shares out bits (counting time costs it a picture of delay), so a source
    /// that sends fewer than it said would get fewer bits than the layer has. The bitrate and its buffer are set again
    /// instead, which x264 takes without a key frame.
    fn follow_rate(&mut self, rate: f64, config: &Config) {
        // Slower than a third: a still picture should not be allowed a second's bits in one burst.
        let rate = rate.clamp(self.nominal / 3.0, self.nominal * 2.0);
        if config.codec != EncodedVideo::H264 || (rate - self.rate).abs() < self.rate * 0.05 {
            return;
        }
        self.rate = rate;
        let stretch = self.nominal / rate;
        self.element.set_property("bitrate", kbits(f64::from(config.layer.bitrate) * stretch));
        self.element.set_property("vbv-buf-capacity", (VBV_MILLIS / stretch) as u32);
    }
}

/// The decoder's buffer in milliseconds at the layer's bitrate: what the Go ingress uses. A key frame may be as large as this.
const VBV_MILLIS: f64 = 1000.0;

fn kbits(bits: f64) -> u32 {
    ((bits / 1000.0) as u32).max(1)
}

fn fraction(rate: f64) -> gst::Fraction {
    gst::Fraction::approximate_f64(rate).unwrap_or(gst::Fraction::new(30, 1))
}

fn h264_caps() -> gst::Caps {
    gst::Caps::builder("video/x-h264")
        .field("stream-format", "byte-stream")
        .field("alignment", "au")
        .field("profile", "constrained-baseline")
        .build()
}

fn h264(config: &Config, rate: f64) -> Result<gst::Element, Error> {
    let encoder = element("x264enc")?;
    let Layer { width, height, bitrate, .. } = config.layer;
    let threads = (f64::from(width) * f64::from(height) * rate / ONE_THREAD).ceil().clamp(1.0, 4.0);
    set_known(
        &encoder,
        &[
            ("tune", "zerolatency"),
            ("speed-preset", "veryfast"),
            ("bitrate", &kbits(f64::from(bitrate)).to_string()),
            ("vbv-buf-capacity", &VBV_MILLIS.to_string()),
            ("byte-stream", "true"),
            ("aud", "true"),
            ("bframes", "0"),
            ("key-int-max", &((rate * 10.0) as u32).to_string()),
            ("threads", &threads.to_string()),
        ],
    );
    Ok(encoder)
}

fn vp8(config: &Config) -> Result<gst::Element, Error> {
    let encoder = element("vp8enc")?;
    set_known(
        &encoder,
        &[
            ("target-bitrate", &config.layer.bitrate.to_string()),
            ("end-usage", "cbr"),
            ("keyframe-max-dist", "100"),
            ("cpu-used", "-6"),
            ("deadline", "1"),
            ("buffer-size", "1000"),
            ("buffer-optimal-size", "600"),
            ("buffer-initial-size", "500"),
            ("threads", "1"),
        ],
    );
    Ok(encoder)
}

/// Opens and drops what the first picture will need, so that its code is loaded by then.
///
/// # Errors
/// If an encoder is not installed.
pub(crate) fn preload() -> Result<(), Error> {
    element("x264enc").map(drop)
}
