//! NAL units of H.264 and H.265: their types, and the two ways a stream holds them: behind start codes (Annex B of both
//! standards) or behind their lengths, as in MP4 and FLV (ISO 14496-15 §5.3.4.2, often called AVCC).

use bytes::Bytes;

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
    /// Supplemental enhancement information before the slices.
    pub const PREFIX_SEI: u8 = 39;
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

/// Brings what a sender gives as part of an access unit to what a decoder takes: whole NAL units, none of them empty, each behind a
/// length of `length_size` bytes. Start codes (Annex B) become lengths. Also gives whether something was cut off.
///
/// Copies only where something has to be changed.
pub fn normalized(data: Bytes, length_size: usize) -> (Bytes, bool) {
    let (mut rest, mut empty) = (&data[..], false);
    while let Some(unit) = take_unit(&mut rest, length_size) {
        empty |= unit.is_empty();
    }
    let padding = rest.iter().all(|byte| *byte == 0);
    let whole = data.len() - rest.len();
    if !padding && begins_with_start_code(&data) {
        let mut out = Vec::with_capacity(data.len() + 64);
        let mut cut = false;
        annex_b(&data).for_each(|unit| cut |= !push_unit(&mut out, unit, length_size));
        return (Bytes::from(out), cut);
    }
    if !empty {
        return (data.slice(..whole), !padding);
    }
    let mut out = Vec::with_capacity(whole);
    for unit in length_prefixed(&data[..whole], length_size).flatten().filter(|unit| !unit.is_empty()) {
        push_unit(&mut out, unit, length_size);
    }
    (Bytes::from(out), !padding)
}

/// Whether a byte stream begins with a start code, of three bytes or four.
pub fn begins_with_start_code(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0, 0, 1]) || bytes.starts_with(&[0, 0, 0, 1])
}

/// Appends a unit behind a length of `length_size` bytes. False, and nothing appended, if it is too long for that.
fn push_unit(out: &mut Vec<u8>, unit: &[u8], length_size: usize) -> bool {
    let length = (unit.len() as u64).to_be_bytes();
    let (zero, length) = length.split_at(length.len() - length_size.min(8));
    let fits = zero.iter().all(|byte| *byte == 0);
    if fits {
        out.extend_from_slice(length);
        out.extend_from_slice(unit);
    }
    fits
}

/// Appends a unit behind its length in four bytes. A unit of 4 GiB or more, which no caller has, is left out.
pub fn push_length_prefixed(out: &mut Vec<u8>, unit: &[u8]) {
    push_unit(out, unit, 4);
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

    /// What becomes of `data`, and whether something was cut off.
    fn normal(data: &[u8], length_size: usize) -> (Vec<u8>, bool) {
        let (data, cut) = normalized(Bytes::copy_from_slice(data), length_size);
        (data.to_vec(), cut)
    }

    #[test]
    fn whole_units_are_kept() {
        let (a, both) = (prefixed(&[&[1, 2, 3]]), prefixed(&[&[1, 2, 3], &[4]]));
        assert_eq!(normal(&both, 4), (both.clone(), false));
        assert_eq!(normal(&both[..both.len() - 1], 4), (a, true));
        assert_eq!(normal(&[0xff, 0xff, 0xff, 0xff, 1], 4), (vec![], true));
        assert_eq!(normal(&[1, 9, 1, 8], 1), (vec![1, 9, 1, 8], false));
        assert_eq!(normal(&[], 4), (vec![], false));
        let data = Bytes::from(both);
        assert_eq!(normalized(data.clone(), 4).0.as_ptr(), data.as_ptr(), "nothing is copied");
    }

    #[test]
    fn empty_units_and_padding_are_left_out() {
        let clean = prefixed(&[&[0x67, 1], &[0x65, 2]]);
        assert_eq!(normal(&prefixed(&[&[], &[0x67, 1], &[], &[], &[0x65, 2], &[]]), 4), (clean.clone(), false));
        assert_eq!(normal(&[&clean[..], &[0, 0, 0]].concat(), 4), (clean, false));
        assert_eq!(normal(&[0, 0, 0, 0], 4), (vec![], false));
    }

    #[test]
    fn start_codes_become_lengths() {
        let clean = prefixed(&[&[9, 0xf0], &[0x67, 1, 2], &[0x65, 2]]);
        let long = [&[0, 0, 0, 1, 9, 0xf0][..], &[0, 0, 0, 1, 0x67, 1, 2], &[0, 0, 1, 0x65, 2, 0, 0]].concat();
        assert_eq!(normal(&long, 4), (clean.clone(), false));
        assert_eq!(normal(&long[1..], 4), (clean, false));
        assert_eq!(normal(&[0, 0, 1, 0x65, 2], 1), (vec![2, 0x65, 2], false));
        let unit = [0x65; 300];
        assert_eq!(normal(&[&[0, 0, 0, 1][..], &unit].concat(), 1), (vec![], true), "its length takes two bytes");
        // A unit of 258 bytes whose length looks like a start code.
        let unit = [0x41; 258];
        let data = [&[0, 0, 1, 2][..], &unit].concat();
        assert_eq!(normal(&data, 4), (data, false));
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
                length_prefixed(&noise, length_size).for_each(drop);
                let (normal, _) = normalized(Bytes::copy_from_slice(&noise), length_size);
                prop_assert!(length_prefixed(&normal, length_size).all(|unit| unit.is_some_and(|u| !u.is_empty())));
                prop_assert_eq!(normalized(normal.clone(), length_size), (normal, false));
            }
        }
    }
}
