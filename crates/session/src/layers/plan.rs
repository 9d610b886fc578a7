//! The layer plan: what a session sends, and which producer makes it. Pure: sizes, formats and wanted layers go in, changes of
//! the output come out.
//!
//! A producer is an encoder of the worker or the source itself (passthrough). A transcoded session is a plan of encoders, a WHIP
//! session without transcoding a plan of passthroughs; a plan may mix them, with the encoded layers below those of the source.
//! The pipeline is the same for all: it asks the plan where media goes, and who answers a key frame request.
//!
//! | what changes | takes effect |
//! |---|---|
//! | the size or bitrate of a layer | at once: only the announcement changes, and the producer begins the size with a key frame |
//! | the producer of a layer | with the first key frame of the new producer; until then the old one is sent |
//! | the codec of a layer, or the number of layers | with new tracks: a published track can't change them |

use super::sizing::Sizing;
use model::{IngressSpec, InputKind, Kind, Layer, OpusFormat, Quality, VideoFormat};
use publish::LayerFormat;
use std::time::Instant;

#[cfg(test)]
mod tests;

/// Makes the media of one layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Producer {
    /// The worker's encoder with this index.
    Encoder(usize),
    /// The source's layer with this index, sent as it comes. Access units have one layer, with index 0.
    Passthrough(usize),
}

/// Makes the audio.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AudioProducer {
    /// The worker's encoder.
    Encoder,
    /// The source.
    Passthrough,
}

/// One layer of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LayerOutput {
    /// Its rank.
    pub(crate) quality: Quality,
    /// Pixels.
    pub(crate) size: (u32, u32),
    /// Bits a second; 0 where the source does not say.
    pub(crate) bitrate: u32,
    /// Makes it.
    pub(crate) producer: Producer,
}

impl LayerOutput {
    fn new(layer: Layer, producer: Producer) -> Self {
        Self { quality: layer.quality, size: (layer.width, layer.height), bitrate: layer.bitrate, producer }
    }

    fn layer(&self) -> Layer {
        Layer { quality: self.quality, width: self.size.0, height: self.size.1, bitrate: self.bitrate }
    }
}

/// Which producers a plan uses.
#[derive(Clone, Debug)]
pub(crate) struct Producers {
    /// The layers to encode where the source is large enough, lowest first; none where nothing is encoded.
    pub(crate) encoded: Vec<Layer>,
    /// Whether the source's layers are passed through, above those.
    pub(crate) passthrough: bool,
    /// Makes the audio.
    pub(crate) audio: AudioProducer,
}

impl Producers {
    /// What this ingress asks for.
    pub(crate) fn of(spec: &IngressSpec) -> Self {
        if spec.input == InputKind::Whip && !spec.transcode {
            return Self { encoded: Vec::new(), passthrough: true, audio: AudioProducer::Passthrough };
        }
        let encoded = spec.video.encoding.layers.clone();
        Self { encoded, passthrough: false, audio: AudioProducer::Encoder }
    }
}

/// What the rest of the session has to do about a change of the plan.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Change {
    /// The worker has other layers to encode: [`Plan::encoder_layers`].
    pub(crate) encoders: bool,
    /// What becomes of the published track.
    pub(crate) track: TrackChange,
    /// Producers whose first key frame a layer waits for.
    pub(crate) keyframes: Vec<Producer>,
}

/// What becomes of the published video track.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum TrackChange {
    /// It stays as it is, or is not published yet.
    #[default]
    None,
    /// Its layers have other sizes or bitrates.
    Resized,
    /// It can't be changed into what the plan says now: a new one has to take its place.
    Replaced,
}

#[derive(Debug)]
struct Output {
    layer: LayerOutput,
    wanted: bool,
    /// Takes over with its next key frame.
    next: Option<Producer>,
}

impl Output {
    fn new(layer: LayerOutput) -> Self {
        Self { layer, wanted: true, next: None }
    }
}

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Plan {
    /// The sizes of encoded layers; `None` where none is encoded.
    sizing: Option<Sizing>,
    passthrough: bool,
    audio: AudioProducer,
    encoder_format: VideoFormat,
    encoder_opus: OpusFormat,
    source_format: Option<VideoFormat>,
    source_opus: Option<OpusFormat>,
    encoder_layers: Vec<Layer>,
    /// Who makes the highest of the encoded layers, if not its encoder.
    top: Option<Producer>,
    source_layers: Vec<Layer>,
    /// Lowest first; empty until all producers have told their sizes.
    outputs: Vec<Output>,
    /// The format of each layer that the room was told.
    published: Option<Vec<VideoFormat>>,
}

impl Plan {
    /// For this ingress, with these producers. Nothing is known of the source yet.
    pub(crate) fn new(spec: &IngressSpec, producers: Producers) -> Self {
        let audio = spec.audio.encoding;
        Self {
            sizing: (!producers.encoded.is_empty()).then(|| Sizing::new(producers.encoded)),
            passthrough: producers.passthrough,
            audio: producers.audio,
            encoder_format: spec.video.encoding.codec.into(),
            encoder_opus: OpusFormat { stereo: audio.channels > 1, dtx: audio.dtx },
            source_format: None,
            source_opus: None,
            encoder_layers: Vec::new(),
            top: None,
            source_layers: Vec::new(),
            outputs: Vec::new(),
            published: None,
        }
    }

