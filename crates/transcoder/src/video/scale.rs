//! From decoded pictures to the layers' sizes.
//!
//! A cascade: each wanted layer is scaled from the next larger wanted one, so 720 → 360 → 180 reads the large picture once.
//! Layers that nobody wants cost nothing. Scaling happens in the decoder's thread by GStreamer's converter, called directly.

use super::Picture;
use super::shape::{Rect, Size};
use crate::error::Error;
use gstreamer::{self as gst, prelude::*};
use gstreamer_video::{self as gst_video, VideoFormat, VideoInfo};
use model::Layer;

/// Pictures of one size that may be in use at once: those in the encoder's queue, one in the encoder, one being made, and one
/// from which the next smaller is being made. Memory is taken only as it is needed.
const POOL: u32 = super::encode::QUEUE as u32 + 3;

/// Makes one picture of each wanted layer's size out of each decoded one.
#[derive(Debug)]
pub(crate) struct Cascade {
    layers: Vec<Size>,
    scalers: Vec<Option<Scaler>>,
}

impl Cascade {
    /// For these layers, lowest first.
    pub(crate) fn new(layers: &[Layer]) -> Self {
        Self {
            layers: layers.iter().map(|l| Size { width: l.width, height: l.height }).collect(),
            scalers: layers.iter().map(|_| None).collect(),
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
                let scaler = match &mut self.scalers[i] {
                    Some(s) if s.input == current.info => s,
                    slot => slot.insert(Scaler::new(&current.info, size)?),
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
    pub(crate) fn rest(&mut self, layer: usize) {
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

/// Whether browsers could not show such colours as they are meant: wide-gamut and high-dynamic-range pictures.
fn needs_new_colours(info: &VideoInfo) -> bool {
    use gst_video::VideoColorMatrix::{Bt601, Bt709, Unknown};
    !matches!(info.colorimetry().matrix(), Bt601 | Bt709 | Unknown)
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
}

impl Scaler {
    fn new(input: &VideoInfo, size: Size) -> Result<Self, Error> {
        let output = VideoInfo::builder(VideoFormat::I420, size.width, size.height)
            .colorimetry(&colours(input))
            .chroma_site(input.chroma_site())
            .build()?;
        let converter =
            gst_video::VideoConverter::new(&plain(input)?, &output, Some(config(Size::shown(input).inside(size))))?;
        let pool = gst::BufferPool::new();
        let mut pool_config = pool.config();
        // The cast holds: three bytes for two pixels of at most 16 bits a side, and caps bound both.
        pool_config.set_params(Some(&output.to_caps()?), output.size() as u32, 0, POOL);
        pool.set_config(pool_config)?;
        pool.set_active(true)?;
        Ok(Self { input: input.clone(), output, converter, pool })
    }

    fn scale(&self, picture: &Picture) -> Result<Picture, Error> {
        let flow = |flow| Error::Flow { flow, words: None };
        let mut buffer = self.pool.acquire_buffer(None).map_err(flow)?;
        {
            let unmapped = |_| flow(gst::FlowError::Error);
            let from = gst_video::VideoFrameRef::from_buffer_ref_readable(picture.buffer.as_ref(), &picture.info)
                .map_err(unmapped)?;
            let to = buffer.get_mut().ok_or(flow(gst::FlowError::Error))?;
            to.set_pts(picture.buffer.pts());
            to.set_duration(picture.buffer.duration());
            let mut to = gst_video::VideoFrameRef::from_buffer_ref_writable(to, &self.output).map_err(unmapped)?;
            self.converter.frame_ref(&from, &mut to);
        }
        Ok(Picture { buffer, info: self.output.clone(), pts: picture.pts })
    }
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
