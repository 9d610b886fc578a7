//! Opus: the identification header (RFC 7845 §5.1).

use super::AudioFormat;
use crate::ConfigError;
use bytes::Bytes;

/// The sample rate of every Opus decoder, whatever input rate the header names (RFC 7845 §5.1).
pub const SAMPLE_RATE: u32 = 48_000;

/// Checks an `OpusHead`.
///
/// # Errors
/// [`ConfigError`].
pub fn parse(head: &[u8]) -> Result<AudioFormat, ConfigError> {
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
    Ok(AudioFormat { sample_rate: Some(SAMPLE_RATE), channels: Some(channels) })
}

/// Makes the header of a stream that came without one, which is mono or stereo (E-RTMP). `channels` is 1 or 2.
pub fn header(channels: u8) -> Bytes {
    let mut head = b"OpusHead\x01".to_vec();
    head.push(channels.clamp(1, 2));
    head.extend([0, 0]); // pre-skip: nothing, at the start of a live stream
    head.extend(SAMPLE_RATE.to_le_bytes());
    head.extend([0, 0, 0]); // gain, mapping family
    Bytes::from(head)
}
