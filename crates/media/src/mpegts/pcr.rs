//! Where a segment's bytes lie on the clock of its presentation, as far as demultiplexers do not tell: GStreamer's counts an MPEG-TS
//! from its first clock reference, and sound without a container from zero (which has its time in front of it, RFC 8216 §3.4).
//!
//! Pure: bytes go in.

use super::packet::{self, PACKET, SYNC};
use std::sync::{Arc, OnceLock};

/// Packets in which a clock reference has to come, which is due each tenth of a second (ISO 13818-1 §2.7.2): as long at 30 Mbit/s.
const PATIENCE: usize = 2_000;
/// So many frames may begin before it: as many as pictures and sound have in half a second, so that nothing without a reference waits
/// for long however little it is.
const FRAMES: usize = 64;

/// Looks for the first clock reference. Frames that come before it wait and are given that reference in front: a demultiplexer gives
/// them times by guessing else, and all that follows the same mistake.
#[derive(Debug, Default)]
pub struct Reference {
    found: Arc<OnceLock<i64>>,
    rest: Vec<u8>,
    packets: usize,
    frames: usize,
    /// All from the first frame on.
    held: Vec<u8>,
}

impl Reference {
    /// Where the first reference will be, in nanoseconds.
    pub fn found(&self) -> Arc<OnceLock<i64>> {
        Arc::clone(&self.found)
    }

    /// Takes the next piece; gives what is to be demultiplexed.
    pub fn push(&mut self, bytes: Vec<u8>) -> Vec<u8> {
        if self.done() && self.rest.is_empty() && self.held.is_empty() {
            return bytes;
        }
        let mut data = std::mem::take(&mut self.rest);
        data.extend(bytes);
        let (mut out, mut at) = (Vec::with_capacity(data.len()), 0);
        while let Some(packet) = data.get(at..).and_then(|d| d.first_chunk::<PACKET>()).filter(|_| !self.done()) {
            self.packet(packet, &mut out);
            at += PACKET;
        }
        if self.done() {
            out.append(&mut self.held);
            out.extend_from_slice(&data[at..]);
        } else {
            self.rest = data[at..].to_vec();
        }
        out
    }

    /// What is left when nothing more comes.
    pub fn end(&mut self) -> Vec<u8> {
        self.packets = PATIENCE;
        self.push(Vec::new())
    }

    fn done(&self) -> bool {
        self.packets >= PATIENCE || self.frames >= FRAMES || self.found.get().is_some()
    }

    fn packet(&mut self, packet: &[u8; PACKET], out: &mut Vec<u8>) {
        self.packets += 1;
        if packet[0] != SYNC {
            // Nothing that can be taken apart here.
            self.packets = PATIENCE;
        } else if let Some(reference) = reference(packet) {
            let _ = self.found.set(reference);
            if !self.held.is_empty() {
                out.extend_from_slice(&bare(packet));
            }
        }
        let frame = packet::begins(packet) && packet::payload(packet).is_some_and(|p| p.starts_with(&[0, 0, 1]));
        self.frames += usize::from(frame);
        let waits = frame && !self.done() || !self.held.is_empty();
        let to = if waits { &mut self.held } else { out };
        to.extend_from_slice(packet);
    }
}

/// A packet with this one's clock reference and nothing else. It has no payload, so that it does not count (§2.4.3.3).
fn bare(packet: &[u8; PACKET]) -> [u8; PACKET] {
    let mut bare = [0xFF; PACKET];
    bare[..12].copy_from_slice(&packet[..12]);
    // No beginning of anything; all of it is adaptation, with the reference alone.
    bare[1] &= 0x1F;
    bare[3] = 0x20 | packet[3] & 0xF;
    (bare[4], bare[5]) = (183, 0x10);
    bare
}

/// A packet's clock reference in nanoseconds: 33 bits that count 90 000 a second, and nine of 300 parts of those (§2.4.3.5).
fn reference(packet: &[u8; PACKET]) -> Option<i64> {
    if packet[3] & 0x20 == 0 || packet[4] < 7 || packet[5] & 0x10 == 0 {
        return None;
    }
    let [a, b, c, d, e, f] = [6, 7, 8, 9, 10, 11].map(|i| i64::from(packet[i]));
    let base = a << 25 | b << 17 | c << 9 | d << 1 | e >> 7;
    Some((base * 300 + ((e & 1) << 8 | f)) * 1000 / 27)
}

