//! Mends what cheap multiplexers get wrong in an MPEG-TS and demultiplexers do not put up with: counters that do not count (ISO 13818-1
//! §2.4.3.3), and clock references (§2.4.3.5) that never come. What is right stays as it is.

use super::packet::{PACKET, Packet, SYNC};
use super::{pes, psi};

/// Packets with a payload by which a counter is judged.
const WINDOW: u8 = 16;
/// Of [`WINDOW`] packets so many that do not count show a counter that lies: half, as of one that changes between two values. A connection
/// that loses half of its packets shows nothing anyway.
const WRONG: u8 = 8;
/// Of [`WINDOW`] packets so many show one that counts again.
const RIGHT: u8 = 14;
/// The most streams whose counters are looked after: a programme has some, and a transponder's others are not played.
const MAX_PIDS: usize = 64;
/// How far a clock reference that is made lies before the frame that it is made of, in ticks of 90 kHz: 200 ms, as multiplexers do.
const LEAD: i64 = 18_000;
/// The least time between two that are made, in ticks: half of what the standard asks for (§2.7.2).
const EVERY: i64 = 4_500;
/// A step of more than this, in ticks, is a new beginning: ten seconds.
const JUMP: i64 = 900_000;
/// Packets with a payload, of which nearly all are scrambled, after which a stream counts as such: half a second at 1.5 Mbit/s.
const SCRAMBLED_AFTER: u32 = 500;

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Mender {
    counters: Vec<Counter>,
    clock: Clock,
    /// Packets of frames, and how many of them were scrambled.
    frames: (u32, u32),
}

/// The counter of one stream.
#[derive(Debug)]
struct Counter {
    pid: u16,
    /// As it came, and as it went.
    last: (u8, u8),
    seen: u8,
    wrong: u8,
    lies: bool,
}

#[derive(Debug, Default)]
struct Clock {
    pmt_pid: Option<u16>,
    pcr_pid: Option<u16>,
    /// A map of a programme has come: this is an MPEG-TS, and no noise.
    mapped: bool,
    /// None comes: they are made.
    made: bool,
    /// The stream of whose frames they are made, and the time of the last.
    from: Option<u16>,
    last: Option<i64>,
}

impl Mender {
    /// Takes the next packet; gives what goes on: a clock reference before it where one is needed, and the packet.
    pub fn packet(&mut self, packet: Packet<'_>) -> (Option<[u8; PACKET]>, [u8; PACKET]) {
        let made = self.clock.packet(packet).map(|(pid, ticks)| clock_reference(pid, self.counted(pid), ticks));
        let mut out = *packet.0;
        if packet.payload().is_some() && !packet.is_damaged() {
            self.note_scrambling(packet);
            out[3] = out[3] & 0xF0 | self.count(packet);
        }
        (made, out)
    }

    /// No clock reference has come where one has to be: they are made from here on.
    pub fn without_clock(&mut self) {
        self.clock.made = true;
    }

    /// Whether nearly all of it is scrambled, so that nothing of it can be played.
    pub fn is_scrambled(&self) -> bool {
        let (all, scrambled) = self.frames;
        all >= SCRAMBLED_AFTER && scrambled > all / 10 * 9
    }

    fn note_scrambling(&mut self, packet: Packet<'_>) {
        // Tables have the lowest numbers and are never scrambled.
        let media = packet.pid() >= 0x20 && Some(packet.pid()) != self.clock.pmt_pid;
        if media && self.clock.mapped && self.frames.0 < SCRAMBLED_AFTER {
            self.frames.0 += 1;
            self.frames.1 += u32::from(packet.0[3] & 0xC0 != 0);
        }
    }

    /// The counter with which a packet goes on.
    fn count(&mut self, packet: Packet<'_>) -> u8 {
        let (pid, came) = (packet.pid(), packet.counter());
        let Some(counter) = self.counters.iter_mut().find(|counter| counter.pid == pid) else {
            if self.counters.len() < MAX_PIDS {
                self.counters.push(Counter { pid, last: (came, came), seen: 0, wrong: 0, lies: false });
            }
            return came;
        };
        counter.next(came)
    }