    /// Whether any output needs a worker.
    pub(crate) fn needs_worker(&self) -> bool {
        self.encodes(Kind::Video) || self.encodes(Kind::Audio)
    }

    /// Whether any output of this kind is encoded.
    pub(crate) fn encodes(&self, kind: Kind) -> bool {
        match kind {
            Kind::Video => self.sizing.is_some(),
            Kind::Audio => self.audio == AudioProducer::Encoder,
        }
    }

    /// Whether audio is passed through.
    pub(crate) fn passes_audio(&self) -> bool {
        self.audio == AudioProducer::Passthrough
    }

    /// The source will send video of this format for passthrough.
    pub(crate) fn expect(&mut self, format: VideoFormat) {
        self.source_format.get_or_insert(format);
    }

    /// The format of the source's video for passthrough, also before anything of it has come.
    pub(crate) fn expected(&self) -> Option<VideoFormat> {
        self.source_format.clone().filter(|_| self.passthrough)
    }

    /// The source's audio has this format.
    pub(crate) fn source_audio(&mut self, format: OpusFormat) {
        self.source_opus = Some(format);
    }

    /// The format of the audio output.
    pub(crate) fn opus_format(&self) -> OpusFormat {
        match self.audio {
            AudioProducer::Encoder => self.encoder_opus,
            AudioProducer::Passthrough => self.source_opus.unwrap_or(self.encoder_opus),
        }
    }

    /// Decoded pictures have this size, in pixels, from now on.
    pub(crate) fn decoded_size(&mut self, size: (u32, u32), now: Instant) -> Change {
        let current = &self.encoder_layers;
        let layers = self.sizing.as_mut().and_then(|sizing| sizing.picture(size, current, now));
        layers.map(|layers| self.encode(layers)).unwrap_or_default()
    }

    /// When to call [`Plan::tick`].
    pub(crate) fn due(&self) -> Option<Instant> {
        self.sizing.as_ref()?.due()
    }

    /// Encoded layers may be due to follow a change of the source's size.
    pub(crate) fn tick(&mut self, now: Instant) -> Change {
        if self.due().is_none_or(|due| now < due) {
            return Change::default();
        }
        let current = &self.encoder_layers;
        let layers = self.sizing.as_mut().and_then(|sizing| sizing.tick(current, now));
        layers.map(|layers| self.encode(layers)).unwrap_or_default()
    }

    /// The source has these layers for passthrough, lowest first, in this format.
    pub(crate) fn source_video(&mut self, format: VideoFormat, layers: Vec<Layer>) -> Change {
        self.source_format = Some(format);
        self.source_layers = layers;
        self.update()
    }

    /// Whether everything is known that a track is published with.
    pub(crate) fn video_known(&self) -> bool {
        !self.outputs.is_empty()
    }

    fn encode(&mut self, layers: Vec<Layer>) -> Change {
        self.encoder_layers = layers;
        Change { encoders: true, ..self.update() }
    }

    /// Puts the outputs together again, once all producers have told their sizes.
    fn update(&mut self) -> Change {
        if (self.sizing.is_some() && self.encoder_layers.is_empty())
            || (self.passthrough && self.source_layers.is_empty())
        {
            return Change::default();
        }
        let highest = self.encoder_layers.len().checked_sub(1);
        let maker = |n| self.top.filter(|_| highest == Some(n)).unwrap_or(Producer::Encoder(n));
        let encoded = self.encoder_layers.iter().enumerate().map(|(n, l)| LayerOutput::new(*l, maker(n)));
        let source = self.source_layers.iter().enumerate().filter(|_| self.passthrough);
        let passed = source.map(|(n, l)| LayerOutput::new(*l, Producer::Passthrough(n)));
        let outputs: Vec<_> = encoded.chain(passed).collect();
        self.apply(&outputs)
    }

    /// Goes over to these outputs, layer by layer as the [module](self) says.
    fn apply(&mut self, outputs: &[LayerOutput]) -> Change {
        if outputs.len() != self.outputs.len() {
            self.outputs = outputs.iter().map(|layer| Output::new(*layer)).collect();
            return Change { track: self.replaced_or(TrackChange::None), ..Change::default() };
        }
        let (mut resized, mut keyframes) = (false, Vec::new());
        for (output, &new) in self.outputs.iter_mut().zip(outputs) {
            let old = output.layer;
            output.layer = LayerOutput { producer: old.producer, ..new };
            resized |= old.layer() != new.layer();
            output.next = (new.producer != old.producer).then_some(new.producer);
            keyframes.extend(output.next);
        }
        let track = if resized { TrackChange::Resized } else { TrackChange::None };
        Change { track: self.replaced_or(track), keyframes, encoders: false }
    }

