//! What is done to an MPEG-TS on its way to a demultiplexer, in one walk over its packets: frames wait for the first clock reference,
//! what is wrong is mended, splice points are found, and ends of access units are shown.

use super::au_terminator::AuTerminator;
use super::mender::Mender;
use super::packet::Packet;
use super::pcr::PcrGate;
use super::programme::ProgrammeChoice;
use super::reader::{Part, Reader};
use super::scte35::{Splice, SpliceFinder};

/// The filter of one stream.
#[derive(Debug, Default)]
pub struct Filter {
    reader: Reader,
    programme: Option<ProgrammeChoice>,
    pcr_gate: Option<PcrGate>,
    visitors: Visitors,
}

/// What sees packets in the order in which they are demultiplexed.
#[derive(Debug, Default)]
struct Visitors {
    splices: SpliceFinder,
    mender: Option<Mender>,
    terminator: Option<AuTerminator>,
    out: Vec<u8>,
    found: Vec<Splice>,
}

impl Filter {
    /// Lets frames wait for the first clock reference. Call it before the first bytes.
    #[must_use]
    pub fn with_pcr_gate(mut self, gate: PcrGate) -> Self {
        self.pcr_gate = Some(gate);
        self
    }

    /// Of several programmes one is given on. What multiplexers get wrong is mended; frames wait for the first clock reference. Call it
    /// before the first bytes.
    #[must_use]
    pub fn with_mender(mut self) -> Self {
        self.visitors.mender = Some(Mender::default());
        self.pcr_gate.get_or_insert_default();
        self.programme.get_or_insert_default();
        self
    }

    /// The number of the programme that is played, where there are several. Known only to a mender.
    pub fn programme(&self) -> Option<u16> {
        self.programme.as_ref().and_then(ProgrammeChoice::chosen)
    }

    /// Whether nothing of it can be played, because it is scrambled. Known only to a mender.
    pub fn is_scrambled(&self) -> bool {
        self.visitors.mender.as_ref().is_some_and(Mender::is_scrambled)
    }

    /// Shows where access units end, for what comes live. Call it before the first bytes.
    #[must_use]
    pub fn with_terminator(mut self) -> Self {
        self.visitors.terminator = Some(AuTerminator::default());
        self
    }

    /// Takes the next bytes; gives what is to be demultiplexed now, and the splice points in it.
    pub fn push(&mut self, bytes: Vec<u8>) -> (Vec<u8>, Vec<Splice>) {
        if self.is_transparent() {
            self.reader.push(&bytes, |part| {
                if let Part::Packet(packet) = part {
                    self.visitors.find(packet);
                }
            });
            return (bytes, std::mem::take(&mut self.visitors.found));
        }
        self.visitors.out.reserve(bytes.len());
        self.reader.push(&bytes, |part| match (part, &mut self.programme) {
            (Part::Packet(packet), Some(programme)) => {
                for packet in programme.packet(packet) {
                    self.visitors.part(Part::Packet(Packet(&packet)), &mut self.pcr_gate);
                }
            }
            (part, programme) => {
                let held = programme.as_mut().map(ProgrammeChoice::give_up).unwrap_or_default();
                for packet in held {
                    self.visitors.part(Part::Packet(Packet(&packet)), &mut self.pcr_gate);
                }
                self.visitors.part(part, &mut self.pcr_gate);
            }
        });
        // From here on bytes go out as they come.
        if self.is_transparent() {
            self.visitors.out.extend_from_slice(self.reader.partial());
        }
        self.visitors.take()
    }

    /// Gives what is left when nothing more comes.
    pub fn finish(&mut self) -> (Vec<u8>, Vec<Splice>) {
        if self.is_transparent() {
            return Default::default();
        }
        for packet in self.programme.as_mut().map(ProgrammeChoice::give_up).unwrap_or_default() {
            self.visitors.part(Part::Packet(Packet(&packet)), &mut self.pcr_gate);
        }
        if let Some(mut gate) = self.pcr_gate.take() {
            gate.give_up().iter().for_each(|packet| self.visitors.packet(Packet(packet)));
        }
        self.visitors.out.extend_from_slice(self.reader.partial());
        self.visitors.take()
    }

    /// Whether all bytes go out as they come.
    fn is_transparent(&self) -> bool {
        let v = &self.visitors;
        v.mender.is_none() && v.terminator.is_none() && self.pcr_gate.as_ref().is_none_or(PcrGate::is_open)
    }
}

impl Visitors {
    fn part(&mut self, part: Part<'_>, gate: &mut Option<PcrGate>) {
        let gate = gate.as_mut().filter(|gate| !gate.is_open());
        match (part, gate) {
            (Part::Packet(packet), Some(gate)) => {
                let ready = gate.packet(packet);
                if gate.is_open() && gate.first_pcr().get().is_none() {
                    self.mender.iter_mut().for_each(Mender::without_clock);
                }
                ready.iter().for_each(|packet| self.packet(Packet(packet)));
            }
            (Part::Packet(packet), None) => self.packet(packet),
            (Part::Noise(noise), gate) => {
                // This is nothing that can be taken apart here.
                let held = gate.map(PcrGate::give_up).unwrap_or_default();
                held.iter().for_each(|packet| self.packet(Packet(packet)));
                self.out.extend_from_slice(noise);
            }
        }
    }

    fn packet(&mut self, packet: Packet<'_>) {
        match self.mender.as_mut().map(|mender| mender.packet(packet)) {
            Some((made, mended)) => {
                made.iter().for_each(|made| self.mended(Packet(made)));
                self.mended(Packet(&mended));
            }
            None => self.mended(packet),
        }
    }

    fn mended(&mut self, packet: Packet<'_>) {
        self.find(packet);
        match &mut self.terminator {
            Some(terminator) => terminator.packet(packet, &mut self.out),
            None => self.out.extend_from_slice(packet.0),
        }
    }

    fn find(&mut self, packet: Packet<'_>) {
        self.found.extend(self.splices.packet(packet));
    }

    fn take(&mut self) -> (Vec<u8>, Vec<Splice>) {
        (std::mem::take(&mut self.out), std::mem::take(&mut self.found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mpegts::packet::{PACKET, SYNC};
    use proptest::prelude::*;

    fn pass(mut filter: Filter, bytes: &[u8], cut: usize) -> Vec<u8> {
        let mut out: Vec<u8> = bytes.chunks(cut).flat_map(|piece| filter.push(piece.to_vec()).0).collect();
        out.extend(filter.finish().0);
        out
    }

    proptest! {
        #[test]
        fn nothing_is_left_out(
            noise in proptest::collection::vec(prop_oneof![Just(SYNC), any::<u8>()], 0..2000),
            cut in 1usize..400,
        ) {
            prop_assert_eq!(&pass(Filter::default(), &noise, cut), &noise);
            let gate = PcrGate::default();
            let first = gate.first_pcr();
            let out = pass(Filter::default().with_pcr_gate(gate), &noise, cut);
            let more = out.len() - noise.len();
            prop_assert!(more == 0 && out == noise || more == PACKET && first.get().is_some());
            // Too short for one to be trusted.
            prop_assert_eq!(pass(Filter::default().with_terminator(), &noise, cut).len(), noise.len());
        }
    }
}
