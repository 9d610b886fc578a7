//! AC-3 and E-AC-3: sample rate and channels from a syncframe header (ATSC A/52 §5.3, §5.4, annex E.1.2).

use super::AudioFormat;
use crate::picture::bits::Bits;

/// Sample rates by `fscod`.
const RATES: [u32; 3] = [48_000, 44_100, 32_000];
/// Full-range channels by `acmod`.
const CHANNELS: [u8; 8] = [2, 1, 2, 3, 3, 4, 4, 5];

/// The format in a syncframe header, of AC-3 or E-AC-3 according to its bit stream id; `None` if this is none.
pub fn format(frame: &[u8]) -> Option<AudioFormat> {
    let id = frame.get(5)? >> 3;
    let mut bits = Bits::new(frame);
    if bits.read(16)? != 0x0b77 {
        return None;
    }
    let (rate, mode) = if id <= 10 { ac3(&mut bits)? } else { eac3(&mut bits)? };
    let low_frequency = u8::from(bits.bit()?);
    Some(AudioFormat { sample_rate: Some(rate), channels: Some(CHANNELS[mode as usize & 7] + low_frequency) })
}

fn ac3(bits: &mut Bits<'_>) -> Option<(u32, u32)> {
    bits.skip(16)?; // checksum
    let rate = *RATES.get(bits.read(2)? as usize)?;
    bits.skip(6 + 5 + 3)?; // frame size, stream id and mode
    let mode = bits.read(3)?;
    // Mix levels of the channels that the mode has.
    for present in [mode & 1 == 1 && mode != 1, mode & 4 == 4, mode == 2] {
        bits.skip(if present { 2 } else { 0 })?;
    }
    Some((rate, mode))
}

fn eac3(bits: &mut Bits<'_>) -> Option<(u32, u32)> {
    bits.skip(2 + 3 + 11)?; // stream type and id, frame size
    let code = bits.read(2)? as usize;
    let second = bits.read(2)? as usize; // blocks, or the half rate
    let rate = RATES.get(code).copied().or_else(|| RATES.get(second).map(|r| r / 2))?;
    Some((rate, bits.read(3)?))
}
