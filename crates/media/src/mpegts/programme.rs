//! Which programme of an MPEG-TS is played, where it carries several, as a transponder's does: the first that has pictures, and the first
//! of all if none has. Demultiplexers take the first, which may be radio or data. The programme association table (ISO 13818-1 §2.4.4.3)
//! is given on with that programme alone.

use super::packet::{PACKET, Packet, SYNC};
use super::psi;

/// Packets that wait at most until the maps of all programmes have come: they come each tenth of a second (§2.4.4, DVB's TR 101 290), and
/// that is so long at 30 Mbit/s.
const MAX_HELD: usize = 2_000;
/// The most programmes that are looked at. Transponders carry some dozens.
const MAX_PROGRAMMES: usize = 64;

/// See the [module](self).
#[derive(Debug, Default)]
pub struct ProgrammeChoice {
    programmes: Vec<Programme>,
    chosen: Option<u16>,
    held: Vec<[u8; PACKET]>,
}

#[derive(Clone, Copy, Debug)]
struct Programme {
    number: u16,
    map_pid: u16,
    /// Whether it has pictures, once its map has come.
    pictures: Option<bool>,
}

impl ProgrammeChoice {
    /// Takes the next packet; gives those that may go on.
    pub fn packet(&mut self, packet: Packet<'_>) -> Vec<[u8; PACKET]> {
        self.look(packet);
        if self.programmes.len() < 2 {
            self.chosen = None;
            return self.with(packet);
        }
        if self.chosen.is_none() {
            let known = self.programmes.iter().all(|programme| programme.pictures.is_some());
            if !known && self.held.len() < MAX_HELD {
                self.held.push(*packet.0);
                return Vec::new();
            }
            self.choose();
        }
        self.with(packet)
    }

    /// Waits no longer; gives what is held.
    pub fn give_up(&mut self) -> Vec<[u8; PACKET]> {
        if self.chosen.is_none() && self.programmes.len() > 1 {
            self.choose();
        }
        let held = std::mem::take(&mut self.held);
        held.iter().map(|packet| self.rewritten(Packet(packet))).collect()
    }

    /// The number of the programme that is played, where there are several.
    pub fn chosen(&self) -> Option<u16> {
        self.chosen
    }

    fn choose(&mut self) {
        let pictures = self.programmes.iter().find(|programme| programme.pictures == Some(true));
        self.chosen = pictures.or(self.programmes.first()).map(|programme| programme.number);
    }

    /// What is held, and this packet.
    fn with(&mut self, packet: Packet<'_>) -> Vec<[u8; PACKET]> {
        let mut out = self.give_up();
        out.push(self.rewritten(packet));
        out
    }

    fn look(&mut self, packet: Packet<'_>) {
        let payload = packet.payload().filter(|_| packet.starts_unit() && !packet.is_damaged());
        let Some(section) = payload.and_then(psi::section) else { return };
        if packet.pid() == psi::PAT_PID && section.first() == Some(&0) {
            self.programmes(section);
        } else if let Some(programme) = self.programmes.iter_mut().find(|p| p.map_pid == packet.pid()) {
            programme.pictures = Some(psi::streams(section).any(|(kind, _)| psi::is_video(kind)));
        }
    }

    /// A table of programmes. Where the one that is played is not in it any more, another is chosen.
    fn programmes(&mut self, section: &[u8]) {
        let before = std::mem::take(&mut self.programmes);
        for (number, map_pid) in psi::programmes(section).take(MAX_PROGRAMMES) {
            let known = before.iter().find(|p| (p.number, p.map_pid) == (number, map_pid));
            self.programmes.push(known.copied().unwrap_or(Programme { number, map_pid, pictures: None }));
        }
        if !self.programmes.iter().any(|programme| Some(programme.number) == self.chosen) {
            self.chosen = None;
        }
    }

