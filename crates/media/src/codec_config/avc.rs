//! H.264: the configuration record, avcC (ISO 14496-15 §5.3.3.1).

use super::{NalConfig, put_field, take_field};
use crate::nal::h264::{PPS, SPS, kind};
use crate::{ConfigError, picture};

/// Checks an avcC record.
///
/// # Errors
/// [`ConfigError`].
pub fn parse(record: &[u8]) -> Result<NalConfig, ConfigError> {
    let fail = |why| ConfigError { codec: "H.264", why };
    let Some((head, mut rest)) = record.split_first_chunk::<6>() else { return Err(fail("it is too short")) };
    if head[0] != 1 {
        return Err(fail("its version is not 1"));
    }
    let length_size = usize::from(head[4] & 3) + 1;
    if length_size == 3 {
        return Err(fail("NAL unit lengths of three bytes do not exist"));
    }
    let mut size = None;
    for _ in 0..head[5] & 0x1f {
        let sps = take_field(&mut rest).ok_or(fail("a parameter set is cut off"))?;
        match sps.first() {
            Some(&header) if kind(header) == SPS => size = size.or_else(|| picture::h264_size(sps)),
            _ => return Err(fail("a NAL unit is not a sequence parameter set")),
        }
    }
    let (&count, mut rest) = rest.split_first().ok_or(fail("picture parameter sets are missing"))?;
    for _ in 0..count {
        take_field(&mut rest).ok_or(fail("a parameter set is cut off"))?;
    }
    Ok(NalConfig { length_size, size })
}

/// Bytes of the length before each NAL unit, by the record; 4 where there is no record.
pub fn length_size(record: &[u8]) -> usize {
    record.get(4).map_or(4, |byte| usize::from(byte & 3) + 1)
}

/// Frames a second by the first sequence parameter set of the record; `None` if that does not tell.
pub fn frame_rate(record: &[u8]) -> Option<f64> {
    let (head, mut rest) = record.split_first_chunk::<6>()?;
    (head[5] & 0x1f > 0).then_some(())?;
    picture::h264_frame_rate(take_field(&mut rest)?)
}

/// The parameter sets of the record, each with its NAL header, the sequence parameter sets first: as far as it can be read.
pub fn parameter_sets(record: &[u8]) -> Vec<&[u8]> {
    let mut sets = Vec::new();
    let _ = take_sets(record, &mut sets);
    sets.retain(|set| set.first().is_some_and(|&header| matches!(kind(header), SPS | PPS)));
    sets
}

fn take_sets<'a>(record: &'a [u8], sets: &mut Vec<&'a [u8]>) -> Option<()> {
    let (head, mut rest) = record.split_first_chunk::<6>()?;
    for _ in 0..head[5] & 0x1f {
        sets.push(take_field(&mut rest)?);
    }
    let (&count, mut rest) = rest.split_first()?;
    for _ in 0..count {
        sets.push(take_field(&mut rest)?);
    }
    Some(())
}

/// Makes the record for these parameter sets, each with its NAL header and below 64 KiB; lengths are of four bytes. `None` without
/// a sequence and a picture parameter set.
pub fn record(sets: &[Vec<u8>]) -> Option<Vec<u8>> {
    let of = |wanted: u8| sets.iter().filter(move |s| s.first().is_some_and(|&h| kind(h) == wanted));
    let first = of(SPS).next().filter(|s| s.len() >= 4)?;
    of(PPS).next()?;
    let mut record = vec![1, first[1], first[2], first[3], 0xff, 0xe0 | of(SPS).count() as u8];
    of(SPS).for_each(|s| put_field(&mut record, s));
    record.push(of(PPS).count() as u8);
    of(PPS).for_each(|s| put_field(&mut record, s));
    Some(record)
}
