//! The first clock reference (PCR) of an MPEG-TS: demultiplexers count from it and do not tell it, but it says where a segment of HLS
//! begins on the clock of its presentation.

use super::packet::{PACKET, Packet};
use super::pes;
use std::sync::{Arc, OnceLock};

/// A PCR has to come within this many packets. It is due each tenth of a second (ISO 13818-1 §2.7.2): that long at 30 Mbit/s.
const MAX_PACKETS: usize = 2_000;
/// A PCR has to come before this many frames: half a second of video and audio, so that a stream without any is not held for long
/// however small it is.
const MAX_FRAMES: usize = 64;

/// Lets frames wait for the first PCR, and gives it to the demultiplexer in front of them: it would guess their times, and all that
/// follows would be as wrong.
#[derive(Debug, Default)]
pub struct PcrGate {
    first: Arc<OnceLock<i64>>,
    packets: usize,
    frames: usize,
    gave_up: bool,
    /// All packets from the first frame on.
    held: Vec<[u8; PACKET]>,
}

impl PcrGate {
    /// Where the first PCR will be, in nanoseconds.
    pub fn first_pcr(&self) -> Arc<OnceLock<i64>> {
        Arc::clone(&self.first)
    }

    /// Whether nothing has to wait any more: the first PCR has come, or is not expected any more.
    pub fn is_open(&self) -> bool {
        self.gave_up || self.packets >= MAX_PACKETS || self.frames >= MAX_FRAMES || self.first.get().is_some()
    }

    /// Takes the next packet of a gate that is not open; gives those that may go on.
    pub fn packet(&mut self, packet: Packet<'_>) -> Vec<[u8; PACKET]> {
        let mut out = Vec::new();
        self.packets += 1;
        if let Some(pcr) = packet.pcr() {
            let _ = self.first.set(pcr);
            if !self.held.is_empty() {
                out.push(pcr_only(packet));
            }
        }
        let frame = packet.starts_unit() && packet.payload().is_some_and(pes::begins);
        self.frames += usize::from(frame);
        self.held.push(*packet.0);
        let waits = (frame || self.held.len() > 1) && !self.is_open();
        if !waits {
            out.append(&mut self.held);
        }
        out
    }

    /// Waits no longer; gives what is held.
    pub fn give_up(&mut self) -> Vec<[u8; PACKET]> {
        self.gave_up = true;
        std::mem::take(&mut self.held)
    }
}

/// A packet with this one's PCR and nothing else. Without a payload its counter does not count (§2.4.3.3).
fn pcr_only(packet: Packet<'_>) -> [u8; PACKET] {
    let mut bytes = [0xFF; PACKET];
    bytes[..12].copy_from_slice(&packet.0[..12]);
    // Nothing starts here; all of it is an adaptation field with the PCR alone.
    bytes[1] &= 0x1F;
    bytes[3] = 0x20 | packet.counter();
    (bytes[4], bytes[5]) = (183, 0x10);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mpegts::filter::Filter;

    fn packet(stream: u16, reference: Option<i64>, payload: &[u8]) -> Vec<u8> {
        let mut p = vec![0x47, 0x40 | (stream >> 8) as u8, stream as u8, 0x30, (183 - payload.len()) as u8, 0];
        if let Some(ticks) = reference {
            let base = ticks / 300;
            p[5] = 0x10;
            p.extend(
                [base >> 25, base >> 17, base >> 9, base >> 1, base << 7 | 0x7E | (ticks % 300) >> 8, ticks % 300]
                    .map(|b| b as u8),
            );
        }
        p.resize(PACKET - payload.len(), 0xFF);
        p.extend(payload);
        p
    }

    #[test]
    fn frames_before_the_first_pcr_have_it_in_front() {
        let frame = [0, 0, 1, 0xC0, 0, 0, 0x80];
        let mut more = packet(0x101, None, &[7; 100]);
        more[1] = 1;
        let tables = packet(0, None, &[0, 0, 0xB0, 13]);
        let from = packet(0x100, Some(27_000_000 * 5 + 123), &frame);
        let stream = [
            tables.clone(),
            packet(0x101, None, &frame),
            more.clone(),
            from.clone(),
            packet(0x101, None, &frame),
            more,
        ]
        .concat();
        for cut in [1, 100, 188, 5000] {
            let gate = PcrGate::default();
            let first = gate.first_pcr();
            let mut filter = Filter::default().with_pcr_gate(gate);
            let out: Vec<u8> = stream.chunks(cut).flat_map(|c| filter.push(c.to_vec()).0).collect();
            assert_eq!(first.get(), Some(&5_000_004_555));
            assert_eq!(filter.finish().0, []);
            let (before, rest) = out.split_at(PACKET);
            let (given, rest) = rest.split_first_chunk::<PACKET>().unwrap();
            assert!(before == tables && rest == &stream[PACKET..], "cut {cut}");
            let given = Packet(given);
            assert_eq!((given.pcr(), given.pid(), given.payload()), (Some(5_000_004_555), 0x100, None));
        }
        // Nothing waits where the PCR comes with the first frame, nor for ever where none comes.
        let gated = || Filter::default().with_pcr_gate(PcrGate::default());
        let (mut first, mut none) = (gated(), gated());
        let stream = [tables, from].concat();
        assert_eq!(first.push(stream.clone()).0, stream);
        let frame = packet(0x101, None, &frame);
        assert_eq!((none.push(frame.clone()).0, none.finish().0), (vec![], frame.clone()));
        let (mut none, many) = (gated(), frame.repeat(MAX_FRAMES));
        assert_eq!((none.push(frame.repeat(MAX_FRAMES - 1)).0, none.push(frame).0), (vec![], many));
    }
}
