//! Bounds on looking up stream keys that nobody has: each costs livekit-server and Redis some messages, and strangers guess.
//!
//! A key that was unknown a moment ago is not looked up again. New unknown keys are looked up at a bounded pace in all; beyond it,
//! look-ups wait for their turn, and beyond that they are refused. Keys that were found before go ahead of all that.

use model::{Blame, Fault, Secret};
use std::collections::hash_map::RandomState;
use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until};

/// How long a key counts as unknown without being looked up again: an encoder that tries again and again costs one look-up in that
/// time, and somebody who has just created the ingress waits no longer.
const UNKNOWN_FOR: Duration = Duration::from_secs(3);
/// How long a key that was found goes ahead: longer than an encoder is away between two attempts to connect.
const KNOWN_FOR: Duration = Duration::from_secs(3600);
/// Keys that are remembered of each kind; beyond, the oldest is forgotten. Far more than a machine has encoders.
const MAX_REMEMBERED: usize = 4096;
/// Look-ups of unknown keys a second, in all: more than one address can ask for (its bound on connections, each charged for a
/// second), and some 250 kB/s for Redis.
const PACE: f64 = 200.0;
/// Look-ups that may come at once after a quiet time: everybody connects again when a machine has restarted.
const BURST: f64 = 400.0;
/// Look-ups that may wait for their turn: two seconds' worth, which no encoder is too impatient for.
const MAX_WAITING: usize = 400;

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct KeyLookups {
    table: Mutex<Table>,
    waiting: Semaphore,
}

impl Default for KeyLookups {
    fn default() -> Self {
        Self { table: Mutex::new(Table::new(Instant::now())), waiting: Semaphore::new(MAX_WAITING) }
    }
}