    /// Whether the published track can't be what the plan says now.
    fn replaced_or(&self, else_: TrackChange) -> TrackChange {
        let Some(published) = &self.published else { return TrackChange::None };
        let same = |(a, b): (&VideoFormat, &VideoFormat)| (a.codec, a.described) == (b.codec, b.described);
        let formats = self.formats();
        let fits = published.len() == formats.len() && published.iter().zip(&formats).all(same);
        if fits { else_ } else { TrackChange::Replaced }
    }

    /// The format of each output, from its producer.
    fn formats(&self) -> Vec<VideoFormat> {
        let of = |producer| match producer {
            Producer::Encoder(_) => self.encoder_format.clone(),
            Producer::Passthrough(_) => self.source_format.clone().unwrap_or_else(|| self.encoder_format.clone()),
        };
        self.outputs.iter().map(|output| of(output.next.unwrap_or(output.layer.producer))).collect()
    }

    /// The layers to publish, lowest first; from now on they are published.
    pub(crate) fn publish(&mut self) -> Vec<LayerFormat> {
        let formats = self.formats();
        self.published = Some(formats.clone());
        let layers = self.layers().into_iter().zip(formats);
        layers.map(|(layer, format)| LayerFormat { layer, format }).collect()
    }

    /// The layers of the output, lowest first.
    pub(crate) fn layers(&self) -> Vec<Layer> {
        self.outputs.iter().map(|output| output.layer.layer()).collect()
    }

    /// The rank of an output's layer.
    pub(crate) fn quality(&self, output: usize) -> Option<Quality> {
        self.outputs.get(output).map(|output| output.layer.quality)
    }

    /// The source's access units take the place of the highest encoded layer (`true`), or its encoder makes it again: each from its next
    /// key frame on. Gives the change, and the encoder, if that changes anything.
    pub(crate) fn pass_top(&mut self, passes: bool) -> Option<(usize, Change)> {
        let top = passes.then_some(Producer::Passthrough(0));
        if !self.may_pass_top() || self.top == top || self.outputs.is_empty() {
            return None;
        }
        self.top = top;
        let encoder = self.encoder_layers.len().checked_sub(1)?;
        Some((encoder, self.update()))
    }

    /// Whether the highest layer may be made by the source or an encoder, one in the place of the other.
    pub(crate) fn may_pass_top(&self) -> bool {
        self.sizing.is_some() && !self.passthrough
    }

    /// The highest encoded layer, whoever makes it, with its output; `None` while nothing is encoded.
    pub(crate) fn top(&self) -> Option<(usize, Layer)> {
        let layer = self.encoder_layers.last()?;
        Some((self.encoder_layers.len() - 1, *layer)).filter(|_| self.may_pass_top() && !self.outputs.is_empty())
    }

    /// Whether viewers want an output.
    pub(crate) fn wanted(&self, output: usize) -> bool {
        self.outputs.get(output).is_some_and(|output| output.wanted)
    }

    /// The layers that the worker encodes, lowest first.
    pub(crate) fn encoder_layers(&self) -> &[Layer] {
        &self.encoder_layers
    }

    /// Which layers viewers want. Gives the producers for which that is new.
    pub(crate) fn want(&mut self, wanted: &[bool]) -> Vec<(Producer, bool)> {
        let mut news = Vec::new();
        for (output, &wanted) in self.outputs.iter_mut().zip(wanted) {
            if std::mem::replace(&mut output.wanted, wanted) != wanted {
                news.extend([Some(output.layer.producer), output.next].into_iter().flatten().map(|p| (p, wanted)));
            }
        }
        news
    }

    /// Whether anybody watches what is encoded; true until that can be known.
    pub(crate) fn encoders_watched(&self) -> bool {
        self.outputs.is_empty() || self.encoders_seen()
    }

    /// Whether an encoded layer is sent that somebody watches.
    pub(crate) fn encoders_seen(&self) -> bool {
        self.outputs.iter().any(|output| {
            let encoded = |producer| matches!(producer, Producer::Encoder(_));
            output.wanted && (encoded(output.layer.producer) || output.next.is_some_and(encoded))
        })
    }

    /// The output that a unit of this producer goes to; `None` if it goes nowhere. With a key frame a producer takes over the
    /// layer that waits for it.
    pub(crate) fn route(&mut self, producer: Producer, key: bool) -> Option<usize> {
        let index = self.outputs.iter().position(|o| o.layer.producer == producer || o.next == Some(producer))?;
        let output = &mut self.outputs[index];
        if output.next == Some(producer) && key {
            (output.layer.producer, output.next) = (producer, None);
        }
        (output.layer.producer == producer).then_some(index)
    }

    /// Who makes the next key frame of an output.
    pub(crate) fn keyframe_producer(&self, output: usize) -> Option<Producer> {
        self.outputs.get(output).map(|output| output.next.unwrap_or(output.layer.producer))
    }
}
