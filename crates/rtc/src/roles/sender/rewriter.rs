//! RTP sequence numbers and timestamps of packets that are passed through: one stream towards the SFU, whoever sends and whatever
//! was left out. Pure.
//!
//! Gaps of the source stay gaps, as what is missing may still come and the SFU must know what does not. What we leave out
//! ourselves (a layer that nobody watches) leaves no gap, or the SFU would ask for it (NACK) for ever.

use model::Packet;
use std::time::{Duration, Instant};

/// The most that a sequence number may jump within one stream (MAX_DROPOUT of RFC 3550 appendix A.1); more is a new numbering.
const MAX_JUMP: u64 = 3_000;
/// Time between two sources at the least, as the first frame of the next must be after the last one of the one before.
const MIN_PAUSE: Duration = Duration::from_millis(1);

/// Sequence number and timestamp to send a packet with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Numbers {
    pub(super) sequence: u64,
    pub(super) timestamp: u32,
    /// The source's numbering begins here: what is counted otherwise (frame numbers) has to go on, too.
    pub(super) restarted: bool,
}

/// Rewrites one outgoing stream.
#[derive(Debug)]
pub(super) struct Rewriter {
    clock_rate: u32,
    /// Of the packet after the newest.
    next: u64,
    source: Option<Source>,
    /// The newest timestamp sent, and its capture time.
    last: Option<(u32, Instant)>,
}

#[derive(Debug)]
struct Source {
    stream: u64,
    /// What is added to its timestamps.
    shift: u32,
    /// Its packet that became `at_out`; earlier ones are not sent any more.
    from: u64,
    at_out: u64,
    /// The same before a packet was inserted, for packets of then that come late.
    older: Option<(u64, u64)>,
    newest: u64,
}

impl Rewriter {
    /// `rate`: the ticks of its clock per second; then the first sequence number.
    pub(super) fn new(clock_rate: u32, first: u64) -> Self {
        Self { clock_rate, next: first, source: None, last: None }
    }

