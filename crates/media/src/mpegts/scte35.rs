//! Splice points (SCTE-35) in an MPEG-TS (ISO 13818-1): which programme parts are out of their network. It looks for PAT, PMT
//! and splice sections, and for the time stamps of pictures to say how far ahead a splice point lies; all else passes by.
//! Pure: bytes in, splice points out; memory is bounded by one section.

use super::packet::{self, PACKET, SYNC};

/// The longest section (§2.4.4).
const SECTION: usize = 4096;
/// The stream type of splice information (SCTE-35 §8.1).
const SPLICE_STREAM: u8 = 0x86;
/// Times have 33 bits and count 90 000 a second.
const WRAP: i64 = 1 << 33;

/// A splice point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Splice {
    /// Out of the network with this event, or (`None`) back in it.
    pub event: Option<u32>,
    /// How far ahead of the newest picture it lies, in nanoseconds; 0 for at once.
    pub ahead: i64,
}

/// Finds splice points.
#[derive(Debug, Default)]
pub struct Finder {
    rest: Vec<u8>,
    pmt: Option<u16>,
    splices: Option<u16>,
    pictures: Option<u16>,
    section: Vec<u8>,
    newest: Option<i64>,
}

impl Finder {
    /// Takes the next bytes of the stream; gives the splice points in them.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Splice> {
        let mut found = Vec::new();
        self.rest.extend_from_slice(bytes);
        let data = std::mem::take(&mut self.rest);
        let mut at = 0;
        while data.len() - at >= PACKET {
            match data[at..].first_chunk::<PACKET>() {
                Some(packet) if packet[0] == SYNC => {
                    self.packet(packet, &mut found);
                    at += PACKET;
                }
                // Out of step: the next sync byte.
                _ => at += 1 + data[at + 1..].iter().position(|b| *b == SYNC).unwrap_or(data.len() - at - 1),
            }
        }
        self.rest = data[at..].to_vec();
        found
    }

    fn packet(&mut self, packet: &[u8; PACKET], found: &mut Vec<Splice>) {
        let (start, pid) = (packet::begins(packet), packet::stream(packet));
        // One that was damaged on its way says so.
        let Some(payload) = packet::payload(packet).filter(|_| packet[1] & 0x80 == 0) else { return };
        if pid == 0 && start {
            if let Some(section) = whole(payload) {
                self.pmt = programme(section).or(self.pmt);
            }
        } else if Some(pid) == self.pmt && start {
            if let Some(section) = whole(payload) {
                self.streams(section);
            }
        } else if Some(pid) == self.splices {
            self.splice(payload, start, found);
        } else if start && self.pictures.is_none_or(|p| p == pid) {
            self.newest = pes_time(payload).or(self.newest);
        }
    }

    /// A programme map: where splice points and pictures are.
    fn streams(&mut self, section: &[u8]) {
        let Some(info) = section.get(10..12) else { return };
        let mut at = 12 + (usize::from(info[0] & 0xf) << 8 | usize::from(info[1]));
        // The last four bytes are a checksum.
        while let Some(&[kind, high, low, more, length]) =
            section.get(at..at + 5).and_then(|s| s.first_chunk::<5>()).filter(|_| at + 9 <= section.len())
        {
            let pid = u16::from_be_bytes([high & 0x1f, low]);
            match kind {
                SPLICE_STREAM => self.splices = Some(pid),
                0x01 | 0x02 | 0x10 | 0x1b | 0x24 => self.pictures = Some(pid),
                _ => {}
            }
            at += 5 + (usize::from(more & 0xf) << 8 | usize::from(length));
        }
    }

    fn splice(&mut self, payload: &[u8], start: bool, found: &mut Vec<Splice>) {
        if start {
            let skip = 1 + payload.first().map_or(0, |p| usize::from(*p));
            self.section = payload.get(skip..).unwrap_or_default().to_vec();
        } else if !self.section.is_empty() {
            self.section.extend_from_slice(payload);
        }
        let length = match self.section.get(..3) {
            Some(head) => 3 + (usize::from(head[1] & 0xf) << 8 | usize::from(head[2])),
            None => return,
        };
        if length > SECTION {
            self.section.clear();
        } else if self.section.len() >= length {
            let section = std::mem::take(&mut self.section);
            found.extend(self.insert(&section[..length]));
        }
    }

    /// A splice_info_section (SCTE-35 §9.6) with a splice_insert (§9.7.3).
    fn insert(&self, section: &[u8]) -> Option<Splice> {
        let fixed = section.first_chunk::<14>()?;
        // Encrypted ones, and other commands, say nothing to us.
        if fixed[0] != 0xfc || fixed[4] & 0x80 != 0 || fixed[13] != 5 {
            return None;
        }
        let adjustment = time(&[fixed[4] & 1, fixed[5], fixed[6], fixed[7], fixed[8]]);
        let command = section.get(14..)?;
        let id = u32::from_be_bytes(*command.first_chunk::<4>()?);
        if command.get(4)? & 0x80 != 0 {
            return Some(Splice { event: None, ahead: 0 });
        }
        let flags = command.get(5)?;
        let event = (flags & 0x80 != 0).then_some(id);
        let whole_programme = flags & 0x40 != 0;
        let immediate = flags & 0x10 != 0;
        let stamped = command.get(6..11).filter(|t| whole_programme && !immediate && t[0] & 0x80 != 0);
        let ahead = match (stamped.and_then(|t| t.first_chunk::<5>()), self.newest) {
            (Some(t), Some(newest)) => {
                let at = time(&[t[0] & 1, t[1], t[2], t[3], t[4]]) + adjustment;
                // The shorter way round.
                let ticks = (at - newest).rem_euclid(WRAP);
                let ticks = if ticks > WRAP / 2 { 0 } else { ticks };
                ticks * 100_000 / 9
            }
            _ => 0,
        };
        Some(Splice { event, ahead })
    }
}