    /// The packet as it goes on: a table with the chosen programme alone, all else as it is.
    fn rewritten(&self, packet: Packet<'_>) -> [u8; PACKET] {
        let chosen = self.programmes.iter().find(|programme| Some(programme.number) == self.chosen);
        let Some(chosen) = chosen.filter(|_| packet.pid() == psi::PAT_PID && packet.starts_unit()) else {
            return *packet.0;
        };
        let Some(section) = packet.payload().and_then(psi::section).and_then(|s| s.first_chunk::<8>()) else {
            return *packet.0;
        };
        let mut table = [0; 16];
        // Its length counts from behind itself; identifier, version and numbers stay.
        table[..3].copy_from_slice(&[0, section[1] & 0xF0, 13]);
        table[3..8].copy_from_slice(&section[3..8]);
        // It is whole in this section.
        (table[6], table[7]) = (0, 0);
        table[8..10].copy_from_slice(&chosen.number.to_be_bytes());
        table[10..12].copy_from_slice(&(0xE000 | chosen.map_pid).to_be_bytes());
        let crc = psi::crc(&table[..12]);
        table[12..].copy_from_slice(&crc.to_be_bytes());
        let mut out = [0xFF; PACKET];
        out[..5].copy_from_slice(&[SYNC, packet.0[1], packet.0[2], 0x10 | packet.counter(), 0]);
        out[5..21].copy_from_slice(&table);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn table(pid: u16, section: &[u8]) -> [u8; PACKET] {
        let mut bytes = [0xFF; PACKET];
        bytes[..5].copy_from_slice(&[SYNC, 0x40 | (pid >> 8) as u8, pid as u8, 0x13, 0]);
        bytes[5..5 + section.len()].copy_from_slice(section);
        bytes
    }

    fn pat(programmes: &[(u16, u16)]) -> [u8; PACKET] {
        let mut section = vec![0, 0xB0, (9 + programmes.len() * 4) as u8, 0, 7, 0xC1, 0, 0];
        for (number, pid) in programmes {
            section.extend(number.to_be_bytes());
            section.extend((0xE000 | pid).to_be_bytes());
        }
        section.extend(psi::crc(&section).to_be_bytes());
        table(0, &section)
    }

    fn map(pid: u16, kinds: &[u8]) -> [u8; PACKET] {
        let mut section = vec![2, 0xB0, (13 + kinds.len() * 5) as u8, 0, 1, 0xC1, 0, 0, 0xE2, 0, 0xF0, 0];
        kinds.iter().for_each(|kind| section.extend([*kind, 0xE2, 0x00, 0xF0, 0]));
        section.extend([0; 4]);
        table(pid, &section)
    }

    fn pass(packets: &[[u8; PACKET]]) -> (Vec<[u8; PACKET]>, Option<u16>) {
        let mut choice = ProgrammeChoice::default();
        let mut out: Vec<_> = packets.iter().flat_map(|packet| choice.packet(Packet(packet))).collect();
        out.extend(choice.give_up());
        (out, choice.chosen())
    }

    #[test]
    fn the_first_programme_with_pictures_is_played() {
        let several = pat(&[(0, 0x10), (1, 0x100), (2, 0x200), (3, 0x300)]);
        let maps = [map(0x100, &[0x0F]), map(0x200, &[0x0F, 0x1B]), map(0x300, &[0x24])];
        let (out, chosen) = pass(&[&[several], &maps[..], &[several]].concat());
        assert_eq!(chosen, Some(2));
        let alone = pat(&[(2, 0x200)]);
        assert_eq!(out, [&[alone], &maps[..], &[alone]].concat());
    }

    #[test]
    fn one_programme_stays_as_it_is() {
        let stream = [pat(&[(1, 0x100)]), map(0x100, &[0x0F]), pat(&[(1, 0x100)])];
        assert_eq!(pass(&stream), (stream.to_vec(), None));
    }

    #[test]
    fn maps_that_never_come_are_not_waited_for() {
        let mut choice = ProgrammeChoice::default();
        let several = pat(&[(1, 0x100), (2, 0x200)]);
        let media = map(0x1000, &[]);
        let mut out = choice.packet(Packet(&several));
        for _ in 0..MAX_HELD + 1 {
            out.extend(choice.packet(Packet(&media)));
        }
        assert_eq!((out.len(), choice.chosen()), (MAX_HELD + 2, Some(1)));
        // Another is chosen when that one goes.
        let (_, chosen) = pass(&[
            several,
            map(0x100, &[0x1B]),
            map(0x200, &[0x1B]),
            pat(&[(2, 0x200), (3, 0x300)]),
            map(0x300, &[0x1B]),
        ]);
        assert_eq!(chosen, Some(2));
    }

    proptest! {
        #[test]
        fn every_packet_goes_on(noise in proptest::collection::vec((0u16..3, proptest::collection::vec(any::<u8>(), 40)), 0..60)) {
            let packets: Vec<_> = noise.iter().map(|(pid, section)| table(*pid, section)).collect();
            prop_assert_eq!(pass(&packets).0.len(), packets.len());
        }
    }
}
