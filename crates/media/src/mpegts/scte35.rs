//! Splice points (SCTE-35) in an MPEG-TS (ISO 13818-1): which parts of a programme are out of their network.
//!
//! Looks for PAT, PMT and splice sections, and for the PTS of video to say how far ahead a splice point is. Memory is bounded by one
//! section.

use super::packet::Packet;
use super::{pes, psi};

/// The stream_type of splice information (SCTE-35 §8.1).
const SPLICE_STREAM: u8 = 0x86;
/// Times have 33 bits and count 90 000 a second.
const WRAP: i64 = 1 << 33;

/// A splice point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Splice {
    /// Out of the network with this event, or (`None`) back in it.
    pub event: Option<u32>,
    /// How far ahead of the newest video frame it is, in nanoseconds; 0 for at once.
    pub ahead: i64,
}

/// Finds splice points in packets.
#[derive(Debug, Default)]
pub struct SpliceFinder {
    pmt_pid: Option<u16>,
    splice_pid: Option<u16>,
    video_pid: Option<u16>,
    section: Vec<u8>,
    /// PTS of the newest video frame, in ticks.
    newest: Option<i64>,
}

impl SpliceFinder {
    /// Takes the next packet; gives the splice point that it completes.
    pub fn packet(&mut self, packet: Packet<'_>) -> Option<Splice> {
        let (start, pid) = (packet.starts_unit(), packet.pid());
        let payload = packet.payload().filter(|_| !packet.is_damaged())?;
        if pid == psi::PAT_PID && start {
            if let Some(section) = psi::section(payload) {
                self.pmt_pid = psi::first_programme(section).or(self.pmt_pid);
            }
        } else if Some(pid) == self.pmt_pid && start {
            if let Some(section) = psi::section(payload) {
                self.streams(section);
            }
        } else if Some(pid) == self.splice_pid {
            return self.splice(payload, start);
        } else if start && self.video_pid.is_none_or(|p| p == pid) {
            self.newest = pes::pts(payload).or(self.newest);
        }
        None
    }

    /// A programme map: where splice points and video are.
    fn streams(&mut self, section: &[u8]) {
        for (kind, pid) in psi::streams(section) {
            if kind == SPLICE_STREAM {
                self.splice_pid = Some(pid);
            } else if psi::is_video(kind) {
                self.video_pid = Some(pid);
            }
        }
    }

    fn splice(&mut self, payload: &[u8], start: bool) -> Option<Splice> {
        if start {
            let skip = 1 + payload.first().map_or(0, |p| usize::from(*p));
            self.section = payload.get(skip..).unwrap_or_default().to_vec();
        } else if !self.section.is_empty() {
            self.section.extend_from_slice(payload);
        }
        let length = psi::section_length(self.section.first_chunk()?);
        if length > psi::MAX_SECTION {
            self.section.clear();
        } else if self.section.len() >= length {
            let section = std::mem::take(&mut self.section);
            return self.insert(&section[..length]);
        }
        None
    }

    /// A splice_info_section (SCTE-35 §9.6) with a splice_insert (§9.7.3).
    fn insert(&self, section: &[u8]) -> Option<Splice> {
        let fixed = section.first_chunk::<14>()?;
        // Encrypted sections and other commands are of no use here.
        if fixed[0] != 0xFC || fixed[4] & 0x80 != 0 || fixed[13] != 5 {
            return None;
        }
        let adjustment = ticks(&[fixed[4] & 1, fixed[5], fixed[6], fixed[7], fixed[8]]);
        let command = section.get(14..)?;
        let id = u32::from_be_bytes(*command.first_chunk::<4>()?);
        if command.get(4)? & 0x80 != 0 {
            return Some(Splice { event: None, ahead: 0 });
        }
        let flags = command.get(5)?;
        let event = (flags & 0x80 != 0).then_some(id);
        let whole_programme = flags & 0x40 != 0;
        let immediate = flags & 0x10 != 0;
        let splice_time = command.get(6..11).filter(|t| whole_programme && !immediate && t[0] & 0x80 != 0);
        let ahead = match (splice_time.and_then(|t| t.first_chunk::<5>()), self.newest) {
            (Some(t), Some(newest)) => {
                let at = ticks(&[t[0] & 1, t[1], t[2], t[3], t[4]]) + adjustment;
                // The shorter way round.
                let ahead = (at - newest).rem_euclid(WRAP);
                let ahead = if ahead > WRAP / 2 { 0 } else { ahead };
                ahead * 100_000 / 9
            }
            _ => 0,
        };
        Some(Splice { event, ahead })
    }
}

