//! AAC's AudioSpecificConfig (ISO 14496-3 §1.6.2.1) and MP3's frame header (ISO 11172-3 §2.4.1.3, ISO 13818-3).

use crate::ConfigError;
use crate::picture::bits::Bits;

/// Rate and channels of sound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sound {
    /// Samples a second.
    pub sample_rate: Option<u32>,
    /// Channels.
    pub channels: Option<u8>,
}

const AAC_RATES: [u32; 13] =
    [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350];

/// Checks an AudioSpecificConfig. The rate is that of the core: spectral band replication doubles it at the decoder, and
/// signals that in ways that only the decoder can judge.
///
/// # Errors
/// [`ConfigError`].
pub fn parse_aac(record: &[u8]) -> Result<Sound, ConfigError> {
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
        0 => None, // told by a program config element
        1..=6 => Some(channels as u8),
        7 | 12 | 14 => Some(8),
        11 => Some(7),
        13 => Some(24),
        _ => return Err(fail("its channel configuration does not exist")),
    };
    Ok(Sound { sample_rate: Some(rate), channels })
}

/// What the header of an MP3 frame says.
pub fn mp3_sound(frame: &[u8]) -> Option<Sound> {
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
    Some(Sound { sample_rate: Some(rate), channels: Some(if fourth >> 6 == 3 { 1 } else { 2 }) })
}
