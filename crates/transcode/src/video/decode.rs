//! The video decoders: for each codec the caps of its access units and the elements that decode them, best first.
//!
//! No parser stands before a decoder: a source delivers whole access units, and a parser would only read them once more. Decoders
//! run without frame threads, each of which would hold back a picture; slices are decoded in parallel where the source has some.

use super::Picture;
use gstreamer::{self as gst, prelude::*};
use gstreamer_video::{VideoInfo, VideoInterlaceMode};
use media::codec_config::avc;
use media::{GateDecision, KeyframeGate, RaslFilter, picture};
use model::{Colours, Frame, Rotation, VideoCodec, VideoConfig};
use worker::max_luminance::{self, max_luminance};
use worker::pad_chain::{Output, PadChain, element, first_element, from_clock, set_known, to_clock};
use worker::{Error, decode_errors};

/// Decodes one configuration of one codec.
#[derive(Debug)]
pub(crate) struct Decoder {
    chain: PadChain,
    codec: VideoCodec,
    /// What else is done to decoded pictures: deinterlacing, turning.
    after: Option<PadChain>,
    rotation: Rotation,
    info: Option<VideoInfo>,
    /// What the container says of it, and after the first picture the stream.
    peak: Option<u16>,
    /// What the first access unit must be led by: AV1's configuration carries a sequence header that key frames may lack.
    lead: Vec<u8>,
    gate: KeyframeGate,
    /// Of H.264: how many bytes the length of a unit has.
    length_size: usize,
    leading: RaslFilter,
}

impl Decoder {
    /// Builds the decoder.
    ///
    /// # Errors
    /// [`Error::NoElement`] if no decoder of this codec is installed.
    pub(crate) fn new(config: &VideoConfig) -> Result<Self, Error> {
        let decoder = first_element(&format!("decoder for {}", name(config.codec)), factories(config.codec))?;
        set_known(
            &decoder,
            &[
                // libav: without frame threads and without its strict mode (which delays by the deepest possible reordering).
                ("max-threads", "1"),
                ("thread-type", "slice"),
                ("std-compliance", "normal"),
                // Never give up on broken pictures: the next key frame mends them.
                ("max-errors", "-1"),
                ("qos", "false"),
                // libvpx, dav1d.
                ("threads", "1"),
                ("n-threads", "1"),
                ("max-frame-delay", "1"),
            ],
        );
        decode_errors::hear();
        let chain = PadChain::new(vec![decoder], &gst::Caps::new_empty_simple("video/x-raw"))?;
        chain.caps(&caps(config))?;
        let lead = match config.codec {
            // av1C: four bytes, then OBUs (AV1-ISOBMFF §2.3.3).
            VideoCodec::Av1 => config.record.get(4..).unwrap_or_default().to_vec(),
            _ => Vec::new(),
        };
        Ok(Self {
            chain,
            codec: config.codec,
            after: None,
            rotation: config.rotation,
            info: None,
            peak: config.max_luminance,
            lead,
            gate: KeyframeGate::before_decoder(),
            // avcC (ISO 14496-15 §5.3.3.1).
            length_size: avc::length_size(&config.record),
            leading: RaslFilter::default(),
        })
    }

    /// Whether a picture need not be decoded if it is not shown: no other builds on it.
    pub(crate) fn is_spare(&self, frame: &Frame) -> bool {
        self.codec == VideoCodec::H264 && !frame.key && picture::h264_is_disposable(&frame.data, self.length_size)
    }

    /// Decodes one access unit; pictures are then to be taken by [`Decoder::next_picture`].
    ///
    /// # Errors
    /// If the decoder gives up; a new one is needed then.
    pub(crate) fn push(&mut self, frame: Frame) -> Result<(), Error> {
        match self.gate.pass(frame.key) {
            GateDecision::Dropped => return Ok(()),
            GateDecision::Resumes => self.leading.missed(),
            GateDecision::Continues => {}
        }
        if !self.leading.admits(frame.key, frame.pts) {
            return Ok(());
        }
        if self.codec == VideoCodec::Av1 && frame.key {
            self.peak = max_luminance::of_av1(&frame.data).or_else(|| max_luminance::of_av1(&self.lead)).or(self.peak);
        }
        let mut buffer = if self.lead.is_empty() {
            gst::Buffer::from_slice(frame.data)
        } else {
            gst::Buffer::from_slice([std::mem::take(&mut self.lead), frame.data.to_vec()].concat())
        };
        if let Some(b) = buffer.get_mut() {
            b.set_pts(to_clock(frame.pts));
            b.set_dts(to_clock(frame.dts));
            if !frame.key {
                b.set_flags(gst::BufferFlags::DELTA_UNIT);
            }
        }
        self.chain.push(buffer)
    }

