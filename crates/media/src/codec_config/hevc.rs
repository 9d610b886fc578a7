//! H.265: the configuration record (ISO 14496-15 §8.3.3.1).

use super::{NalConfig, take_field};
use crate::ConfigError;
use crate::picture;

const SPS: u8 = 33;

/// Checks an hvcC record.
///
/// # Errors
/// [`ConfigError`].
pub fn parse(record: &[u8]) -> Result<NalConfig, ConfigError> {
    let fail = |why| ConfigError { codec: "H.265", why };
    let Some((head, mut rest)) = record.split_first_chunk::<23>() else { return Err(fail("it is too short")) };
    // Version 0 is from before the standard was done; some encoders still write it.
    if head[0] > 1 {
        return Err(fail("its version is not 1"));
    }
    let length_size = usize::from(head[21] & 3) + 1;
    if length_size == 3 {
        return Err(fail("NAL unit lengths of three bytes do not exist"));
    }
    let mut size = None;
    for _ in 0..head[22] {
        let Some((&[kind, high, low], units)) = rest.split_first_chunk::<3>() else {
            return Err(fail("an array is cut off"));
        };
        rest = units;
        for _ in 0..u16::from_be_bytes([high, low]) {
            let unit = take_field(&mut rest).ok_or(fail("a parameter set is cut off"))?;
            if kind & 0x3f == SPS {
                size = size.or_else(|| picture::h265_size(unit));
            }
        }
    }
    Ok(NalConfig { length_size, size })
}
