//! Where a picture ends in an MPEG-TS that comes live. Most that send one do not say how long a picture is, so what demultiplexes
//! sees the end only when the next one begins: a picture late. But a packet has to be filled, and what fills up a picture's last one
//! shows its end. Where that is seen to hold, the demultiplexer is given a start of nothing in between, on which it lets the picture go.
//!
//! Pure: packets go in and come out (ISO 13818-1 §2.4.3).

use super::packet::{self, PACKET, SYNC};

/// How many pictures must have ended like that before it is believed.
const ENOUGH: u32 = 16;
/// Streams that are looked at; programmes have one with pictures.
const STREAMS: usize = 8;

/// Looks at one piece after the other.
#[derive(Debug, Default)]
pub struct Ended {
    rest: Vec<u8>,
    streams: Vec<Stream>,
}

/// A stream of pictures of unsaid lengths.
#[derive(Debug)]
struct Stream {
    id: u16,
    /// The counter of its last packet, as it came.
    last: u8,
    /// Packets that were added, for the counter's sake.
    added: u8,
    /// Its last packet was filled up.
    filled: bool,
    /// How many pictures in a row had none that was filled up but their last; and how many it takes.
    seen: u32,
    needed: u32,
}

impl Ended {
    /// Takes the next piece; gives what is to be demultiplexed.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut data = std::mem::take(&mut self.rest);
        data.extend_from_slice(bytes);
        let mut out = Vec::with_capacity(data.len() + PACKET);
        let mut at = 0;
        while let Some(packet) = data.get(at..).and_then(|d| d.first_chunk::<PACKET>()) {
            if packet[0] == SYNC {
                self.packet(*packet, &mut out);
                at += PACKET;
            } else {
                // Out of step, which is for the demultiplexer to mend.
                let next = data[at + 1..].iter().position(|b| *b == SYNC).map_or(data.len(), |n| at + 1 + n);
                out.extend_from_slice(&data[at..next]);
                at = next;
            }
        }
        self.rest = data[at..].to_vec();
        out
    }

    fn packet(&mut self, mut packet: [u8; PACKET], out: &mut Vec<u8>) {
        let id = packet::stream(&packet);
        let payload = packet::payload(&packet);
        let unbounded = payload.is_some_and(unbounded);
        let payload = payload.is_some();
        let begins = packet::begins(&packet);
        let place = self.streams.iter().position(|s| s.id == id);
        if place.is_none() && begins && unbounded && self.streams.len() < STREAMS {
            let (last, needed) = (packet[3].wrapping_sub(1) & 0xF, ENOUGH);
            self.streams.push(Stream { id, last, added: 0, filled: false, seen: 0, needed });
        }
        let stream = self.streams.iter_mut().find(|s| s.id == id);
        // What has no payload does not count.
        let Some(stream) = stream.filter(|_| payload) else { return out.extend_from_slice(&packet) };
        let (count, again) = (packet[3] & 0xF, packet[3] & 0xF == stream.last);
        packet[3] = packet[3] & 0xF0 | count.wrapping_add(stream.added) & 0xF;
        out.extend_from_slice(&packet);
        if !again {
            stream.last = count;
            if stream.goes_on(begins, filled(&packet), unbounded) {
                stream.added = (stream.added + 1) & 0xF;
                out.extend_from_slice(&[
                    SYNC,
                    0x40 | packet[1] & 0x1F,
                    packet[2],
                    0x10 | count.wrapping_add(stream.added) & 0xF,
                ]);
                // No start code: no header of anything.
                out.extend_from_slice(&[0xFF; PACKET - 4]);
            }
        }
    }
}

impl Stream {
    /// Takes what is said of a packet; says whether a picture that nobody else would see the end of ends with it.
    fn goes_on(&mut self, begins: bool, filled: bool, unbounded: bool) -> bool {
        if begins {
            self.seen = self.seen.saturating_add(1);
        } else if self.filled {
            // One that did not end where it seemed to: it takes longer to be believed again.
            (self.seen, self.needed) = (0, self.needed.saturating_mul(2));
        }
        self.filled = filled;
        // Of one that begins here and says its length the end is known.
        filled && self.seen > self.needed && (!begins || unbounded)
    }
}