    /// Lets pictures out that wait for their turn.
    pub(crate) fn drain(&self) {
        self.chain.drain();
    }

    /// The next decoded picture, in the order of showing.
    ///
    /// # Errors
    /// If the decoder makes pictures of a kind that cannot be used.
    pub(crate) fn next_picture(&mut self) -> Result<Option<Picture>, Error> {
        loop {
            let done = self.after.as_ref().and_then(PadChain::next_output);
            match done {
                Some(output) => {
                    if let Some(picture) = self.finished(output)? {
                        return Ok(Some(picture));
                    }
                    continue;
                }
                None => {
                    let Some(output) = self.chain.next_output() else { return Ok(None) };
                    if let Some(picture) = self.decoded(output)? {
                        return Ok(Some(picture));
                    }
                }
            }
        }
    }

    /// What comes from the decoder goes on to what else is to be done.
    fn decoded(&mut self, output: Output) -> Result<Option<Picture>, Error> {
        match output {
            Output::Caps(caps) => {
                let info = VideoInfo::from_caps(&caps).map_err(Error::Format)?;
                self.after = after(&caps, info.interlace_mode() != VideoInterlaceMode::Progressive, self.rotation)?;
                self.info = Some(info);
                self.peak = max_luminance(&caps).or(self.peak);
                Ok(None)
            }
            output => match (&self.after, output) {
                (Some(chain), Output::Buffer(buffer, _)) => chain.push(buffer).map(|()| None),
                (_, output) => self.finished(output),
            },
        }
    }

    fn finished(&mut self, output: Output) -> Result<Option<Picture>, Error> {
        match (output, &self.info) {
            (Output::Caps(caps), _) => {
                self.info = Some(VideoInfo::from_caps(&caps).map_err(Error::Format)?);
                Ok(None)
            }
            (Output::Buffer(buffer, Some(time)), Some(info)) => {
                Ok(Some(Picture { buffer, info: info.clone(), peak: self.peak, pts: from_clock(time) }))
            }
            _ => Ok(None),
        }
    }
}

/// What is done to decoded pictures like these, if anything. Deinterlacing gives one picture for each frame, from one field of it
/// and what the other adds: no waiting for later fields.
fn after(caps: &gst::Caps, interlaced: bool, rotation: Rotation) -> Result<Option<PadChain>, Error> {
    let mut elements = Vec::new();
    if interlaced || rotation != Rotation::None {
        // Neither takes every kind of picture; where nothing has to be changed, nothing is.
        elements.push(element("videoconvert")?);
    }
    if interlaced {
        // What it does not take it lets pass with its fields woven.
        let taken = element("capsfilter")?;
        taken.set_property("caps", gst::Caps::builder("video/x-raw").field("format", "I420").build());
        elements.push(taken);
        let deinterlace = element("deinterlace")?;
        set_known(&deinterlace, &[("fields", "top"), ("method", "linear"), ("mode", "auto"), ("locking", "none")]);
        elements.push(deinterlace);
    }
    let method = match rotation {
        Rotation::None => None,
        Rotation::Clockwise90 => Some("clockwise"),
        Rotation::Clockwise180 => Some("rotate-180"),
        Rotation::Clockwise270 => Some("counterclockwise"),
    };
    if let Some(method) = method {
        let flip = element("videoflip")?;
        set_known(&flip, &[("method", method)]);
        elements.push(flip);
    }
    if elements.is_empty() {
        return Ok(None);
    }
    let chain = PadChain::new(elements, &gst::Caps::new_empty_simple("video/x-raw"))?;
    chain.caps(caps)?;
    Ok(Some(chain))
}

/// The codec's name for people.
pub(crate) fn name(codec: VideoCodec) -> &'static str {
    match codec {
        VideoCodec::H264 => "H.264",
        VideoCodec::H265 => "H.265",
        VideoCodec::Vp8 => "VP8",
        VideoCodec::Vp9 => "VP9",
        VideoCodec::Av1 => "AV1",
        VideoCodec::Flv1 => "Sorenson Spark",
        VideoCodec::ScreenVideo => "Screen Video",
        VideoCodec::ScreenVideo2 => "Screen Video 2",
        VideoCodec::Vp6 => "VP6",
        VideoCodec::Vp6Alpha => "VP6 with alpha",
        VideoCodec::Mpeg2 => "MPEG-2",
        VideoCodec::Mpeg4 => "MPEG-4",
        _ => "this video codec",
    }
}

