//! From decoded pictures to the layers' sizes.
//!
//! A cascade: each wanted layer is scaled from the next larger wanted one, so 720 → 360 → 180 reads the large picture once.
//! Layers that nobody wants cost nothing. Scaling happens in the decoder's thread by GStreamer's converter, called directly.

use super::Picture;
use super::shape::{Rect, Size};
use super::tone::{self, Plane, ToneMapper};
use gstreamer::{self as gst, prelude::*};
use gstreamer_video::{self as gst_video, VideoFormat, VideoInfo, prelude::*};
use model::Layer;
use std::sync::Arc;
use worker::Error;

/// Pictures of one size that may be in use at once: those in the encoder's queue and one in the encoder, of each of three layers, as
/// they are all of one size where the source is that small; one being made, and one from which the next smaller is being made.
/// Memory is taken only as it is needed.
const POOL: u32 = (super::encode::QUEUE as u32 + 1) * 3 + 2;

/// Makes one picture of each wanted layer's size out of each decoded one.
#[derive(Debug)]
pub(crate) struct Cascade {
    layers: Vec<Size>,
    scalers: Vec<Option<Scaler>>,
    /// For wide-gamut and high-dynamic-range pictures, once there was one.
    mapper: Option<Arc<ToneMapper>>,
}

impl Cascade {
    /// For these layers, lowest first.
    pub(crate) fn new(layers: &[Layer]) -> Self {
        Self {
            layers: layers.iter().map(|l| Size { width: l.width, height: l.height }).collect(),
            scalers: layers.iter().map(|_| None).collect(),
            mapper: None,
        }
    }

    /// Scales to these sizes from now on.
    pub(crate) fn resize(&mut self, layers: &[Layer]) {
        for ((known, scaler), layer) in self.layers.iter_mut().zip(&mut self.scalers).zip(layers) {
            let size = Size { width: layer.width, height: layer.height };
            if std::mem::replace(known, size) != size {
                *scaler = None;
            }
        }
    }

    /// Scales to all layers that `wanted` names and hands each picture to `take`, the largest first: it takes longest to
    /// encode, and its encoder works while the smaller ones are being made.
    ///
    /// # Errors
    /// If GStreamer cannot convert pictures of this kind.
    pub(crate) fn run(
        &mut self,
        picture: Picture,
        wanted: impl Fn(usize) -> bool,
        mut take: impl FnMut(usize, Picture),
    ) -> Result<(), Error> {
        let mut current = picture;
        for (i, &size) in self.layers.iter().enumerate().rev().filter(|(i, _)| wanted(*i)) {
            if !is_final(&current.info, size) {
                let mapper = mapper(&mut self.mapper, tone::transfer_function(&current.info, current.peak));
                let scaler = match &mut self.scalers[i] {
                    Some(s) if s.takes(&current.info, mapper.as_ref()) => s,
                    slot => slot.insert(Scaler::new(&current.info, size, mapper)?),
                };
                current = scaler.scale(&current)?;
            } else {
                self.scalers[i] = None;
            }
            take(i, current.clone());
        }
        Ok(())
    }

    /// Lets go of what only this layer needed.
    pub(crate) fn release(&mut self, layer: usize) {
        if let Some(scaler) = self.scalers.get_mut(layer) {
            *scaler = None;
        }
    }
}

/// Whether pictures like this are what the encoder of a layer of `size` takes.
fn is_final(info: &VideoInfo, size: Size) -> bool {
    info.format() == VideoFormat::I420
        && (Size { width: info.width(), height: info.height() }) == size
        && info.par() == gst::Fraction::new(1, 1)
        && !needs_new_colours(info)
}

/// Whether browsers could not show such colours as they are meant.
fn needs_new_colours(info: &VideoInfo) -> bool {
    use gst_video::VideoColorMatrix::{Bt601, Bt709, Unknown};
    tone::transfer_function(info, None).is_some() || !matches!(info.colorimetry().matrix(), Bt601 | Bt709 | Unknown)
}

/// What maps the colours of pictures whose light is coded so, if anything has to; kept in `known`, as it takes time to make.
fn mapper(known: &mut Option<Arc<ToneMapper>>, light: Option<tone::TransferFunction>) -> Option<Arc<ToneMapper>> {
    let light = light?;
    if known.as_ref().is_none_or(|m| m.light != light) {
        *known = Some(Arc::new(ToneMapper::new(light)));
    }
    known.clone()
}

/// What a mapper takes: the source's own colours, as BT.2020 with ten bits.
fn wide(input: &VideoInfo, size: Size) -> Result<VideoInfo, Error> {
    let colours = input.colorimetry();
    let colours = gst_video::VideoColorimetry::new(
        gst_video::VideoColorRange::Range16_235,
        gst_video::VideoColorMatrix::Bt2020,
        colours.transfer(),
        colours.primaries(),
    );
    let builder = VideoInfo::builder(VideoFormat::I42010le, size.width, size.height);
    Ok(builder.colorimetry(&colours).chroma_site(input.chroma_site()).build()?)
}

/// The colours of the pictures that come out: those of the source where a browser knows them, else BT.709.
fn colours(input: &VideoInfo) -> gst_video::VideoColorimetry {
    if input.format_info().is_yuv() && !needs_new_colours(input) {
        return input.colorimetry();
    }
    gst_video::VideoColorimetry::new(
        gst_video::VideoColorRange::Range16_235,
        gst_video::VideoColorMatrix::Bt709,
        gst_video::VideoTransferFunction::Bt709,
        gst_video::VideoColorPrimaries::Bt709,
    )
}

