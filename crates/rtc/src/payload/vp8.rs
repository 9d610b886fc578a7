//! VP8 (RFC 7741), with a 15-bit picture id: the SFU keys its rewriting of packets on it.

use super::split::split;

/// The payload descriptor: one octet, the extension octet, two of picture id (RFC 7741 §4.2).
const DESCRIPTOR: usize = 4;
const EXTENDED: u8 = 0x80;
const START_OF_PARTITION: u8 = 0x10;
const PICTURE_ID: u8 = 0x80;
const LONG_PICTURE_ID: u16 = 0x8000;

/// Cuts VP8 frames.
#[derive(Debug)]
pub struct Vp8 {
    /// Of the frame to come; the lower 15 bits count.
    picture_id: u16,
    scratch: Vec<u8>,
}

impl Vp8 {
    /// Counts frames from `picture_id` (RFC 7741 §4.2 wants a random start).
    pub fn new(picture_id: u16) -> Self {
        Self { picture_id: picture_id & !LONG_PICTURE_ID, scratch: Vec::new() }
    }

    /// Hands each payload of a frame, `at_least` so many, to `send`, with whether it is the last one.
    pub fn payloads(&mut self, frame: &[u8], max: usize, at_least: usize, mut send: impl FnMut(&[u8], bool)) {
        if frame.is_empty() {
            return;
        }
        for piece in split(frame.len(), max - DESCRIPTOR, at_least) {
            let (start, end) = (piece.start == 0, piece.end == frame.len());
            self.scratch.clear();
            self.scratch.push(EXTENDED | if start { START_OF_PARTITION } else { 0 });
            self.scratch.push(PICTURE_ID);
            self.scratch.extend_from_slice(&(LONG_PICTURE_ID | self.picture_id).to_be_bytes());
            self.scratch.extend_from_slice(&frame[piece]);
            send(&self.scratch, end);
        }
        self.picture_id = self.picture_id.wrapping_add(1) & !LONG_PICTURE_ID;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn frames_survive_cutting(
            frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..5000), 1..5),
            first: u16,
            max in 20usize..1500,
            least in 0usize..6,
        ) {
            let mut vp8 = Vp8::new(first);
            for (n, frame) in frames.iter().enumerate() {
                let mut joined = Vec::new();
                let mut packets = Vec::new();
                vp8.payloads(frame, max, least, |p, last| {
                    packets.push((p[0], u16::from_be_bytes([p[2], p[3]]), p.len(), last));
                    joined.extend_from_slice(&p[4..]);
                });
                prop_assert_eq!(&joined, frame);
                let id = 0x8000 | first.wrapping_add(n as u16);
                for (i, (head, picture_id, len, last)) in packets.iter().enumerate() {
                    prop_assert_eq!(*head, if i == 0 { 0x90 } else { 0x80 });
                    prop_assert_eq!(*picture_id, id);
                    prop_assert!(*len <= max);
                    prop_assert_eq!(*last, i + 1 == packets.len());
                }
            }
        }
    }

    #[test]
    fn picture_id_wraps_at_fifteen_bits() {
        let mut vp8 = Vp8::new(0x7fff);
        let mut ids = Vec::new();
        for _ in 0..2 {
            vp8.payloads(&[1], 100, 1, |p, _| ids.push([p[2], p[3]]));
        }
        assert_eq!(ids, [[0xff, 0xff], [0x80, 0x00]]);
    }

    #[test]
    fn empty_frame_has_no_payload() {
        Vp8::new(0).payloads(&[], 100, 1, |_, _| panic!("a payload of nothing"));
    }
}