/// The time in nanoseconds that stands in front of sound without a container: a tag of ID3 (2.3 or 2.4) with a private frame.
pub fn stamped(head: &[u8]) -> Option<i64> {
    const OWNER: &[u8] = b"com.apple.streaming.transportStreamTimestamp\0";
    let safe = |b: &[u8; 4]| b.iter().fold(0usize, |n, b| n << 7 | usize::from(b & 0x7F));
    let tag = head.first_chunk::<10>().filter(|t| t.starts_with(b"ID3") && t[5] & 0x40 == 0)?;
    let mut rest = &head[10..];
    rest = &rest[..rest.len().min(safe(&[tag[6], tag[7], tag[8], tag[9]]))];
    while let Some(frame) = rest.first_chunk::<10>().filter(|f| f[0] != 0) {
        let size = [frame[4], frame[5], frame[6], frame[7]];
        let size = if tag[3] >= 4 { safe(&size) } else { u32::from_be_bytes(size) as usize };
        let data = rest.get(10..10usize.checked_add(size)?)?;
        if frame.starts_with(b"PRIV")
            && let Some(time) = data.strip_prefix(OWNER).and_then(|t| t.first_chunk::<8>())
        {
            let ticks = i64::try_from(u64::from_be_bytes(*time) & ((1 << 33) - 1)).ok()?;
            return Some(ticks * 100_000 / 9);
        }
        rest = &rest[10 + size..];
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
    fn frames_before_the_first_reference_have_it_in_front() {
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
            let mut reference = Reference::default();
            let out: Vec<u8> = stream.chunks(cut).flat_map(|c| reference.push(c.to_vec())).collect();
            assert_eq!(reference.found().get(), Some(&5_000_004_555));
            assert_eq!(reference.end(), []);
            let (before, rest) = out.split_at(PACKET);
            let (given, rest) = rest.split_first_chunk::<PACKET>().unwrap();
            assert!(before == tables && rest == &stream[PACKET..], "cut {cut}");
            assert_eq!(
                (super::reference(given), packet::stream(given), packet::payload(given)),
                (Some(5_000_004_555), 0x100, None)
            );
        }
        // Nothing waits where it comes with the first frame, nor for ever where none comes.
        let (mut first, mut none) = (Reference::default(), Reference::default());
        let stream = [tables, from].concat();
        assert_eq!(first.push(stream.clone()), stream);
        let frame = packet(0x101, None, &frame);
        assert_eq!((none.push(frame.clone()), none.end()), (vec![], frame.clone()));
        let (mut none, many) = (Reference::default(), frame.repeat(FRAMES));
        assert_eq!((none.push(frame.repeat(FRAMES - 1)), none.push(frame)), (vec![], many));
    }

    #[test]
    fn sound_without_a_container_has_its_time_in_front() {
        let owner = b"com.apple.streaming.transportStreamTimestamp\0";
        let of = |version: u8, ticks: u64| {
            let frame = |id: &[u8], data: &[u8]| [id, &[0, 0, 0, data.len() as u8, 0, 0], data].concat();
            let frames = [frame(b"TIT2", b"x"), frame(b"PRIV", &[&owner[..], &ticks.to_be_bytes()].concat())].concat();
            [&[b'I', b'D', b'3', version, 0, 0, 0, 0, 0, frames.len() as u8], &frames[..], &[0xFF, 0xF1]].concat()
        };
        assert_eq!((stamped(&of(3, 90_000)), stamped(&of(4, 450_045))), (Some(1_000_000_000), Some(5_000_500_000)));
        assert_eq!(stamped(&of(4, 90_000)[..60]), None);
        assert_eq!(stamped(&[0xFF, 0xF1, 0, 0, 0, 0, 0, 0, 0, 0, 0]), None);
    }

    proptest! {
        #[test]
        fn noise_never_panics_and_nothing_is_left_out(noise in proptest::collection::vec(prop_oneof![Just(0x47u8), any::<u8>()], 0..2000), cut in 1usize..400) {
            let mut reference = Reference::default();
            let mut out: Vec<u8> = noise.chunks(cut).flat_map(|c| reference.push(c.to_vec())).collect();
            prop_assert!(reference.rest.len() < PACKET && reference.held.len() <= PATIENCE * PACKET);
            out.extend(reference.end());
            let more = out.len().saturating_sub(noise.len());
            prop_assert!(more == 0 && out == noise || more == PACKET && reference.found.get().is_some());
            stamped(&[b"ID3\x04\0\0\0\0\x7f\x7fPRIV", &noise[..]].concat());
        }
    }
}
