//! FLAC: STREAMINFO (RFC 9639 §8.2) from a sequence header (E-RTMP, `FlacSequenceHeader`).

use super::AudioFormat;
use crate::ConfigError;
use crate::picture::bits::Bits;
use bytes::Bytes;

/// Bytes of STREAMINFO.
const STREAMINFO: usize = 34;

/// STREAMINFO without signature and block header, and the format in it. Encoders send both or leave the front out. Fields that
/// are known only at the end of a stream (frame sizes, length, checksum) are set to "unknown": FFmpeg sends the header again
/// with them when it stops, and that is no change for a decoder.
///
/// # Errors
/// [`ConfigError`].
pub fn parse(header: &Bytes) -> Result<(Bytes, AudioFormat), ConfigError> {
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
    Ok((Bytes::from(info), AudioFormat { sample_rate: Some(rate), channels: Some(channels as u8 + 1) }))
}
