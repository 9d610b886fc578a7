//! What the first bytes of a coded picture tell: its size, for whoever passes pictures on without decoding them; and of AV1 how bright
//! it becomes, which its decoder does not say.

mod av1;
mod avc;
pub mod bits;
mod hevc;
mod vpx;

pub use av1::{Av1Light, av1_light, av1_size};
pub use avc::{h264_is_spare, h264_size};
pub use hevc::h265_size;
pub use vpx::{vp8_size, vp9_size};

/// The largest width and height that is believed. Levels of H.264 and H.265 end at 8192 × 4320; twice that is room enough.
pub const MAX_SIDE: u32 = 16_384;

/// Bytes of a sequence parameter set that are looked at. Real ones are below 200.
const MAX_PARAMETER_SET: usize = 1024;

/// Width and height, if they can be.
pub fn believed(width: u32, height: u32) -> Option<(u32, u32)> {
    ((1..=MAX_SIDE).contains(&width) && (1..=MAX_SIDE).contains(&height)).then_some((width, height))
}
