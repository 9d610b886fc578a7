//! Decoder configuration records and frame headers: checks them, and reads the picture size or the audio format.
//!
//! The checks keep malformed records away from decoders. They look at the structure only; the fields inside parameter sets are
//! for the decoder to judge.

pub mod ac3;
pub mod av1;
pub mod avc;
pub mod flac;
pub mod flv1;
pub mod hevc;
pub mod mpeg_audio;
pub mod opus;

/// What avcC and hvcC records tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NalConfig {
    /// Bytes of the length before each NAL unit of a frame: 1, 2 or 4.
    pub length_size: usize,
    /// Width and height in pixels after cropping, if a sequence parameter set could be read.
    pub size: Option<(u32, u32)>,
}

/// Sample rate and channels of coded audio.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AudioFormat {
    /// Samples a second, if known.
    pub sample_rate: Option<u32>,
    /// Channels, if known.
    pub channels: Option<u8>,
}

/// Takes a field of bytes with a 16-bit length off the front.
fn take_field<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first_chunk::<2>()?;
    let (field, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    *rest = after;
    Some(field)
}

/// Appends a field of bytes, which are below 64 KiB, behind its 16-bit length.
fn put_field(record: &mut Vec<u8>, field: &[u8]) {
    record.extend_from_slice(&(field.len() as u16).to_be_bytes());
    record.extend_from_slice(field);
}

#[cfg(test)]
mod tests;
