//! NAL units of H.264 and H.265: their types, and the two ways a stream holds them: behind start codes (Annex B of both
//! standards) or behind their lengths, as in MP4 and FLV (ISO 14496-15 §5.3.4.2, often called AVCC).

/// NAL unit types of H.264 (ITU-T H.264 table 7-1), and those that RTP adds (RFC 6184 table 1).
pub mod h264 {
    #![allow(missing_docs)]
    pub const SLICE: u8 = 1;
    pub const PARTITION_A: u8 = 2;
    pub const IDR: u8 = 5;
    pub const SEI: u8 = 6;
    pub const SPS: u8 = 7;
    pub const PPS: u8 = 8;
    /// Access unit delimiter.
    pub const AUD: u8 = 9;
    pub const FILLER: u8 = 12;
    pub const SPS_EXTENSION: u8 = 13;
    pub const SUBSET_SPS: u8 = 15;
    /// RTP aggregation packet.
    pub const STAP_A: u8 = 24;
    /// RTP fragmentation unit.
    pub const FU_A: u8 = 28;

    /// The type of a unit whose header begins with this byte.
    pub const fn kind(header: u8) -> u8 {
        header & 0x1f
    }
}

/// NAL unit types of H.265 (ITU-T H.265 table 7-1), and those that RTP adds (RFC 7798 §4.4).
pub mod h265 {
    #![allow(missing_docs)]
    /// Below this are slices of a picture (VCL units).
    pub const VCL_END: u8 = 32;
    /// Slices of random access points: BLA, IDR and CRA.
    pub const IRAP: std::ops::RangeInclusive<u8> = 16..=23;
    pub const VPS: u8 = 32;
    pub const SPS: u8 = 33;
    pub const PPS: u8 = 34;
    /// Access unit delimiter.
    pub const AUD: u8 = 35;
    /// RTP aggregation packet.
    pub const AP: u8 = 48;
    /// RTP fragmentation unit.
    pub const FU: u8 = 49;

    /// The type of a unit whose header begins with this byte.
    pub const fn kind(header: u8) -> u8 {
        header >> 1 & 0x3f
    }
}

/// Takes one unit with its length of `length_size` bytes off the front; `None` if it is cut off.
fn take_unit<'a>(rest: &mut &'a [u8], length_size: usize) -> Option<&'a [u8]> {
    let (length, after) = rest.split_at_checked(length_size)?;
    let length = length.iter().fold(0usize, |n, &b| n << 8 | usize::from(b));
    let (unit, after) = after.split_at_checked(length)?;
    *rest = after;
    Some(unit)
}

/// The units of a frame, each behind a length of `length_size` bytes (1, 2 or 4). A unit that is cut off is `None`, and the last item.
pub fn length_prefixed(mut rest: &[u8], length_size: usize) -> impl Iterator<Item = Option<&[u8]>> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let unit = take_unit(&mut rest, length_size);
        if unit.is_none() {
            rest = &[];
        }
        Some(unit)
    })
}

/// How many bytes from the front of `data` are whole units with `length_size` bytes of length each. Fewer than all mean that
/// the frame is damaged; 0 that it is none (in Annex B, for one).
pub fn whole_units(data: &[u8], length_size: usize) -> usize {
    let mut rest = data;
    while !rest.is_empty() && take_unit(&mut rest, length_size).is_some() {}
    data.len() - rest.len()
}

/// Appends a unit behind its length in four bytes. A unit of 4 GiB or more, which no caller has, would get the length 0.
pub fn push_length_prefixed(out: &mut Vec<u8>, unit: &[u8]) {
    out.extend_from_slice(&u32::try_from(unit.len()).unwrap_or(0).to_be_bytes());
    out.extend_from_slice(unit);
}

/// The units of an Annex B byte stream, without start codes and trailing zeros. None is empty.
pub fn annex_b(stream: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = after_start_code(stream);
    std::iter::from_fn(move || {
        loop {
            let from = rest?;
            let end = find_start_code(from).unwrap_or(from.len());
            rest = after_start_code(&from[end..]);
            let unit = &from[..end];
            let used = unit.iter().rposition(|&b| b != 0).map_or(0, |i| i + 1);
            if used > 0 {
                return Some(&unit[..used]);
            }
        }
    })
}

fn after_start_code(bytes: &[u8]) -> Option<&[u8]> {
    find_start_code(bytes).map(|at| &bytes[at + 3..])
}

/// Where the next `00 00 01` is.
fn find_start_code(bytes: &[u8]) -> Option<usize> {
    let mut i = 0;
    while i + 2 < bytes.len() {
        // Looking at the third byte first passes over most of the stream three bytes at a time.
        match bytes[i + 2] {
            0 => i += 1,
            1 if bytes[i] == 0 && bytes[i + 1] == 0 => return Some(i),
            _ => i += 3,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn prefixed(units: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        units.iter().for_each(|unit| push_length_prefixed(&mut out, unit));
        out
    }

    #[test]
    fn whole_units_are_counted() {
        let (a, both) = (prefixed(&[&[1, 2, 3]]), prefixed(&[&[1, 2, 3], &[4]]));
        assert_eq!(whole_units(&both, 4), both.len());
        assert_eq!(whole_units(&both[..both.len() - 1], 4), a.len());
        assert_eq!(whole_units(&[0, 0, 0, 1, 0x65, 1, 2, 3, 4], 4), 5, "Annex B with a start code of four bytes");
        assert_eq!(whole_units(&[0xff, 0xff, 0xff, 0xff, 1], 4), 0);
        assert_eq!(whole_units(&[1, 9, 0], 1), 3);
        assert_eq!(whole_units(&[], 4), 0);
    }

    #[test]
    fn a_unit_that_is_cut_off_is_none() {
        let frame = prefixed(&[&[7, 1], &[5]]);
        let units = |data| length_prefixed(data, 4).collect::<Vec<_>>();
        assert_eq!(units(&frame), [Some(&[7, 1][..]), Some(&[5][..])]);
        assert_eq!(units(&frame[..frame.len() - 1]), [Some(&[7, 1][..]), None]);
        assert_eq!(units(&[0, 0]), [None]);
        assert!(units(&[]).is_empty());
    }

    #[test]
    fn start_codes_and_trailing_zeros_are_left_out() {
        let stream = [0, 0, 0, 1, 9, 0xf0, 0, 0, 1, 0x65, 1, 0, 2, 0, 0, 0, 1, 0, 0, 1, 0x41];
        assert_eq!(annex_b(&stream).collect::<Vec<_>>(), [&[9, 0xf0][..], &[0x65, 1, 0, 2], &[0x41]]);
        assert_eq!(annex_b(&[1, 2, 3]).count(), 0);
    }

    proptest! {
        #[test]
        fn noise_gives_no_empty_units(noise in proptest::collection::vec(0u8..4, 0..200)) {
            prop_assert!(annex_b(&noise).all(|unit| !unit.is_empty() && !unit.ends_with(&[0])));
            for length_size in [1, 2, 4] {
                prop_assert!(whole_units(&noise, length_size) <= noise.len());
                length_prefixed(&noise, length_size).for_each(drop);
            }
        }
    }
}
