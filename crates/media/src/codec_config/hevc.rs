//! H.265: the configuration record, hvcC (ISO 14496-15 §8.3.3.1).

use super::{NalConfig, put_field, take_field};
use crate::nal::h265::{PPS, SPS, VPS, kind};
use crate::{ConfigError, picture};

/// Checks an hvcC record.
///
/// # Errors
/// [`ConfigError`].
pub fn parse(record: &[u8]) -> Result<NalConfig, ConfigError> {
    let fail = |why| ConfigError { codec: "H.265", why };
    let Some((head, mut rest)) = record.split_first_chunk::<23>() else { return Err(fail("it is too short")) };
    // Version 0 is from before the standard was finished; some encoders still write it.
    if head[0] > 1 {
        return Err(fail("its version is not 1"));
    }
    let length_size = usize::from(head[21] & 3) + 1;
    if length_size == 3 {
        return Err(fail("NAL unit lengths of three bytes do not exist"));
    }
    let mut size = None;
    for _ in 0..head[22] {
        let Some((&[array, high, low], units)) = rest.split_first_chunk::<3>() else {
            return Err(fail("an array is cut off"));
        };
        rest = units;
        for _ in 0..u16::from_be_bytes([high, low]) {
            let unit = take_field(&mut rest).ok_or(fail("a parameter set is cut off"))?;
            if array & 0x3f == SPS {
                size = size.or_else(|| picture::h265_size(unit));
            }
        }
    }
    Ok(NalConfig { length_size, size })
}

/// Makes the record for these parameter sets, each with its NAL header and below 64 KiB; lengths are of four bytes. Profile and
/// level are copied; chroma and bit depth, which decoders read from the parameter set itself, are set to the usual ones. `None`
/// without a sequence parameter set.
pub fn record(sets: &[Vec<u8>]) -> Option<Vec<u8>> {
    let of = |wanted: u8| sets.iter().filter(move |s| s.first().is_some_and(|&h| kind(h) == wanted));
    let sps = picture::bits::unescape(of(SPS).next()?.get(2..)?, 32);
    let mut record = vec![1];
    record.extend_from_slice(sps.get(1..13)?);
    record.extend_from_slice(&[0xf0, 0, 0xfc, 0xfc | 1, 0xf8, 0xf8, 0, 0, 0x0f]);
    let arrays: Vec<u8> = [VPS, SPS, PPS].into_iter().filter(|&k| of(k).next().is_some()).collect();
    record.push(arrays.len() as u8);
    for array in arrays {
        record.extend_from_slice(&[0x80 | array, 0, of(array).count() as u8]);
        of(array).for_each(|s| put_field(&mut record, s));
    }
    Some(record)
}
