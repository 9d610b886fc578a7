//! Reads the headers of coded pictures: the size, for passthrough, which decodes nothing; and what decoders do not report: of AV1 the
//! maximum luminance, of H.264 the frame rate.

mod av1;
mod avc;
pub mod bits;
mod hevc;
mod sei;
mod vpx;

pub use av1::{Av1Luminance, av1_luminance, av1_size};
pub use avc::{H264Pps, H264Slice, H264Sps, h264_frame_rate, h264_is_disposable, h264_is_random_access, h264_size};
pub use hevc::{h265_is_random_access, h265_size};
pub use vpx::{vp8_size, vp9_size};

/// The largest plausible width and height. Levels of H.264 and H.265 end at 8192 × 4320; this is twice that.
pub const MAX_SIDE: u32 = 16_384;

/// Bytes that are read of a sequence parameter set. Real ones are below 200.
const MAX_PARAMETER_SET: usize = 1024;

/// Width and height, if both are from 1 to [`MAX_SIDE`].
pub fn plausible_size(width: u32, height: u32) -> Option<(u32, u32)> {
    ((1..=MAX_SIDE).contains(&width) && (1..=MAX_SIDE).contains(&height)).then_some((width, height))
}
