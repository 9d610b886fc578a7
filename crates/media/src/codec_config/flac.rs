//! FLAC: STREAMINFO (RFC 9639 §8.2) out of a sequence header (E-RTMP, `FlacSequenceHeader`).

use super::mpeg_audio::Sound;
use crate::ConfigError;
use crate::picture::bits::Bits;
use bytes::Bytes;

const STREAMINFO: usize = 34;

/// STREAMINFO without signature and block header, and what it says. Encoders send all of it or leave the front out. What
/// only the end of a stream can know (frame sizes, length, checksum) is set to "unknown": FFmpeg sends the header again with
/// it when it stops, and that changes nothing for a decoder.
///
/// # Errors
/// [`ConfigError`].
pub fn parse(header: &Bytes) -> Result<(Bytes, Sound), ConfigError> {
    let fail = |why| ConfigError { codec: "FLAC", why };
    let front = if header.starts_with(b"fLaC") { 8 } else { header.len().saturating_sub(STREAMINFO).min(4) };
    if header.len() < front + STREAMINFO {
        return Err(fail("it is too short"));
    }
    let mut info = header[front..front + STREAMINFO].to_vec();
    info[4..10].fill(0);
    info[13] &= 0xf0;
    info[14..].fill(0);
    let mut bits = Bits::new(&info[10..]);
    let (Some(rate), Some(channels)) = (bits.read(20), bits.read(3)) else { return Err(fail("it is too short")) };
    if rate == 0 {
        return Err(fail("its sample rate does not exist"));
    }
    Ok((Bytes::from(info), Sound { sample_rate: Some(rate), channels: Some(channels as u8 + 1) }))
}
