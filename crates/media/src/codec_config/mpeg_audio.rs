//! AAC's AudioSpecificConfig (ISO 14496-3 §1.6.2.1) and MP3's frame header (ISO 11172-3 §2.4.1.3, ISO 13818-3).

use super::AudioFormat;
use crate::ConfigError;
use crate::picture::bits::Bits;

/// Sample rates by index (ISO 14496-3 table 1.18).
const AAC_RATES: [u32; 13] =
    [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350];

/// Checks an AudioSpecificConfig. The sample rate is that of the core: spectral band replication doubles it in the decoder, and
/// only the decoder can tell whether it is used.
///
/// # Errors
/// [`ConfigError`].
pub fn parse_aac(record: &[u8]) -> Result<AudioFormat, ConfigError> {
    let fail = |why| ConfigError { codec: "AAC", why };
    let mut bits = Bits::new(record);
    let mut fields = || {
        let mut object_type = bits.read(5)?;
        if object_type == 31 {
            object_type = 32 + bits.read(6)?;
        }
        let index = bits.read(4)?;
        let rate = if index == 15 { bits.read(24)? } else { AAC_RATES.get(index as usize).copied().unwrap_or(0) };
        Some((object_type, rate, bits.read(4)?))
    };
    let (object_type, rate, channels) = fields().ok_or(fail("it is too short"))?;
    if object_type == 0 {
        return Err(fail("it names no object type"));
    }
    if !(1..=192_000).contains(&rate) {
        return Err(fail("its sample rate does not exist"));
    }
    let channels = match channels {
        0 => None, // in a program config element
        1..=6 => Some(channels as u8),
        7 | 12 | 14 => Some(8),
        11 => Some(7),
        13 => Some(24),
        _ => return Err(fail("its channel configuration does not exist")),
    };
    Ok(AudioFormat { sample_rate: Some(rate), channels })
}

/// The format in an MP3 frame header; `None` if this is none.
pub fn mp3_format(frame: &[u8]) -> Option<AudioFormat> {
    let &[0xff, second, third, fourth] = frame.first_chunk::<4>()? else { return None };
    let divisor = match second >> 3 & 3 {
        3 => 1, // MPEG 1
        2 => 2, // MPEG 2
        0 => 4, // MPEG 2.5
        _ => return None,
    };
    if second & 0xe0 != 0xe0 || second >> 1 & 3 == 0 {
        return None;
    }
    let rate = [44_100, 48_000, 32_000].get(usize::from(third >> 2 & 3))? / divisor;
    Some(AudioFormat { sample_rate: Some(rate), channels: Some(if fourth >> 6 == 3 { 1 } else { 2 }) })
}