#[derive(Debug)]
struct Scaler {
    input: VideoInfo,
    output: VideoInfo,
    converter: gst_video::VideoConverter,
    pool: gst::BufferPool,
    /// What comes between the converter and the output: a picture of its own.
    mapped: Option<Mapped>,
}

#[derive(Debug)]
struct Mapped {
    mapper: Arc<ToneMapper>,
    info: VideoInfo,
    buffer: gst::Buffer,
}

impl Scaler {
    fn new(input: &VideoInfo, size: Size, mapper: Option<Arc<ToneMapper>>) -> Result<Self, Error> {
        let output = VideoInfo::builder(VideoFormat::I420, size.width, size.height)
            .colorimetry(&colours(input))
            .chroma_site(input.chroma_site())
            .build()?;
        let mapped = match mapper {
            Some(mapper) => {
                let info = wide(input, size)?;
                let buffer = gst::Buffer::with_size(info.size())?;
                Some(Mapped { mapper, info, buffer })
            }
            None => None,
        };
        let converted = mapped.as_ref().map_or(&output, |m| &m.info);
        let place = config(Size::shown(input).inside(size));
        let converter = gst_video::VideoConverter::new(&plain(input)?, converted, Some(place))?;
        let pool = gst::BufferPool::new();
        let mut pool_config = pool.config();
        // The cast holds: three bytes for two pixels of at most 16 bits a side, and caps bound both.
        pool_config.set_params(Some(&output.to_caps()?), output.size() as u32, 0, POOL);
        pool.set_config(pool_config)?;
        pool.set_active(true)?;
        Ok(Self { input: input.clone(), output, converter, pool, mapped })
    }

    /// Whether it was made for such pictures.
    fn takes(&self, input: &VideoInfo, mapper: Option<&Arc<ToneMapper>>) -> bool {
        self.input == *input && self.mapped.as_ref().map(|m| m.mapper.light) == mapper.map(|m| m.light)
    }

    fn scale(&mut self, picture: &Picture) -> Result<Picture, Error> {
        let flow = |flow| Error::Flow { flow, text: None };
        let mut buffer = self.pool.acquire_buffer(None).map_err(flow)?;
        {
            let unmapped = |_| flow(gst::FlowError::Error);
            let from = gst_video::VideoFrameRef::from_buffer_ref_readable(picture.buffer.as_ref(), &picture.info)
                .map_err(unmapped)?;
            let to = buffer.get_mut().ok_or(flow(gst::FlowError::Error))?;
            to.set_pts(picture.buffer.pts());
            to.set_duration(picture.buffer.duration());
            let mut to = gst_video::VideoFrameRef::from_buffer_ref_writable(to, &self.output).map_err(unmapped)?;
            match &mut self.mapped {
                None => self.converter.frame_ref(&from, &mut to),
                Some(Mapped { mapper, info, buffer }) => {
                    let between = buffer.get_mut().ok_or(flow(gst::FlowError::Error))?;
                    let mut between =
                        gst_video::VideoFrameRef::from_buffer_ref_writable(between, info).map_err(unmapped)?;
                    self.converter.frame_ref(&from, &mut between);
                    map(mapper, &between, &mut to).map_err(unmapped)?;
                }
            }
        }
        Ok(Picture { buffer, info: self.output.clone(), peak: None, pts: picture.pts })
    }
}

/// Maps the colours of a whole picture.
fn map(
    mapper: &ToneMapper,
    from: &gst_video::VideoFrameRef<&mut gst::BufferRef>,
    to: &mut gst_video::VideoFrameRef<&mut gst::BufferRef>,
) -> Result<(), gst::glib::BoolError> {
    // The casts hold: strides of our own pictures are lengths in bytes.
    let source = |i: u32| -> Result<_, gst::glib::BoolError> {
        Ok(Plane { bytes: from.plane_data(i)?, stride: from.plane_stride()[i as usize] as usize })
    };
    let size = (to.width() as usize, to.height() as usize);
    let strides: Vec<usize> = to.plane_stride().iter().map(|s| *s as usize).collect();
    let [y, cb, cr, _] = to.planes_data_mut();
    let target = |bytes, i: usize| Plane { bytes, stride: strides[i] };
    mapper.run([source(0)?, source(1)?, source(2)?], [target(y, 0), target(cb, 1), target(cr, 2)], size);
    Ok(())
}

impl Drop for Scaler {
    fn drop(&mut self) {
        let _ = self.pool.set_active(false);
    }
}

/// The same without what the converter refuses to change: it works picture by picture, so rates and interlacing (which is
/// gone by now) mean nothing to it.
fn plain(info: &VideoInfo) -> Result<VideoInfo, Error> {
    Ok(VideoInfo::builder_from_info(info)
        .fps(gst::Fraction::new(0, 1))
        .interlace_mode(gst_video::VideoInterlaceMode::Progressive)
        .build()?)
}

fn config(place: Rect) -> gst_video::VideoConverterConfig {
    let int = |v: u32| i32::try_from(v).unwrap_or(i32::MAX);
    let mut config = gst_video::VideoConverterConfig::new();
    // Two taps: exact for halving, which is what the cascade does, and the cheapest.
    config.set_resampler_method(gst_video::VideoResamplerMethod::Linear);
    config.set_dither_method(gst_video::VideoDitherMethod::None);
    config.set_dest_x(int(place.x));
    config.set_dest_y(int(place.y));
    config.set_dest_width(Some(int(place.size.width)));
    config.set_dest_height(Some(int(place.size.height)));
    config
}
