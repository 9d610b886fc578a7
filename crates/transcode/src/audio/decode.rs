//! The audio decoders: from packets of any codec to interleaved 16-bit samples at 48 kHz.

use gstreamer::{self as gst, prelude::MulDiv};
use gstreamer_audio as gst_audio;
use model::{AudioCodec, AudioConfig, Frame, MediaTime};
use worker::pad_chain::{Output, PadChain, element, first_element, from_clock, set_known, to_clock};
use worker::{Error, decode_errors};

use timing::sample_clock::RATE;

/// Decoded audio.
#[derive(Debug)]
pub(crate) struct DecodedAudio {
    /// When its first sample is to be heard, as the source says.
    pub(crate) pts: MediaTime,
    /// Interleaved samples.
    pub(crate) samples: Vec<i16>,
}

/// Decodes one configuration of one codec.
#[derive(Debug)]
pub(crate) struct Decoder {
    /// None for raw samples.
    chain: Option<PadChain>,
    raw: Vec<Output>,
    converter: Option<Converter>,
    channels: u8,
}

/// What decoded audio is like before it is brought to the room's rate and channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Format {
    pub(crate) rate: u32,
    pub(crate) channels: u32,
}

impl Decoder {
    /// Builds the decoder; its audio will have `channels` channels.
    ///
    /// # Errors
    /// [`Error::NoElement`] if no decoder of this codec is installed.
    pub(crate) fn new(config: &AudioConfig, channels: u8) -> Result<Self, Error> {
        let caps = caps(config);
        let decoder = Self { chain: None, raw: vec![Output::Caps(caps.clone())], converter: None, channels };
        let factories = factories(config.codec);
        if factories.is_empty() {
            return Ok(decoder);
        }
        let element = first_element(&format!("decoder for {}", name(config.codec)), factories)?;
        // Never give up on a broken packet; the next one is whole again.
        set_known(&element, &[("max-errors", "-1"), ("plc", "false")]);
        decode_errors::hear();
        let chain = PadChain::new(vec![element], &gst::Caps::new_empty_simple("audio/x-raw"))?;
        chain.caps(&caps)?;
        Ok(Self { chain: Some(chain), raw: Vec::new(), ..decoder })
    }

    /// Decodes one packet; audio is then to be taken by [`Decoder::next_audio`].
    ///
    /// # Errors
    /// If the decoder gives up; a new one is needed then.
    pub(crate) fn push(&mut self, frame: Frame) -> Result<(), Error> {
        let time = to_clock(frame.pts);
        let mut buffer = gst::Buffer::from_slice(frame.data);
        if let Some(b) = buffer.get_mut() {
            b.set_pts(time);
        }
        match &self.chain {
            Some(chain) => chain.push(buffer),
            None => {
                self.raw.push(Output::Buffer(buffer, time));
                Ok(())
            }
        }
    }

    /// Lets audio out that is still inside.
    pub(crate) fn drain(&self) {
        if let Some(chain) = &self.chain {
            chain.drain();
        }
    }

    /// The next piece of audio; `format` is called when it changes.
    ///
    /// # Errors
    /// If the audio cannot be converted.
    pub(crate) fn next_audio(&mut self, mut format: impl FnMut(Format)) -> Result<Option<DecodedAudio>, Error> {
        loop {
            let output = match &self.chain {
                Some(chain) => chain.next_output(),
                None if self.raw.is_empty() => None,
                None => Some(self.raw.remove(0)),
            };
            match output {
                None => return Ok(None),
                Some(Output::Caps(caps)) => {
                    let info = gst_audio::AudioInfo::from_caps(&caps).map_err(Error::Format)?;
                    format(Format { rate: info.rate(), channels: info.channels() });
                    self.converter = Some(Converter::new(info, &caps, self.channels)?);
                }
                Some(Output::Buffer(buffer, time)) => {
                    let (Some(converter), Some(time)) = (&mut self.converter, time) else { continue };
                    let samples = converter.convert(buffer)?;
                    return Ok(Some(DecodedAudio { pts: from_clock(time), samples }));
                }
            }
        }
    }
}

/// Brings audio to the room's format. It is handed a count of samples for time: gaps and jumps are none of its business.
#[derive(Debug)]
struct Converter {
    chain: PadChain,
    info: gst_audio::AudioInfo,
    frames: u64,
}

