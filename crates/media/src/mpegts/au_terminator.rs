//! Shows a demultiplexer where access units end in an MPEG-TS that comes live.
//!
//! Most senders of live streams leave PES_packet_length of video at 0, so a demultiplexer sees the end of an access unit only when the
//! next one begins: a frame late. But a packet has to be filled, and the stuffing in an access unit's last packet shows its end. Where
//! that is seen to hold, a packet that starts an empty unit is inserted after it, on which the demultiplexer lets the access unit go
//! (ISO 13818-1 §2.4.3).

use super::packet::{PACKET, Packet, SYNC};
use super::pes;

/// How many access units must have ended like that before it is relied on.
const RELIED_ON_AFTER: u32 = 16;
/// Video streams that are looked at; a programme has one.
const MAX_STREAMS: usize = 8;

/// See the [module](self).
#[derive(Debug, Default)]
pub struct AuTerminator {
    streams: Vec<Stream>,
}

/// A video stream that does not say how long its access units are.
#[derive(Debug)]
struct Stream {
    pid: u16,
    /// The counter of its last packet, as it came.
    last: u8,
    /// Packets that were inserted, modulo 16, for the counter's sake.
    inserted: u8,
    /// Its last packet was stuffed.
    stuffed: bool,
    /// How many access units in a row had no stuffed packet but their last; and how many it takes.
    seen: u32,
    needed: u32,
}

impl AuTerminator {
    /// Takes the next packet; appends what is to be demultiplexed to `out`.
    pub fn packet(&mut self, packet: Packet<'_>, out: &mut Vec<u8>) {
        let pid = packet.pid();
        let payload = packet.payload();
        let (starts, unbounded) = (packet.starts_unit(), payload.is_some_and(pes::is_unbounded_video));
        let known = self.streams.iter().any(|s| s.pid == pid);
        if !known && starts && unbounded && self.streams.len() < MAX_STREAMS {
            let last = packet.counter().wrapping_sub(1) & 0xF;
            self.streams.push(Stream { pid, last, inserted: 0, stuffed: false, seen: 0, needed: RELIED_ON_AFTER });
        }
        let stream = self.streams.iter_mut().find(|s| s.pid == pid);
        // A packet without a payload does not count.
        let Some(stream) = stream.filter(|_| payload.is_some()) else { return out.extend_from_slice(packet.0) };
        let count = packet.counter();
        let counted = |stream: &Stream| count.wrapping_add(stream.inserted) & 0xF;
        let at = out.len();
        out.extend_from_slice(packet.0);
        out[at + 3] = packet.0[3] & 0xF0 | counted(stream);
        let repeated = count == stream.last;
        if repeated {
            return;
        }
        stream.last = count;
        if stream.ends(starts, packet.is_stuffed(), unbounded) {
            stream.inserted = (stream.inserted + 1) & 0xF;
            out.extend_from_slice(&[SYNC, 0x40 | packet.0[1] & 0x1F, packet.0[2], 0x10 | counted(stream)]);
            // No start code: no header of anything.
            out.extend_from_slice(&[0xFF; PACKET - 4]);
        }
    }
}

impl Stream {
    /// Takes what is known of a packet; whether an access unit ends with it that has no other sign of its end.
    fn ends(&mut self, starts: bool, stuffed: bool, unbounded: bool) -> bool {
        if starts {
            self.seen = self.seen.saturating_add(1);
        } else if self.stuffed {
            // One that did not end where it seemed to: it takes longer to be relied on again.
            (self.seen, self.needed) = (0, self.needed.saturating_mul(2));
        }
        self.stuffed = stuffed;
        // Where a packet that starts a unit carries its length, the end is known.
        stuffed && self.seen > self.needed && (!starts || unbounded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mpegts::filter::Filter;

    /// What is made of this piece.
    fn push(filter: &mut Filter, piece: &[u8]) -> Vec<u8> {
        filter.push(piece.to_vec()).0
    }

    fn filter() -> Filter {
        Filter::default().with_terminator()
    }

    /// Packets of one access unit: so many full ones, and one that holds `last` bytes.
    fn access_unit(full: usize, last: usize, count: &mut u8) -> Vec<u8> {
        let mut packets = Vec::new();
        for i in 0..=full {
            let mut p = vec![0x47, if i == 0 { 0x41 } else { 1 }, 0, 0x10 | *count & 0xF];
            *count = count.wrapping_add(1);
            let mut data = if i == 0 { vec![0, 0, 1, 0xE0, 0, 0, 0x80, 0, 0] } else { Vec::new() };
            let size = if i == full { last } else { 184 };
            data.resize(size, 7);
            if size < 184 {
                p[3] |= 0x20;
                p.push((183 - size) as u8);
                p.extend([0].iter().chain(&[0xFF; 183]).take(183 - size));
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
    fn an_access_unit_ends_with_a_stuffed_packet() {
        let (mut filter, mut count) = (filter(), 0);
        for i in 0..40 {
            let piece = access_unit(3, [183, 182, 50, 184][i % 4], &mut count);
            let out = push(&mut filter, &piece);
            let expected = i >= 16 && i % 4 != 3;
            assert_eq!(
                (i, out.len() - piece.len(), added(&out)),
                (i, PACKET * usize::from(expected), usize::from(expected))
            );
        }
    }

    #[test]
    fn counters_have_no_gap() {
        let (mut filter, mut count) = (filter(), 9);
        let out: Vec<u8> = (0..60).flat_map(|_| push(&mut filter, &access_unit(2, 90, &mut count))).collect();
        let counts: Vec<u8> = out.chunks(PACKET).map(|p| p[3] & 0xF).collect();
        assert!(added(&out) > 40 && counts.windows(2).all(|w| w[1] == (w[0] + 1) & 0xF), "{counts:?}");
    }

    #[test]
    fn stuffing_elsewhere_is_not_relied_on_again_soon() {
        let (mut filter, mut count) = (filter(), 0);
        for _ in 0..20 {
            push(&mut filter, &access_unit(2, 90, &mut count));
        }
        let mut broken = access_unit(0, 90, &mut count);
        let mut more = access_unit(1, 90, &mut count);
        more[1] = 1;
        broken.extend(more);
        assert_eq!(added(&push(&mut filter, &broken)), 1);
        let out: Vec<u8> = (0..32).flat_map(|_| push(&mut filter, &access_unit(2, 90, &mut count))).collect();
        assert_eq!(added(&out), 0);
        assert_eq!(added(&push(&mut filter, &access_unit(2, 90, &mut count))), 1);
    }
}