fn factories(codec: VideoCodec) -> &'static [&'static str] {
    match codec {
        VideoCodec::H264 => &["avdec_h264", "openh264dec"],
        VideoCodec::H265 => &["avdec_h265", "libde265dec"],
        VideoCodec::Vp8 => &["vp8dec", "avdec_vp8"],
        VideoCodec::Vp9 => &["vp9dec", "avdec_vp9"],
        VideoCodec::Av1 => &["dav1ddec", "av1dec"],
        VideoCodec::Flv1 => &["avdec_flv"],
        VideoCodec::ScreenVideo => &["avdec_flashsv"],
        VideoCodec::ScreenVideo2 => &["avdec_flashsv2"],
        VideoCodec::Vp6 => &["avdec_vp6f"],
        VideoCodec::Vp6Alpha => &["avdec_vp6a"],
        VideoCodec::Mpeg2 => &["avdec_mpeg2video", "mpeg2dec"],
        VideoCodec::Mpeg4 => &["avdec_mpeg4"],
        _ => &[],
    }
}

fn caps(config: &VideoConfig) -> gst::Caps {
    let builder = match config.codec {
        VideoCodec::H264 => gst::Caps::builder("video/x-h264")
            .field("stream-format", "avc")
            .field("alignment", "au")
            .field("parsed", true),
        VideoCodec::H265 => gst::Caps::builder("video/x-h265")
            .field("stream-format", "hvc1")
            .field("alignment", "au")
            .field("parsed", true),
        VideoCodec::Av1 => gst::Caps::builder("video/x-av1")
            .field("stream-format", "obu-stream")
            .field("alignment", "tu")
            .field("parsed", true),
        VideoCodec::Vp9 => gst::Caps::builder("video/x-vp9").field("alignment", "super-frame"),
        VideoCodec::Flv1 => gst::Caps::builder("video/x-flash-video").field("flvversion", 1i32),
        VideoCodec::ScreenVideo => gst::Caps::builder("video/x-flash-screen"),
        VideoCodec::ScreenVideo2 => gst::Caps::builder("video/x-flash-screen2"),
        VideoCodec::Vp6 => gst::Caps::builder("video/x-vp6-flash"),
        VideoCodec::Vp6Alpha => gst::Caps::builder("video/x-vp6-alpha"),
        VideoCodec::Mpeg2 => gst::Caps::builder("video/mpeg")
            .field("mpegversion", 2i32)
            .field("systemstream", false)
            .field("parsed", true),
        VideoCodec::Mpeg4 => gst::Caps::builder("video/mpeg")
            .field("mpegversion", 4i32)
            .field("systemstream", false)
            .field("parsed", true),
        _ => gst::Caps::builder("video/x-vp8"),
    };
    let with_record = !config.record.is_empty() && takes_record(config.codec);
    let colours = match config.colours {
        Colours::Unspecified => None,
        Colours::Wide => Some("bt2020"),
        Colours::Pq => Some("bt2100-pq"),
        Colours::Hlg => Some("bt2100-hlg"),
    };
    let builder = builder
        .field_if_some("colorimetry", colours)
        .field_if_some("pixel-aspect-ratio", config.pixel_aspect.and_then(fraction))
        .field_if_some("width", config.size.and_then(|(w, _)| i32::try_from(w).ok()))
        .field_if_some("height", config.size.and_then(|(_, h)| i32::try_from(h).ok()));
    match with_record {
        true => builder.field("codec_data", gst::Buffer::from_slice(config.record.clone())).build(),
        false => builder.build(),
    }
}

/// Whether decoders of this codec take its configuration record; of VP6 that is the byte that says how much is cropped.
fn takes_record(codec: VideoCodec) -> bool {
    matches!(codec, VideoCodec::H264 | VideoCodec::H265 | VideoCodec::Mpeg4 | VideoCodec::Vp6 | VideoCodec::Vp6Alpha)
}

fn fraction((numer, denom): (u32, u32)) -> Option<gst::Fraction> {
    let (numer, denom) = (i32::try_from(numer).ok()?, i32::try_from(denom).ok()?);
    (numer > 0 && denom > 0).then(|| gst::Fraction::new(numer, denom))
}