    /// The next sequence number, for a packet that is made here.
    pub(super) fn next_own(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    /// The numbers for a packet; `None` for one that comes too late. `fresh`: packets were left out before it.
    pub(super) fn rewrite(&mut self, packet: &Packet, fresh: bool) -> Option<Numbers> {
        let known = self.source.as_ref().filter(|s| s.stream == packet.stream);
        let shift = match known {
            Some(source) => source.shift,
            None => self.shift(packet),
        };
        let jumped = known.is_some_and(|s| packet.sequence > s.newest + MAX_JUMP);
        let restarted = known.is_none() || fresh || jumped;
        if restarted {
            let (from, at_out) = (packet.sequence, self.next);
            self.source = Some(Source { stream: packet.stream, shift, from, at_out, older: None, newest: from });
        }
        let source = self.source.as_mut()?;
        let (from, at_out) = match source.older {
            Some(older) if packet.sequence < source.from => older,
            _ => (source.from, source.at_out),
        };
        let sequence = at_out + packet.sequence.checked_sub(from)?;
        source.newest = source.newest.max(packet.sequence);
        let timestamp = packet.timestamp.wrapping_add(shift);
        if sequence >= self.next {
            self.next = sequence + 1;
            self.last = Some((timestamp, packet.at));
        }
        Some(Numbers { sequence, timestamp, restarted })
    }

    /// Inserts one packet of our own before this one: it takes these numbers, and the result is what this one has then. `None` if
    /// later ones are out already.
    pub(super) fn insert_before(&mut self, packet: &Packet, numbers: Numbers) -> Option<Numbers> {
        let source = self.source.as_mut()?;
        if numbers.sequence + 1 != self.next {
            return None;
        }
        if packet.sequence > source.from {
            source.older = Some((source.from, source.at_out));
        }
        (source.from, source.at_out) = (packet.sequence, self.next);
        self.next += 1;
        Some(Numbers { sequence: source.at_out, ..numbers })
    }

    /// What to add to a new source's timestamps, so that they go on from the last one's by the time that passed between.
    fn shift(&self, packet: &Packet) -> u32 {
        let Some((timestamp, at)) = self.last else { return 0 };
        let elapsed = packet.at.saturating_duration_since(at).max(MIN_PAUSE);
        // Wraps as RTP timestamps do.
        let ticks = (elapsed.as_nanos() * u128::from(self.clock_rate) / 1_000_000_000) as u32;
        timestamp.wrapping_add(ticks).wrapping_sub(packet.timestamp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Kind;
    use proptest::prelude::*;

    fn packet(stream: u64, sequence: u64, timestamp: u32, at: Instant) -> Packet {
        Packet {
            kind: Kind::Video,
            layer: 0,
            stream,
            sequence,
            timestamp,
            at,
            marker: false,
            key: false,
            level: None,
            orientation: None,
            descriptor: None,
            before: None,
            payload: [1][..].into(),
        }
    }

    #[test]
    fn gaps_stay_gaps() {
        let t0 = Instant::now();
        let mut r = Rewriter::new(90_000, 100);
        let mut at = |sequence| r.rewrite(&packet(1, sequence, 7, t0), false).map(|n| n.sequence);
        assert_eq!([at(5000), at(5001), at(5003), at(5002)], [Some(100), Some(101), Some(103), Some(102)]);
        assert_eq!(at(4999), None, "from before the start");
    }

    #[test]
    fn insertion_moves_only_later_packets() {
        let t0 = Instant::now();
        let mut r = Rewriter::new(90_000, 100);
        let at = |r: &mut Rewriter, sequence| r.rewrite(&packet(1, sequence, 7, t0), false);
        assert_eq!([at(&mut r, 10), at(&mut r, 12)].map(|n| n.unwrap().sequence), [100, 102]);
        let key = at(&mut r, 13).unwrap();
        assert_eq!(r.insert_before(&packet(1, 13, 7, t0), key), Some(Numbers { sequence: 104, ..key }), "103 is free");
        assert_eq!([at(&mut r, 14), at(&mut r, 11), at(&mut r, 16)].map(|n| n.unwrap().sequence), [105, 101, 107]);
        let late = at(&mut r, 15).unwrap();
        assert_eq!(late.sequence, 106);
        assert_eq!(r.insert_before(&packet(1, 15, 7, t0), late), None, "16 is out");
        assert_eq!(at(&mut r, 9), None, "from before the start");
    }

    #[test]
    fn pause_leaves_no_gap() {
        let t0 = Instant::now();
        let mut r = Rewriter::new(90_000, 100);
        r.rewrite(&packet(1, 1, 0, t0), false);
        let on = r.rewrite(&packet(1, 900, 3000, t0), true).unwrap();
        assert_eq!(on, Numbers { sequence: 101, timestamp: 3000, restarted: true });
        assert_eq!(r.rewrite(&packet(1, 899, 3000, t0), false), None, "was left out");
        assert_eq!(r.rewrite(&packet(1, 901, 3000, t0), false).unwrap().sequence, 102);
    }

    #[test]
    fn new_source_continues_the_numbering() {
        let t0 = Instant::now();
        let mut r = Rewriter::new(90_000, 100);
        r.rewrite(&packet(1, 1, u32::MAX, t0), false);
        let on = r.rewrite(&packet(2, 77, 12345, t0 + Duration::from_secs(1)), false).unwrap();
        assert_eq!(on, Numbers { sequence: 101, timestamp: 89_999, restarted: true });
        let on = r.rewrite(&packet(2, 78, 12345 + 90, t0), false).unwrap();
        assert_eq!(on, Numbers { sequence: 102, timestamp: 90_089, restarted: false });
    }

    proptest! {
        /// No number is given twice, and the stream never jumps by more than one numbering may.
        #[test]
        fn sequence_numbers_are_unique(steps in proptest::collection::vec((0u64..3, 0u64..10_000, any::<bool>()), 1..200)) {
            let t0 = Instant::now();
            let mut r = Rewriter::new(90_000, 0);
            let mut sent = std::collections::HashSet::new();
            let mut taken = std::collections::HashSet::new();
            let mut newest = 0;
            for (stream, sequence, fresh) in steps {
                // The engine hands each packet out once.
                if !taken.insert((stream, sequence)) {
                    continue;
                }
                if let Some(n) = r.rewrite(&packet(stream, sequence, 0, t0), fresh) {
                    prop_assert!(sent.insert(n.sequence), "{n:?}");
                    prop_assert!(n.sequence <= newest + MAX_JUMP + 1);
                    newest = newest.max(n.sequence);
                }
            }
        }
    }
}
