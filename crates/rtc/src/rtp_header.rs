//! The header of RTP packets (RFC 3550 §5.1), which is not encrypted. Pure.

/// What the header of an RTP packet tells in clear (RFC 3550 §5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtpHeader<'a> {
    /// The payload type, below 128.
    pub payload_type: u8,
    /// The stream that the packet belongs to.
    pub ssrc: u32,
    /// The header extension: its profile and its data.
    extension: Option<(u16, &'a [u8])>,
}

impl<'a> RtpHeader<'a> {
    /// `None` for what is no RTP, or RTCP (RFC 5761 §4).
    pub fn read(data: &'a [u8]) -> Option<Self> {
        let (fixed, mut rest) = data.split_first_chunk::<12>()?;
        let payload_type = fixed[1] & 0x7f;
        if fixed[0] >> 6 != 2 || (64..96).contains(&payload_type) {
            return None;
        }
        rest = rest.get(4 * usize::from(fixed[0] & 0xf)..)?;
        let extension = if fixed[0] & 0x10 == 0 {
            None
        } else {
            let (&[p0, p1, l0, l1], words) = rest.split_first_chunk::<4>()?;
            let size = 4 * usize::from(u16::from_be_bytes([l0, l1]));
            Some((u16::from_be_bytes([p0, p1]), words.get(..size)?))
        };
        Some(Self { payload_type, ssrc: u32::from_be_bytes([fixed[8], fixed[9], fixed[10], fixed[11]]), extension })
    }

    /// Whether it has a header extension of this id (RFC 8285 §4.2, §4.3).
    pub fn has(&self, id: u8) -> bool {
        let Some((profile, mut data)) = self.extension else { return false };
        let one_byte = profile == 0xbede;
        if !one_byte && profile & 0xfff0 != 0x1000 {
            return false;
        }
        while let Some((&first, rest)) = data.split_first() {
            if first == 0 {
                data = rest;
                continue;
            }
            let (found, size, rest) = match (one_byte, rest.split_first()) {
                // An id of 15 ends the list.
                (true, _) if first >> 4 == 15 => return false,
                (true, _) => (first >> 4, usize::from(first & 0xf) + 1, rest),
                (false, Some((&size, rest))) => (first, usize::from(size), rest),
                (false, None) => return false,
            };
            if found == id {
                return true;
            }
            data = rest.get(size..).unwrap_or_default();
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packet(extension: &[u8]) -> Vec<u8> {
        let mut data = vec![0x91, 0x80 | 111, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 9, 9, 9, 9];
        data.extend(extension);
        data
    }

    #[test]
    fn headers_tell_payload_type_ssrc_and_extensions() {
        let data = packet(&[0xbe, 0xde, 0, 2, 0x10, 7, 0, 0x52, b'a', b'u', b'd', 0, 1, 2]);
        let header = RtpHeader::read(&data).unwrap();
        assert_eq!((header.payload_type, header.ssrc), (111, 3));
        assert_eq!([1, 5, 2, 7].map(|id| header.has(id)), [true, true, false, false]);
        let data = packet(&[0x10, 0, 0, 2, 16, 1, 7, 0, 200, 0, 0, 0, 1]);
        let header = RtpHeader::read(&data).unwrap();
        assert_eq!([16, 200, 7].map(|id| header.has(id)), [true, true, false]);
        assert_eq!(RtpHeader::read(&packet(&[0xbe, 0xde, 0, 9, 1])), None, "cut off");
        assert_eq!(RtpHeader::read(&[0x80, 200, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3]), None, "RTCP");
    }

    proptest! {
        #[test]
        fn any_header_is_read(mut data in proptest::collection::vec(any::<u8>(), 0..80), id in any::<u8>(), form in 0usize..3) {
            if let [first, _, ..] = data.as_mut_slice() {
                *first = *first & 0x1f | 0x90;
            }
            if let Some(profile) = data.get_mut(12..14) {
                profile.copy_from_slice(&[[0xbe, 0xde], [0x10, 0], [0, 0]][form]);
            }
            if let Some(header) = RtpHeader::read(&data) {
                header.has(id);
            }
        }
    }
}
