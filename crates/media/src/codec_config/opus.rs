//! Opus: the identification header (RFC 7845 §5.1).

use super::mpeg_audio::Sound;
use crate::ConfigError;
use bytes::Bytes;

/// Opus decodes at this rate, whatever the header says of the input (RFC 7845 §5.1).
pub const SAMPLE_RATE: u32 = 48_000;

/// Checks an `OpusHead`.
///
/// # Errors
/// [`ConfigError`].
pub fn parse(head: &[u8]) -> Result<Sound, ConfigError> {
    let fail = |why| ConfigError { codec: "Opus", why };
    let Some((fixed, mapping)) = head.split_first_chunk::<19>() else { return Err(fail("it is too short")) };
    if !fixed.starts_with(b"OpusHead") {
        return Err(fail("its signature is missing"));
    }
    if fixed[8] >> 4 != 0 {
        return Err(fail("its version is not 1"));
    }
    let channels = fixed[9];
    let possible = match fixed[18] {
        0 => matches!(channels, 1 | 2),
        _ => channels > 0 && mapping.len() >= 2 + usize::from(channels),
    };
    if !possible {
        return Err(fail("its channel mapping does not fit"));
    }
    Ok(Sound { sample_rate: Some(SAMPLE_RATE), channels: Some(channels) })
}

/// The header for a stream that came without one (E-RTMP: mono or stereo then), `channels` being 1 or 2.
pub fn header(channels: u8) -> Bytes {
    let mut head = b"OpusHead\x01".to_vec();
    head.push(channels.clamp(1, 2));
    head.extend([0, 0]); // nothing to skip at the start of a live stream
    head.extend(SAMPLE_RATE.to_le_bytes());
    head.extend([0, 0, 0]); // gain, mapping family
    Bytes::from(head)
}
