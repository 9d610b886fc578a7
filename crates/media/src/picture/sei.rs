//! Supplemental enhancement information (SEI): the same in H.264 (§7.3.2.3, annex D) and H.265 (§7.3.2.4, annex D).

use super::bits::unescape;

/// The payload type of a recovery point (H.264 §D.1.8, H.265 §D.2.8).
const RECOVERY_POINT: usize = 6;
/// Bytes of a unit that are read: recovery points come first, captions and timecodes after them.
const MAX_READ: usize = 1024;

/// Whether a unit, without its header, has a message that marks a recovery point.
pub(super) fn has_recovery_point(unit: &[u8]) -> bool {
    let rbsp = unescape(unit, MAX_READ);
    let mut rest = &rbsp[..];
    while let (Some(kind), Some(size)) = (number(&mut rest), number(&mut rest)) {
        if kind == RECOVERY_POINT {
            return size > 0 && !rest.is_empty();
        }
        let Some(after) = rest.get(size..) else { break };
        rest = after;
    }
    false
}

/// A payload type or size: bytes of 255, and one below, are added up.
fn number(rest: &mut &[u8]) -> Option<usize> {
    let mut number = 0usize;
    loop {
        let (&byte, after) = rest.split_first()?;
        *rest = after;
        number += usize::from(byte);
        if byte < 0xff {
            return Some(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn recovery_points_are_found_behind_other_messages() {
        assert!(has_recovery_point(&[6, 1, 0xc4, 0x80]));
        // x264 tells its settings first, in more than 255 bytes.
        let long = [&[5, 0xff, 2][..], &[1; 257], &[6, 1, 0xc4, 0x80]].concat();
        assert!(has_recovery_point(&long));
        assert!(!has_recovery_point(&long[..100]) && !has_recovery_point(&[5, 1, 6, 0x80]) && !has_recovery_point(&[]));
        assert!(!has_recovery_point(&[6, 1]) && !has_recovery_point(&[0x80]));
    }

    proptest! {
        #[test]
        fn noise_never_panics(noise in proptest::collection::vec(any::<u8>(), 0..100)) {
            has_recovery_point(&noise);
        }
    }
}