/// 33 bits in five bytes, the first bit alone in the first.
fn time(bytes: &[u8; 5]) -> i64 {
    bytes.iter().fold(0, |t, b| t << 8 | i64::from(*b))
}

/// A section that lies in one packet whole, as programme tables do.
fn whole(payload: &[u8]) -> Option<&[u8]> {
    let section = payload.get(1 + usize::from(*payload.first()?)..)?;
    let head = section.first_chunk::<3>()?;
    section.get(..3 + (usize::from(head[1] & 0xf) << 8 | usize::from(head[2])))
}

/// The first programme's map, out of a PAT.
fn programme(section: &[u8]) -> Option<u16> {
    let list = section.get(8..section.len().checked_sub(4)?)?;
    let entries = list.as_chunks::<4>().0;
    let first = entries.iter().find(|e| e[0] != 0 || e[1] != 0)?;
    Some(u16::from_be_bytes([first[2] & 0x1f, first[3]]))
}

/// The time stamp of a PES packet (ISO 13818-1 §2.4.3.7).
fn pes_time(payload: &[u8]) -> Option<i64> {
    let head = payload.first_chunk::<14>()?;
    if head[..3] != [0, 0, 1] || head[7] & 0x80 == 0 {
        return None;
    }
    let [a, b, c, d, e] = [head[9], head[10], head[11], head[12], head[13]].map(i64::from);
    Some((a >> 1 & 7) << 30 | b << 22 | (c >> 1) << 15 | d << 7 | e >> 1)
}

#[cfg(test)]
mod tests {
    use super::*;
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

    fn picture(pts: i64) -> Vec<u8> {
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
    fn out_and_back_with_their_times() {
        for cut in [1, 7, 188, 5000] {
            let pts = (1 << 33) - 45_000;
            let stream = [
                tables(),
                picture(pts),
                splice(true, Some(45_000)),
                splice(false, None),
                splice(true, Some(pts - 90_000)),
            ]
            .concat();
            let mut finder = Finder::default();
            let found: Vec<Splice> =
                [vec![1, 2, 3], stream].concat().chunks(cut).flat_map(|c| finder.push(c)).collect();
            let out = |ahead| Splice { event: Some(7), ahead };
            assert_eq!(found, [out(1_000_000_000), Splice { event: None, ahead: 0 }, out(0)], "cut {cut}");
        }
    }

    proptest! {
        #[test]
        fn noise_never_panics(noise in proptest::collection::vec(any::<u8>(), 0..2000), cut in 1usize..400) {
            let mut finder = Finder::default();
            for piece in tables().chunks(cut).chain(noise.chunks(cut)) {
                finder.push(piece);
            }
            let mut s = splice(true, Some(5));
            for (i, b) in noise.iter().enumerate() {
                let at = 4 + (i * 7 + usize::from(*b)) % (PACKET - 4);
                s[at] = *b;
            }
            finder.push(&s);
            prop_assert!(finder.rest.len() < PACKET);
        }
    }
}