    fn counted(&self, pid: u16) -> u8 {
        self.counters.iter().find(|counter| counter.pid == pid).map_or(0, |counter| counter.last.1)
    }
}

impl Counter {
    fn next(&mut self, came: u8) -> u8 {
        let (last, went) = self.last;
        self.seen += 1;
        self.wrong += u8::from(came != (last + 1) & 0xF);
        if self.seen == WINDOW {
            self.lies = if self.lies { WINDOW - self.wrong < RIGHT } else { self.wrong >= WRONG };
            (self.seen, self.wrong) = (0, 0);
        }
        let goes = if self.lies { (went + 1) & 0xF } else { came };
        self.last = (came, goes);
        goes
    }
}

impl Clock {
    /// Where to put a clock reference, and which, before this packet.
    fn packet(&mut self, packet: Packet<'_>) -> Option<(u16, i64)> {
        // One that comes after all is right.
        self.made &= packet.pcr().is_none();
        let payload = packet.payload().filter(|_| packet.starts_unit() && !packet.is_damaged())?;
        if packet.pid() == psi::PAT_PID {
            self.pmt_pid = psi::section(payload).and_then(psi::first_programme).or(self.pmt_pid);
        } else if Some(packet.pid()) == self.pmt_pid {
            let map = psi::section(payload);
            self.mapped |= map.is_some();
            self.pcr_pid = map.and_then(psi::clock).or(self.pcr_pid);
        }
        let (time, pid) = (pes::dts(payload)?, self.pcr_pid?);
        if !self.made || *self.from.get_or_insert(packet.pid()) != packet.pid() {
            return None;
        }
        let step = self.last.map(|last| time - last);
        let due = step.is_none_or(|step| !(-JUMP..EVERY).contains(&step));
        due.then(|| {
            self.last = Some(time);
            (pid, time - LEAD)
        })
    }
}

