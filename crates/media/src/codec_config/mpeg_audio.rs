//! AAC's AudioSpecificConfig (ISO 14496-3 §1.6.2.1) and MP3's frame header (ISO 11172-3 §2.4.1.3, ISO 13818-3).

use super::AudioFormat;
use crate::ConfigError;
use crate::picture::bits::Bits;
use bytes::Bytes;

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
        return Err(fail("object type 0 is invalid"));
    }
    if !(1..=192_000).contains(&rate) {
        return Err(fail("its sample rate is invalid"));
    }
    let channels = match channels {
        0 => None, // in a program config element
        1..=6 => Some(channels as u8),
        7 | 12 | 14 => Some(8),
        11 => Some(7),
        13 => Some(24),
        _ => return Err(fail("its channel configuration is invalid")),
    };
    Ok(AudioFormat { sample_rate: Some(rate), channels })
}

/// The most frames of one packet that are taken apart: a tenth of a second and more.
const MAX_ADTS_FRAMES: usize = 64;

/// Frames that came with ADTS headers (ISO 14496-3 §1.A.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adts {
    /// The AudioSpecificConfig that their headers stand for.
    pub record: [u8; 2],
    /// The frames without headers, none of them empty.
    pub frames: Vec<Bytes>,
}

/// Takes the headers from `packet`, if that is a row of ADTS frames from its first byte to its last; `None` if it is not. A raw frame
/// never looks like one: it would begin with the element that ends a frame.
pub fn adts(packet: &Bytes) -> Option<Adts> {
    let mut rest = packet.clone();
    let mut adts: Option<Adts> = None;
    while !rest.is_empty() {
        let &[0xff, b1, b2, b3, b4, b5, _] = rest.first_chunk::<7>()? else { return None };
        // The layer is always 0.
        if b1 & 0xf6 != 0xf0 {
            return None;
        }
        let (object_type, rate, channels) = ((b2 >> 6) + 1, b2 >> 2 & 0xf, (b2 & 1) << 2 | b3 >> 6);
        let header = if b1 & 1 == 1 { 7 } else { 9 };
        let length = usize::from(b3 & 3) << 11 | usize::from(b4) << 3 | usize::from(b5 >> 5);
        if usize::from(rate) >= AAC_RATES.len() || length < header || length > rest.len() {
            return None;
        }
        let frame = rest.split_to(length).slice(header..);
        let record = [object_type << 3 | rate >> 1, (rate & 1) << 7 | channels << 3];
        let adts = adts.get_or_insert_with(|| Adts { record, frames: Vec::new() });
        if adts.frames.len() < MAX_ADTS_FRAMES && !frame.is_empty() {
            adts.frames.push(frame);
        }
    }
    adts
}

/// Samples of each channel in an AAC frame (ISO 14496-3 §4.5.1.1).
pub const AAC_FRAME_SAMPLES: u32 = 1024;

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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A frame of AAC-LC, 44.1 kHz, stereo.
    fn framed(payload: &[u8], crc: bool) -> Vec<u8> {
        let header = if crc { 9 } else { 7 };
        let length = payload.len() + header;
        let mut frame = vec![0xff, if crc { 0xf0 } else { 0xf1 }, 0x50, 0x80 | (length >> 11) as u8];
        frame.extend([(length >> 3) as u8, (length << 5) as u8 | 0x1f, 0xfc]);
        frame.resize(header, 0);
        [&frame[..], payload].concat()
    }

    #[test]
    fn adts_headers_become_a_configuration() {
        let packet = [framed(&[0x21, 1, 2], false), framed(&[0x21; 300], true), framed(&[], false)].concat();
        let found = adts(&Bytes::from(packet.clone())).unwrap();
        assert_eq!(found.frames, [&[0x21, 1, 2][..], &[0x21; 300]]);
        let format = parse_aac(&found.record).unwrap();
        assert_eq!((format.sample_rate, format.channels), (Some(44_100), Some(2)));
        for bad in [&packet[..packet.len() - 1], &packet[1..], &[0x21, 1, 2, 3, 4, 5, 6, 7], &[0xff, 0xf1], &[]] {
            assert_eq!(adts(&Bytes::copy_from_slice(bad)), None);
        }
        assert_eq!(adts(&Bytes::from([&packet[..], &[0x21]].concat())), None, "not up to the last byte");
    }

    proptest! {
        #[test]
        fn noise_never_panics(mut noise in proptest::collection::vec(any::<u8>(), 0..60)) {
            adts(&Bytes::from(noise.clone()));
            noise.splice(..2.min(noise.len()), [0xff, 0xf1]);
            if let Some(found) = adts(&Bytes::from(noise)) {
                prop_assert!(found.frames.iter().all(|frame| !frame.is_empty()));
            }
        }
    }
}