impl Converter {
    fn new(info: gst_audio::AudioInfo, caps: &gst::Caps, channels: u8) -> Result<Self, Error> {
        let accepts = gst_audio::AudioCapsBuilder::new_interleaved()
            .format(gst_audio::AudioFormat::S16le)
            .rate(i32::try_from(RATE).unwrap_or(i32::MAX))
            .channels(i32::from(channels))
            .build();
        let convert = element("audioconvert")?;
        // Noise would keep silence from being silent, and a room pays for it by the bit.
        set_known(&convert, &[("dithering", "none"), ("noise-shaping", "none")]);
        let chain = PadChain::new(vec![convert, element("audioresample")?], &accepts)?;
        chain.caps(caps)?;
        Ok(Self { chain, info, frames: 0 })
    }

    fn convert(&mut self, mut buffer: gst::Buffer) -> Result<Vec<i16>, Error> {
        let frames = buffer.size() as u64 / u64::from(self.info.bpf().max(1));
        let b = buffer.make_mut();
        b.set_pts(gst::ClockTime::SECOND.mul_div_floor(self.frames, u64::from(self.info.rate().max(1))));
        b.set_duration(gst::ClockTime::NONE);
        b.unset_flags(gst::BufferFlags::DISCONT | gst::BufferFlags::RESYNC);
        self.frames += frames;
        self.chain.push(buffer)?;
        let mut samples = Vec::new();
        while let Some(output) = self.chain.next_output() {
            let Output::Buffer(buffer, _) = output else { continue };
            let Ok(map) = buffer.map_readable() else { continue };
            samples.extend(map.as_chunks::<2>().0.iter().map(|s| i16::from_le_bytes(*s)));
        }
        Ok(samples)
    }
}

/// The codec's name for people.
pub(crate) fn name(codec: AudioCodec) -> &'static str {
    match codec {
        AudioCodec::Aac | AudioCodec::AacLatm => "AAC",
        AudioCodec::Mp3 => "MP3",
        AudioCodec::Opus => "Opus",
        AudioCodec::Ac3 => "AC-3",
        AudioCodec::Eac3 => "E-AC-3",
        AudioCodec::Flac => "FLAC",
        AudioCodec::Speex => "Speex",
        AudioCodec::Nellymoser => "Nellymoser",
        AudioCodec::AdpcmSwf => "ADPCM",
        AudioCodec::PcmU8 | AudioCodec::PcmS16Le => "PCM",
        AudioCodec::PcmAlaw => "G.711 A-law",
        AudioCodec::PcmMulaw => "G.711 µ-law",
        AudioCodec::Mp2 => "MPEG audio layer 2",
        AudioCodec::Vorbis => "Vorbis",
        _ => "this audio codec",
    }
}

/// Decoders, best first; none for raw samples.
fn factories(codec: AudioCodec) -> &'static [&'static str] {
    match codec {
        AudioCodec::Mp3 => &["mpg123audiodec", "avdec_mp3"],
        AudioCodec::Mp2 => &["mpg123audiodec", "avdec_mp2float"],
        AudioCodec::Vorbis => &["vorbisdec", "avdec_vorbis"],
        AudioCodec::Opus => &["opusdec", "avdec_opus"],
        AudioCodec::Ac3 => &["avdec_ac3", "a52dec"],
        AudioCodec::Eac3 => &["avdec_eac3"],
        AudioCodec::Flac => &["avdec_flac"],
        AudioCodec::Speex => &["speexdec"],
        AudioCodec::Nellymoser => &["avdec_nellymoser"],
        AudioCodec::AdpcmSwf => &["avdec_adpcm_swf"],
        AudioCodec::PcmU8 | AudioCodec::PcmS16Le => &[],
        AudioCodec::PcmAlaw => &["alawdec"],
        AudioCodec::PcmMulaw => &["mulawdec"],
        AudioCodec::AacLatm => &["avdec_aac_latm"],
        // faad knows no more than the most usual profiles.
        _ => &["avdec_aac", "faad"],
    }
}

