//! Reads bit fields, most significant bit first, and the variable-length codes of parameter sets and OBUs.

/// Reads bits. All reads give `None` at the end of the bytes.
#[derive(Debug)]
pub struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Bits<'a> {
    /// A reader at the first bit.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// One bit.
    pub fn bit(&mut self) -> Option<bool> {
        let byte = self.bytes.get(self.at / 8)?;
        let bit = byte >> (7 - self.at % 8) & 1;
        self.at += 1;
        Some(bit == 1)
    }

    /// Up to 32 bits.
    pub fn read(&mut self, count: u32) -> Option<u32> {
        debug_assert!(count <= 32);
        let mut value = 0u64;
        for _ in 0..count {
            value = value << 1 | u64::from(self.bit()?);
        }
        u32::try_from(value).ok()
    }

    /// Skips bits.
    pub fn skip(&mut self, count: usize) -> Option<()> {
        self.at = self.at.checked_add(count)?;
        (self.at <= self.bytes.len() * 8).then_some(())
    }

    /// ue(v): unsigned Exp-Golomb (H.264 §9.1); `None` also for values above 32 bits.
    pub fn unsigned(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while !self.bit()? {
            zeros += 1;
            if zeros > 31 {
                return None;
            }
        }
        Some((1u32 << zeros) - 1 + self.read(zeros)?)
    }

    /// se(v): signed Exp-Golomb (H.264 §9.1.1).
    pub fn signed(&mut self) -> Option<i32> {
        let code = i64::from(self.unsigned()?);
        i32::try_from(if code % 2 == 1 { (code + 1) / 2 } else { -(code / 2) }).ok()
    }
}

/// LEB128, a number of up to eight bytes, the lowest seven bits first (AV1 §4.10.5), and the bytes after it.
pub fn leb128(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let last = bytes.iter().take(8).position(|b| b & 0x80 == 0)?;
    let value = bytes[..=last].iter().rev().fold(0, |value, b| value << 7 | u64::from(b & 0x7f));
    Some((value, &bytes[last + 1..]))
}

/// The payload of a NAL unit without its emulation prevention bytes (H.264 §7.3.1, H.265 §7.3.1.1). At most `limit` bytes.
pub fn unescape(nal: &[u8], limit: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(nal.len().min(limit));
    let mut zeros = 0;
    for &byte in nal {
        if out.len() == limit {
            break;
        }
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        out.push(byte);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_golomb_codes_of_the_standard() {
        // H.264 table 9-2: 1, 010, 011, 00100, 00101 are 0, 1, 2, 3, 4.
        let mut bits = Bits::new(&[0b1010_0110, 0b0100_0010, 0b1000_0000]);
        assert_eq!([bits.unsigned(), bits.unsigned(), bits.unsigned()], [Some(0), Some(1), Some(2)]);
        assert_eq!([bits.unsigned(), bits.unsigned()], [Some(3), Some(4)]);
        let mut bits = Bits::new(&[0b0100_1100, 0b1000_0101, 0]);
        assert_eq!(
            [bits.signed(), bits.signed(), bits.signed(), bits.signed()],
            [Some(1), Some(-1), Some(2), Some(-2)]
        );
    }

    #[test]
    fn the_end_is_none_and_long_zeros_are_no_code() {
        assert_eq!(Bits::new(&[0x12]).read(9), None);
        assert_eq!(Bits::new(&[0x12]).skip(9), None);
        assert_eq!(Bits::new(&[0; 9]).unsigned(), None);
        assert_eq!(Bits::new(&[0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff]).unsigned(), Some(u32::MAX - 1));
        assert_eq!(Bits::new(&[0xff; 4]).read(32), Some(u32::MAX));
    }

    #[test]
    fn leb128_numbers() {
        assert_eq!(leb128(&[0xe5, 0x8e, 0x26, 9]), Some((624_485, &[9][..])));
        assert_eq!((leb128(&[0x80]), leb128(&[0x80; 9]), leb128(&[])), (None, None, None));
    }

    #[test]
    fn emulation_prevention_is_removed() {
        assert_eq!(unescape(&[1, 0, 0, 3, 1, 0, 0, 3, 0, 0, 3], 99), [1, 0, 0, 1, 0, 0, 0, 0]);
        assert_eq!(unescape(&[1, 2, 3], 2), [1, 2]);
    }
}