impl KeyLookups {
    /// What `look_up` gives for this key, or that it is unknown without asking.
    ///
    /// # Errors
    /// As `look_up`; [`Blame::Capacity`] if too many wait.
    pub(crate) async fn find<T>(
        &self,
        key: &Secret,
        look_up: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        let busy =
            || Fault::transient(Blame::Capacity, "too many unknown stream keys are tried; try again in a moment");
        let turn = self.table().ask(key, Instant::now());
        match turn {
            Turn::Unknown(fault) => return Err(fault),
            Turn::Now => {}
            Turn::At(at) => {
                let Ok(_waiting) = self.waiting.try_acquire() else {
                    self.table().give_back();
                    return Err(busy());
                };
                sleep_until(at).await;
            }
        }
        let found = look_up.await;
        self.table().answered(key, found.as_ref().err(), Instant::now());
        found
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // The table is whole after a panic: nothing in here panics between two changes.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When a key may be looked up.
#[derive(Debug, PartialEq)]
enum Turn {
    Now,
    At(Instant),
    /// Not at all: this is what the last look-up said.
    Unknown(Fault),
}

/// What is remembered. Pure.
#[derive(Debug)]
struct Table {
    /// Keys are remembered by a hash that nobody outside can compute, and not as they are.
    hasher: RandomState,
    unknown: Memory<Fault>,
    known: Memory<()>,
    /// Look-ups that may begin at `since`; below zero, that many are owed.
    budget: f64,
    since: Instant,
}

impl Table {
    fn new(now: Instant) -> Self {
        Self {
            hasher: RandomState::new(),
            unknown: Memory::new(UNKNOWN_FOR),
            known: Memory::new(KNOWN_FOR),
            budget: BURST,
            since: now,
        }
    }

    fn ask(&mut self, key: &Secret, now: Instant) -> Turn {
        let hash = self.hasher.hash_one(key);
        if let Some(fault) = self.unknown.get(hash, now) {
            return Turn::Unknown(fault.clone());
        }
        if self.known.get(hash, now).is_some() {
            return Turn::Now;
        }
        let passed = now.saturating_duration_since(self.since).as_secs_f64();
        self.budget = (self.budget + passed * PACE).min(BURST);
        self.since = self.since.max(now);
        self.budget -= 1.0;
        if self.budget >= 0.0 { Turn::Now } else { Turn::At(now + Duration::from_secs_f64(-self.budget / PACE)) }
    }

    /// A look-up was not made, or was no stranger's.
    fn give_back(&mut self) {
        self.budget = (self.budget + 1.0).min(BURST);
    }

    fn answered(&mut self, key: &Secret, fault: Option<&Fault>, now: Instant) {
        let hash = self.hasher.hash_one(key);
        match fault {
            Some(fault) if fault.blame == Blame::Unknown => self.unknown.put(hash, fault.clone(), now),
            // Not asked at all, or in vain: nothing is known of the key.
            Some(fault) if fault.retry => {}
            // Also one that may not publish just now: somebody has it.
            _ => {
                if self.known.get(hash, now).is_none() {
                    self.give_back();
                }
                self.known.put(hash, (), now);
            }
        }
    }
}

/// Values for a while, and only so many: the oldest go first.
#[derive(Debug)]
struct Memory<T> {
    lifetime: Duration,
    values: HashMap<u64, (T, Instant)>,
    /// In the order in which they were put; a value that was put again stands here twice.
    order: VecDeque<(u64, Instant)>,
}

impl<T> Memory<T> {
    fn new(lifetime: Duration) -> Self {
        Self { lifetime, values: HashMap::new(), order: VecDeque::new() }
    }

    fn get(&mut self, hash: u64, now: Instant) -> Option<&T> {
        self.forget(now);
        self.values.get(&hash).map(|(value, _)| value)
    }

    fn put(&mut self, hash: u64, value: T, now: Instant) {
        self.forget(now);
        // One that comes again and again does not crowd out the others.
        if self.values.get(&hash).is_some_and(|(_, put)| now < *put + self.lifetime / 4) {
            return;
        }
        self.values.insert(hash, (value, now));
        self.order.push_back((hash, now));
    }

    fn forget(&mut self, now: Instant) {
        while let Some(&(hash, at)) = self.order.front()
            && (now >= at + self.lifetime || self.order.len() > MAX_REMEMBERED)
        {
            self.order.pop_front();
            if self.values.get(&hash).is_some_and(|(_, put)| *put == at) {
                self.values.remove(&hash);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::cell::Cell;

    fn key(number: usize) -> Secret {
        Secret::new(format!("key{number}"))
    }

    fn unknown() -> Fault {
        Fault::new(Blame::Unknown, "no ingress has this stream key")
    }

    #[tokio::test(start_paused = true)]
    async fn an_unknown_key_is_looked_up_once_in_a_while() {
        let (lookups, asked) = (KeyLookups::default(), Cell::new(0));
        let look_up = async |result: Result<u8, Fault>| {
            asked.set(asked.get() + 1);
            result
        };
        for _ in 0..10 {
            assert_eq!(lookups.find(&key(1), look_up(Err(unknown()))).await, Err(unknown()));
        }
        assert_eq!(asked.get(), 1);
        assert_eq!(lookups.find(&key(2), look_up(Ok(2))).await, Ok(2), "another key");
        tokio::time::advance(UNKNOWN_FOR).await;
        assert_eq!(lookups.find(&key(1), look_up(Ok(1))).await, Ok(1), "created meanwhile");
        assert_eq!(lookups.find(&key(1), look_up(Ok(1))).await, Ok(1));
        assert_eq!(asked.get(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_fault_that_passes_is_not_remembered() {
        let lookups = KeyLookups::default();
        let away = Fault::transient(Blame::Control, "away");
        assert_eq!(lookups.find(&key(1), async { Err::<u8, _>(away.clone()) }).await, Err(away));
        assert_eq!(lookups.find(&key(1), async { Ok(1) }).await, Ok(1));
    }

    #[tokio::test(start_paused = true)]
    async fn guesses_are_paced_and_known_keys_go_ahead() {
        let lookups = KeyLookups::default();
        assert_eq!(lookups.find(&key(0), async { Ok(0) }).await, Ok(0));
        let began = Instant::now();
        for number in 1..=BURST as usize + 100 {
            let _ = lookups.find(&key(number), async { Err::<u8, _>(unknown()) }).await;
        }
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(490) && took < Duration::from_millis(1_500), "{took:?}");
        let began = Instant::now();
        assert_eq!(lookups.find(&key(0), async { Ok(0) }).await, Ok(0));
        assert_eq!(began.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn more_than_may_wait_are_refused_and_owe_nothing() {
        let began = Instant::now();
        let mut all = tokio::task::JoinSet::new();
        let shared = std::sync::Arc::new(KeyLookups::default());
        for number in 0..2_000 {
            let shared = shared.clone();
            all.spawn(async move { shared.find(&key(number), async { Err::<u8, _>(unknown()) }).await });
        }
        let answers = all.join_all().await;
        let busy = answers.iter().filter(|a| a.as_ref().is_err_and(|f| f.blame == Blame::Capacity)).count();
        assert_eq!(busy, 2_000 - BURST as usize - MAX_WAITING);
        assert!(began.elapsed() < Duration::from_millis(2_500), "{:?}", began.elapsed());
    }

    proptest! {
        #[test]
        fn memory_is_bounded_and_the_pace_holds(steps in proptest::collection::vec((0usize..40, 0u64..300, any::<bool>()), 0..200)) {
            let start = Instant::from_std(std::time::Instant::now());
            let (mut table, mut now) = (Table::new(start), start);
            let mut looked_up = 0.0;
            for (number, wait, exists) in steps {
                now += Duration::from_millis(wait);
                let key = key(number);
                match table.ask(&key, now) {
                    Turn::Unknown(_) => continue,
                    Turn::Now => {}
                    Turn::At(at) => prop_assert!(at > now && at <= now + Duration::from_secs(2)),
                }
                let fault = unknown();
                if !exists {
                    looked_up += 1.0;
                }
                table.answered(&key, (!exists).then_some(&fault), now);
                prop_assert!(table.unknown.order.len() <= MAX_REMEMBERED + 1 && table.known.values.len() <= MAX_REMEMBERED + 1);
            }
            let passed = (now - start).as_secs_f64();
            prop_assert!(looked_up <= BURST + passed * PACE + 1.0);
        }
    }
}