fn caps(config: &AudioConfig) -> gst::Caps {
    let builder = match config.codec {
        AudioCodec::Mp3 | AudioCodec::Mp2 => gst::Caps::builder("audio/mpeg")
            .field("mpegversion", 1i32)
            .field("layer", if config.codec == AudioCodec::Mp3 { 3i32 } else { 2 })
            .field("parsed", true),
        AudioCodec::Vorbis => gst::Caps::builder("audio/x-vorbis").field("streamheader", vorbis_headers(config)),
        AudioCodec::AacLatm => gst::Caps::builder("audio/mpeg")
            .field("mpegversion", 4i32)
            .field("stream-format", "loas")
            .field("framed", true),
        AudioCodec::Opus => opus_caps(&config.record),
        AudioCodec::Ac3 => gst::Caps::builder("audio/x-ac3").field("framed", true).field("alignment", "frame"),
        AudioCodec::Eac3 => gst::Caps::builder("audio/x-eac3").field("framed", true).field("alignment", "frame"),
        AudioCodec::Flac => gst::Caps::builder("audio/x-flac").field("framed", true),
        AudioCodec::Speex => gst::Caps::builder("audio/x-speex").field("streamheader", speex_headers(config)),
        AudioCodec::Nellymoser => gst::Caps::builder("audio/x-nellymoser"),
        AudioCodec::AdpcmSwf => gst::Caps::builder("audio/x-adpcm").field("layout", "swf"),
        AudioCodec::PcmU8 => gst::Caps::builder("audio/x-raw").field("format", "U8").field("layout", "interleaved"),
        AudioCodec::PcmS16Le => {
            gst::Caps::builder("audio/x-raw").field("format", "S16LE").field("layout", "interleaved")
        }
        AudioCodec::PcmAlaw => gst::Caps::builder("audio/x-alaw"),
        AudioCodec::PcmMulaw => gst::Caps::builder("audio/x-mulaw"),
        _ => gst::Caps::builder("audio/mpeg")
            .field("mpegversion", 4i32)
            .field("stream-format", "raw")
            .field("framed", true),
    };
    let with_record = matches!(config.codec, AudioCodec::Aac | AudioCodec::Flac) && !config.record.is_empty();
    let builder = builder
        .field_if_some("rate", config.sample_rate.and_then(|r| i32::try_from(r).ok()))
        .field_if_some("channels", config.channels.map(i32::from));
    match with_record {
        true => builder.field("codec_data", gst::Buffer::from_slice(config.record.clone())).build(),
        false => builder.build(),
    }
}

/// More than two channels are several streams in each packet, and only the header knows which is which (RFC 7845 §5.1).
fn opus_caps(head: &[u8]) -> gst::caps::Builder<gst::caps::NoFeature> {
    let caps = gst::Caps::builder("audio/x-opus");
    let head = head.strip_prefix(b"OpusHead").unwrap_or_default();
    // Version, channels, pre-skip, rate and gain come before.
    match head.get(10..) {
        Some([family, streams, coupled, mapping @ ..]) if *family > 0 => caps
            .field("channel-mapping-family", i32::from(*family))
            .field("stream-count", i32::from(*streams))
            .field("coupled-count", i32::from(*coupled))
            .field("channel-mapping", gst::Array::new(mapping.iter().map(|c| i32::from(*c)))),
        _ => caps.field("channel-mapping-family", 0i32),
    }
}

/// The three header packets that a Vorbis decoder wants, out of their lacing (see [`AudioConfig::record`]).
fn vorbis_headers(config: &AudioConfig) -> gst::Array {
    let Some((&count, mut rest)) = config.record.split_first() else { return gst::Array::new([] as [gst::Buffer; 0]) };
    let mut lengths = Vec::new();
    for _ in 0..count {
        let full = rest.iter().take_while(|b| **b == 255).count();
        let Some(last) = rest.get(full) else { break };
        lengths.push(full * 255 + usize::from(*last));
        rest = &rest[full + 1..];
    }
    let mut packets = Vec::new();
    for length in lengths {
        let (packet, after) = rest.split_at(length.min(rest.len()));
        packets.push(gst::Buffer::from_slice(packet.to_vec()));
        rest = after;
    }
    packets.push(gst::Buffer::from_slice(rest.to_vec()));
    gst::Array::new(packets)
}

/// The two header packets that a Speex decoder wants and that sources without a container for Speex (FLV) don't have: wideband
/// (or the mode of the configured rate), one frame to a packet; the layout is that of `SpeexHeader` in the Speex manual, §8.
fn speex_headers(config: &AudioConfig) -> gst::Array {
    let rate = config.sample_rate.unwrap_or(16_000);
    let mode = match rate {
        ..12_500 => 0i32,
        12_500..25_000 => 1,
        _ => 2,
    };
    let channels = config.channels.map_or(1, i32::from);
    let mut header = b"Speex   ".to_vec();
    header.extend([0; 20]);
    let rate = i32::try_from(rate).unwrap_or(16_000);
    let frame = 160 << mode;
    for field in [1, 80, rate, mode, 4, channels, -1, frame, 0, 1, 0, 0, 0] {
        header.extend(field.to_le_bytes());
    }
    // An empty comment by an empty vendor.
    let comment = vec![0u8; 9];
    gst::Array::new([gst::Buffer::from_slice(header), gst::Buffer::from_slice(comment)])
}