/// Whether pictures begin here that do not say how long they are (PES_packet_length, §2.4.3.7).
fn unbounded(payload: &[u8]) -> bool {
    matches!(payload, [0, 0, 1, 0xE0..=0xEF, 0, 0, ..])
}

/// Whether a packet with a payload holds what only fills it up (stuffing_byte, §2.4.3.5).
fn filled(packet: &[u8; PACKET]) -> bool {
    let length = usize::from(packet[4]);
    if packet[3] & 0x30 != 0x30 || length == 0 {
        return packet[3] & 0x30 == 0x30;
    }
    let (flags, mut taken) = (packet[5], 1);
    for (flag, bytes) in [(0x10, 6), (0x08, 6), (0x04, 1)] {
        taken += if flags & flag != 0 { bytes } else { 0 };
    }
    // Private data, and an extension, say their own lengths.
    for flag in [0x02, 0x01] {
        if flags & flag != 0 {
            taken += 1 + packet.get(5 + taken).map_or(0, |l| usize::from(*l));
        }
    }
    // Nothing but flags of which none is set is as good as filling.
    flags == 0 || length > taken
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Packets of one picture: so many full ones, and one that holds `last` bytes.
    fn picture(full: usize, last: usize, count: &mut u8) -> Vec<u8> {
        let mut packets = Vec::new();
        for i in 0..=full {
            let mut p = vec![0x47, if i == 0 { 0x41 } else { 1 }, 0, 0x10 | *count & 0xF];
            *count = count.wrapping_add(1);
            let mut data = if i == 0 { vec![0, 0, 1, 0xE0, 0, 0, 0x80, 0, 0] } else { Vec::new() };
            let room = if i == full { last } else { 184 };
            data.resize(room, 7);
            if room < 184 {
                p[3] |= 0x20;
                p.push((183 - room) as u8);
                p.extend([0].iter().chain(&[0xFF; 183]).take(183 - room));
            }
            p.extend(data);
            packets.extend(p);
        }
        packets
    }

    fn added(out: &[u8]) -> usize {
        out.chunks(PACKET).filter(|p| p[4..] == [0xFF; PACKET - 4]).count()
    }

    #[test]
    fn a_picture_ends_where_a_packet_is_filled_up_once_that_is_seen_to_hold() {
        let (mut ended, mut count) = (Ended::default(), 0);
        for i in 0..40 {
            let piece = picture(3, [183, 182, 50, 184][i % 4], &mut count);
            let out = ended.push(&piece);
            let expected = i >= 16 && i % 4 != 3;
            assert_eq!(
                (i, out.len() - piece.len(), added(&out)),
                (i, PACKET * usize::from(expected), usize::from(expected))
            );
        }
    }

    #[test]
    fn packets_are_counted_without_a_gap() {
        let (mut ended, mut count) = (Ended::default(), 9);
        let out: Vec<u8> = (0..60).flat_map(|_| ended.push(&picture(2, 90, &mut count))).collect();
        let counts: Vec<u8> = out.chunks(PACKET).map(|p| p[3] & 0xF).collect();
        assert!(added(&out) > 40 && counts.windows(2).all(|w| w[1] == (w[0] + 1) & 0xF), "{counts:?}");
    }

    #[test]
    fn a_sender_that_fills_up_anywhere_is_not_believed_again_soon() {
        let (mut ended, mut count) = (Ended::default(), 0);
        for _ in 0..20 {
            ended.push(&picture(2, 90, &mut count));
        }
        let mut broken = picture(0, 90, &mut count);
        let mut more = picture(1, 90, &mut count);
        more[1] = 1;
        broken.extend(more);
        assert_eq!(added(&ended.push(&broken)), 1);
        let out: Vec<u8> = (0..32).flat_map(|_| ended.push(&picture(2, 90, &mut count))).collect();
        assert_eq!(added(&out), 0);
        assert_eq!(added(&ended.push(&picture(2, 90, &mut count))), 1);
    }

    proptest! {
        #[test]
        fn nothing_is_lost(noise in proptest::collection::vec(prop_oneof![Just(0x47u8), any::<u8>()], 0..2000), cut in 1usize..300) {
            let mut ended = Ended::default();
            let out: Vec<u8> = noise.chunks(cut).flat_map(|piece| ended.push(piece)).collect();
            prop_assert_eq!(out.len() + ended.rest.len(), noise.len());
            prop_assert!(ended.rest.len() < PACKET);
        }
    }
}
