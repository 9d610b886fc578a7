//! Tells which instances are gone, by their records. Pure: what was read and the time go in.

use crate::control::{Record, StoredRecord};
use bytes::Bytes;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// The longest time between two readings in which nothing can have been missed: two and a half intervals. After a longer one (Redis was
/// away, this instance was held) all records count as new: their owners may have had no chance to write either.
const MAX_GAP: Duration = Duration::from_millis(12_500);
/// How often a record must be seen unchanged, however short it says it is good.
const MIN_SIGHTINGS: u32 = 3;
/// How long a record that can't be read is left alone: it is of a newer version, whose instances put it right.
pub const UNREADABLE_GOOD_FOR: Duration = Duration::from_secs(600);

/// See the [module](self).
#[derive(Debug)]
pub struct Detector {
    own: String,
    last: Option<Instant>,
    seen: HashMap<String, Seen>,
}

#[derive(Debug)]
struct Seen {
    bytes: Bytes,
    since: Instant,
    sightings: u32,
}

impl Detector {
    /// Judges others than the instance `own`.
    pub fn new(own: impl Into<String>) -> Self {
        Self { own: own.into(), last: None, seen: HashMap::new() }
    }

    /// All records as they were read at `now`. Gives those whose instance is gone; it is given again each time until its record is
    /// removed. One that can't be read has no sessions to put right.
    pub fn read(&mut self, records: Vec<StoredRecord>, now: Instant) -> Vec<(String, Option<Record>)> {
        let gap = self.last.replace(now).is_none_or(|last| now.saturating_duration_since(last) > MAX_GAP);
        if gap {
            self.seen.clear();
        }
        let others: Vec<_> = records.into_iter().filter(|stored| stored.instance != self.own).collect();
        self.seen.retain(|instance, _| others.iter().any(|other| other.instance == *instance));
        let gone = others.into_iter().filter(|other| self.is_gone(other, now));
        gone.map(|other| (other.instance, other.record)).collect()
    }

    /// The records could not be read: what is missed now says nothing about their owners.
    pub fn failed(&mut self) {
        self.last = None;
    }

    fn is_gone(&mut self, stored: &StoredRecord, now: Instant) -> bool {
        let new = || Seen { bytes: stored.bytes.clone(), since: now, sightings: 0 };
        let seen = self.seen.entry(stored.instance.clone()).or_insert_with(new);
        if seen.bytes != stored.bytes {
            *seen = new();
        }
        seen.sightings = seen.sightings.saturating_add(1);
        let good_for = stored.record.as_ref().map_or(UNREADABLE_GOOD_FOR, |record| record.good_for);
        let expired = seen.sightings >= MIN_SIGHTINGS && now.saturating_duration_since(seen.since) >= good_for;
        expired || stored.record.as_ref().is_some_and(|record| record.ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recovery::BEAT_INTERVAL;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn record(instance: &str, beat: u64, ended: bool) -> StoredRecord {
        let record = Record { beat, good_for: 20 * SECOND, ended, sessions: Vec::new() };
        let bytes = beat.to_be_bytes().to_vec().into();
        StoredRecord { instance: instance.into(), bytes, record: Some(record) }
    }

    fn names(gone: Vec<(String, Option<Record>)>) -> Vec<String> {
        gone.into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn a_record_that_does_not_change_is_of_one_that_is_gone() {
        let (mut detector, t0) = (Detector::new("me"), Instant::now());
        for n in 0..20u32 {
            let beat = u64::from(n.min(4));
            let records = vec![record("me", 0, false), record("lives", n.into(), false), record("dies", beat, false)];
            let gone = names(detector.read(records, t0 + BEAT_INTERVAL * n));
            // The last change was seen after 20 s.
            assert_eq!(gone, if n >= 8 { vec!["dies"] } else { vec![] }, "{n}");
        }
    }

    #[test]
    fn one_that_says_goodbye_is_gone_at_once() {
        let mut detector = Detector::new("me");
        assert_eq!(names(detector.read(vec![record("other", 7, true)], Instant::now())), ["other"]);
    }

    #[test]
    fn after_a_pause_all_begin_anew() {
        let (mut detector, t0) = (Detector::new("me"), Instant::now());
        let mut read = |at: u32| names(detector.read(vec![record("other", 1, false)], t0 + SECOND * at));
        // Held for minutes, between any two readings.
        for at in [0, 5, 10, 15, 300, 305, 310, 315] {
            assert!(read(at).is_empty(), "{at}");
        }
        assert_eq!(read(320), ["other"]);
    }

    #[test]
    fn what_could_not_be_read_says_nothing() {
        let (mut detector, t0) = (Detector::new("me"), Instant::now());
        for n in 0..20u32 {
            let now = t0 + BEAT_INTERVAL * n;
            if n % 4 == 3 {
                detector.failed();
            } else {
                assert!(detector.read(vec![record("other", 1, false)], now).is_empty(), "{n}");
            }
        }
    }

    #[test]
    fn what_cannot_be_understood_is_left_for_long() {
        let (mut detector, t0) = (Detector::new("me"), Instant::now());
        for n in 0..=120u32 {
            let stored = StoredRecord { instance: "newer".into(), bytes: Bytes::from_static(b"?"), record: None };
            let gone = detector.read(vec![stored], t0 + BEAT_INTERVAL * n);
            assert_eq!(gone.is_empty(), n < 120, "{n}");
        }
    }

    proptest! {
        /// Whatever the pauses of the one who looks: who writes at least every 10 s is never taken for gone.
        #[test]
        fn who_writes_is_never_gone(
            looks in proptest::collection::vec(0u64..30_000, 1..200),
            writes in proptest::collection::vec(1u64..10_000, 1..200),
        ) {
            let (mut detector, t0) = (Detector::new("me"), Instant::now());
            let (mut at, mut written, mut beat) = (0, 0, 0);
            let mut writes = writes.into_iter().cycle();
            for wait in looks {
                at += wait;
                while let Some(next) = writes.next().map(|w| written + w) {
                    written = next;
                    beat += 1;
                    if written > at {
                        break;
                    }
                }
                let gone = detector.read(vec![record("other", beat, false)], t0 + Duration::from_millis(at));
                prop_assert!(gone.is_empty());
            }
        }
    }
}