/// A packet with a clock reference of so many ticks and nothing else. Without a payload its counter does not count (§2.4.3.3).
fn clock_reference(pid: u16, counter: u8, ticks: i64) -> [u8; PACKET] {
    let base = ticks & 0x1_FFFF_FFFF;
    let mut bytes = [0xFF; PACKET];
    let [high, low] = pid.to_be_bytes();
    bytes[..6].copy_from_slice(&[SYNC, high & 0x1F, low, 0x20 | counter & 0xF, 183, 0x10]);
    let clock = [base >> 25, base >> 17, base >> 9, base >> 1, base << 7 | 0x7E, 0];
    bytes[6..12].copy_from_slice(&clock.map(|byte| (byte & 0xFF) as u8));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packet(pid: u16, counter: u8, payload: &[u8]) -> [u8; PACKET] {
        let mut bytes = [0xFF; PACKET];
        bytes[..4].copy_from_slice(&[SYNC, 0x40 | (pid >> 8) as u8, pid as u8, 0x10 | counter]);
        bytes[4..4 + payload.len()].copy_from_slice(payload);
        bytes
    }

    fn frame(pid: u16, counter: u8, ticks: i64) -> [u8; PACKET] {
        let time =
            [0x21 | ticks >> 29 & 0xE, ticks >> 22, ticks >> 14 | 1, ticks >> 7, ticks << 1 | 1].map(|b| b as u8);
        packet(pid, counter, &[&[0, 0, 1, 0xE0, 0, 0, 0x80, 0x80, 5][..], &time].concat())
    }

    fn counters(sent: impl IntoIterator<Item = u8>) -> Vec<u8> {
        let mut mender = Mender::default();
        sent.into_iter().map(|counter| mender.packet(Packet(&packet(0x100, counter, &[7]))).1[3] & 0xF).collect()
    }

    #[test]
    fn counters_that_count_stay() {
        // With losses, a repetition and a jump.
        let sent: Vec<u8> =
            (0..200u32).filter(|n| n % 7 != 3 && n % 10 != 1).map(|n| (n % 16) as u8).chain([3, 3, 9]).collect();
        assert_eq!(counters(sent.clone()), sent);
    }

    #[test]
    fn counters_that_do_not_count_are_made_to() {
        for sent in [vec![5; 100], (0..100).map(|n| n % 2).collect(), (0..100u32).map(|n| (n * 3 % 16) as u8).collect()]
        {
            let out = counters(sent);
            assert!(out[20..].windows(2).all(|w| w[1] == (w[0] + 1) & 0xF), "{out:?}");
        }
        // And no more, once it counts.
        let out = counters(std::iter::repeat_n(5, 40).chain((0..64u8).map(|n| n % 16)));
        assert_eq!(out[72..], (32..64u8).map(|n| n % 16).collect::<Vec<_>>());
    }

    /// PAT and PMT of a programme whose clock is on 0x100.
    fn tables() -> [[u8; PACKET]; 2] {
        let pat = [0, 0, 0xB0, 13, 0, 1, 0xC1, 0, 0, 0, 1, 0xE1, 0x00, 0, 0, 0, 0];
        let map = [0, 2, 0xB0, 18, 0, 1, 0xC1, 0, 0, 0xE2, 0x00, 0xF0, 0, 0x1B, 0xE2, 0x00, 0xF0, 0, 0, 0, 0, 0];
        [packet(0, 0, &pat), packet(0x100, 0, &map)]
    }

    #[test]
    fn a_clock_is_made_where_none_comes() {
        let mut mender = Mender::default();
        tables().iter().for_each(|table| assert_eq!(mender.packet(Packet(table)), (None, *table)));
        assert_eq!(mender.packet(Packet(&frame(0x200, 15, 0))).0, None);
        mender.without_clock();
        let made: Vec<i64> = (0..200i64)
            .filter_map(|n| mender.packet(Packet(&frame(0x200, (n % 16) as u8, LEAD + n * 3_000))).0)
            .map(|made| {
                let made = Packet(&made);
                assert_eq!((made.pid(), made.payload()), (0x200, None));
                made.pcr().unwrap() * 9 / 100_000
            })
            .collect();
        assert!(made.len() > 90 && made.windows(2).all(|w| (4_400..6_100).contains(&(w[1] - w[0]))), "{made:?}");
        // Where one comes after all, none is made.
        let clock = clock_reference(0x200, 0, 1);
        assert_eq!(mender.packet(Packet(&clock)), (None, clock));
        assert!((0..200).all(|n| mender.packet(Packet(&frame(0x200, 0, n * 3_000))).0.is_none()));
    }

    #[test]
    fn scrambled_streams_are_known() {
        let (mut clear, mut scrambled, mut noise) = (Mender::default(), Mender::default(), Mender::default());
        for table in tables() {
            clear.packet(Packet(&table));
            scrambled.packet(Packet(&table));
        }
        for n in 0..1_000u32 {
            let plain = packet(0x200, (n % 16) as u8, &[1]);
            let mut closed = plain;
            closed[3] |= 0x80;
            clear.packet(Packet(if n % 3 == 0 { &closed } else { &plain }));
            scrambled.packet(Packet(&closed));
            noise.packet(Packet(&closed));
        }
        assert!(!clear.is_scrambled() && scrambled.is_scrambled() && !noise.is_scrambled());
    }

    proptest! {
        /// Only counters change, and what is made is a packet.
        #[test]
        fn nothing_else_changes(noise in proptest::collection::vec(proptest::collection::vec(any::<u8>(), PACKET), 0..200)) {
            let mut mender = Mender::default();
            for mut bytes in noise {
                bytes[0] = SYNC;
                let bytes: [u8; PACKET] = bytes.try_into().unwrap();
                let (made, mut out) = mender.packet(Packet(&bytes));
                out[3] = out[3] & 0xF0 | bytes[3] & 0xF;
                prop_assert_eq!(out, bytes);
                prop_assert!(made.is_none_or(|made| made[0] == SYNC));
            }
        }
    }
}
