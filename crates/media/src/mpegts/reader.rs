//! Cuts a stream of MPEG-TS into packets, whatever pieces it comes in. It alone keeps partial packets and finds back into step.

use super::packet::{PACKET, Packet, SYNC};

/// What a stream consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// A packet.
    Packet(Packet<'a>),
    /// Bytes between packets: the stream is out of step up to the next sync byte.
    Noise(&'a [u8]),
}

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Reader {
    /// The beginning of the next packet: fewer bytes than a packet has.
    partial: Vec<u8>,
}

impl Reader {
    /// Takes the next bytes; gives all that they complete to `visit`, in order and without a gap.
    pub fn push(&mut self, bytes: &[u8], mut visit: impl FnMut(Part<'_>)) {
        let mut rest = bytes;
        // What is left from before is completed first; out of step it may take several turns.
        while !self.partial.is_empty() {
            let (more, after) = rest.split_at(rest.len().min(PACKET - self.partial.len()));
            self.partial.extend_from_slice(more);
            rest = after;
            let Some(packet) = self.partial.first_chunk::<PACKET>() else { return };
            let used = part(packet, &mut visit);
            self.partial.drain(..used);
        }
        while let Some(packet) = rest.first_chunk::<PACKET>() {
            let used = part(packet, &mut visit);
            rest = &rest[used..];
        }
        self.partial.extend_from_slice(rest);
    }

    /// Bytes that came and were not visited yet, as they are no packet yet.
    pub fn partial(&self) -> &[u8] {
        &self.partial
    }
}

/// Visits what these bytes begin with; gives how long that is.
fn part(bytes: &[u8; PACKET], visit: &mut impl FnMut(Part<'_>)) -> usize {
    if bytes[0] == SYNC {
        visit(Part::Packet(Packet(bytes)));
        return PACKET;
    }
    let next = bytes.iter().position(|b| *b == SYNC).unwrap_or(PACKET);
    visit(Part::Noise(&bytes[..next]));
    next
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(bytes: &[u8], cut: usize) -> (Vec<(bool, Vec<u8>)>, usize) {
        let (mut reader, mut parts) = (Reader::default(), Vec::new());
        for piece in bytes.chunks(cut) {
            reader.push(piece, |part| match part {
                Part::Packet(packet) => parts.push((true, packet.0.to_vec())),
                Part::Noise(noise) => parts.push((false, noise.to_vec())),
            });
        }
        (parts, reader.partial().len())
    }

    #[test]
    fn it_finds_back_into_step() {
        let packet = [&[SYNC][..], &[1; PACKET - 1]].concat();
        let stream = [&[9, 9, 9][..], &packet, &packet, &[8; 300], &packet, &packet, &[SYNC, 5]].concat();
        for cut in [1, 7, 188, 5000] {
            let (parts, left) = read(&stream, cut);
            assert_eq!(parts.iter().filter(|(is_packet, _)| *is_packet).count(), 4, "cut {cut}");
            assert!(parts.iter().filter(|(is_packet, _)| *is_packet).all(|(_, bytes)| *bytes == packet));
            assert_eq!(left, 2);
        }
    }

    proptest! {
        #[test]
        fn nothing_is_lost_however_it_is_cut(
            bytes in proptest::collection::vec(prop_oneof![Just(SYNC), any::<u8>()], 0..2000),
            cut in 1usize..400,
        ) {
            let (parts, left) = read(&bytes, cut);
            prop_assert!(left < PACKET);
            let all: Vec<u8> = parts.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
            prop_assert_eq!(&bytes[..bytes.len() - left], &all[..]);
            let packets = |parts: Vec<(bool, Vec<u8>)>| parts.into_iter().filter(|(is_packet, _)| *is_packet).collect::<Vec<_>>();
            prop_assert_eq!(packets(parts), packets(read(&bytes, bytes.len().max(1)).0));
        }
    }
}