/// 33 bits in five bytes, the first byte holding one.
fn ticks(bytes: &[u8; 5]) -> i64 {
    bytes.iter().fold(0, |t, b| t << 8 | i64::from(*b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mpegts::packet::PACKET;
    use crate::mpegts::reader::{Part, Reader};
    use proptest::prelude::*;

    fn packet(pid: u16, section: &[u8]) -> Vec<u8> {
        let mut p = vec![0x47, 0x40 | (pid >> 8) as u8, pid as u8, 0x10, 0];
        p.extend(section);
        p.resize(PACKET, 0xff);
        p
    }

    fn tables() -> Vec<u8> {
        let pat = [0, 0xb0, 13, 0, 1, 0xc1, 0, 0, 0, 1, 0xe1, 0, 0, 0, 0, 0];
        let pmt = [
            2, 0xb0, 23, 0, 1, 0xc1, 0, 0, 0xe1, 1, 0xf0, 0, 0x1b, 0xe1, 1, 0xf0, 0, 0x86, 0xe1, 2, 0xf0, 0, 0, 0, 0, 0,
        ];
        [packet(0, &pat), packet(0x100, &pmt)].concat()
    }

    /// Splice points in a stream that comes in pieces of this size.
    fn find(stream: &[u8], cut: usize) -> Vec<Splice> {
        let (mut reader, mut finder, mut found) = (Reader::default(), SpliceFinder::default(), Vec::new());
        for piece in stream.chunks(cut) {
            reader.push(piece, |part| match part {
                Part::Packet(packet) => found.extend(finder.packet(packet)),
                Part::Noise(_) => {}
            });
        }
        found
    }

    fn video(pts: i64) -> Vec<u8> {
        let t = [
            0x21 | (pts >> 29 & 0xe) as u8,
            (pts >> 22) as u8,
            (pts >> 14 | 1) as u8,
            (pts >> 7) as u8,
            (pts << 1 | 1) as u8,
        ];
        let mut p = vec![0x47, 0x41, 1, 0x10, 0, 0, 1, 0xe0, 0, 0, 0x80, 0x80, 5];
        p.extend(t);
        p.resize(PACKET, 0);
        p
    }

    fn splice(out: bool, pts: Option<i64>) -> Vec<u8> {
        let mut command = vec![0, 0, 0, 7, 0x7f];
        match pts {
            Some(pts) => {
                command.push(if out { 0xcf } else { 0x4f });
                command.push(0xfe | (pts >> 32) as u8);
                command.extend((pts as u32).to_be_bytes());
            }
            None => command.push(if out { 0xdf } else { 0x5f }),
        }
        command.extend([0, 1, 0, 0]);
        let mut s = vec![0xfc, 0x30, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xf0, command.len() as u8, 5];
        s.extend(&command);
        s.extend([0, 0, 0, 0, 0, 0]);
        s[2] = (s.len() - 3) as u8;
        packet(0x102, &s)
    }

    #[test]
    fn splice_points_have_their_times() {
        for cut in [1, 7, 188, 5000] {
            let pts = (1 << 33) - 45_000;
            let stream = [
                tables(),
                video(pts),
                splice(true, Some(45_000)),
                splice(false, None),
                splice(true, Some(pts - 90_000)),
            ]
            .concat();
            let found = find(&[vec![1, 2, 3], stream].concat(), cut);
            let out = |ahead| Splice { event: Some(7), ahead };
            assert_eq!(found, [out(1_000_000_000), Splice { event: None, ahead: 0 }, out(0)], "cut {cut}");
        }
    }

    proptest! {
        #[test]
        fn noise_never_panics(noise in proptest::collection::vec(any::<u8>(), 0..2000), cut in 1usize..400) {
            let mut s = splice(true, Some(5));
            for (i, b) in noise.iter().enumerate() {
                let at = 4 + (i * 7 + usize::from(*b)) % (PACKET - 4);
                s[at] = *b;
            }
            find(&[tables(), noise, s].concat(), cut);
        }
    }
}
