//! Decoder configurations and the first bytes of frames: is this what it says, and what size or rate has it?
//!
//! The checks keep what cannot be a configuration away from decoders. They look at the structure only; all fields inside
//! parameter sets are for the decoder.

pub mod ac3;
pub mod av1;
pub mod avc;
pub mod flac;
pub mod flv1;
pub mod hevc;
pub mod mpeg_audio;
pub mod opus;

/// What a configuration record with NAL units says (avcC, hvcC).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NalConfig {
    /// Bytes of the length before each NAL unit: 1, 2 or 4.
    pub length_size: usize,
    /// Pixels, cropping applied, if the first sequence parameter set could be read.
    pub size: Option<(u32, u32)>,
}

/// How many bytes from the front of `data` are whole NAL units with `length_size` bytes of length each. Less than all of them
/// means that the frame is damaged; 0 that it is none (Annex B, for one).
pub fn whole_nals(data: &[u8], length_size: usize) -> usize {
    let mut at = 0;
    loop {
        let rest = &data[at..];
        let Some(length) = rest.get(..length_size) else { return at };
        let length = length.iter().fold(0usize, |n, &b| n << 8 | usize::from(b));
        match length.checked_add(length_size) {
            Some(unit) if unit <= rest.len() => at += unit,
            _ => return at,
        }
    }
}

/// Takes a field of bytes with a 16-bit length off the front.
fn take_field<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first_chunk::<2>()?;
    let (field, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    *rest = after;
    Some(field)
}

#[cfg(test)]
mod tests;
