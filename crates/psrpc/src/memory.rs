//! A bus within one process, for tests: it delivers at once, its locks expire by tokio's time, and its hashes stay.

use crate::bus::LOCK_TTL;
use crate::router::Router;
use crate::{Bus, BusError, BusFuture, BusState, Subscription};
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// See the module.
#[derive(Debug)]
pub struct MemoryBus {
    router: Arc<Router>,
    locks: Mutex<HashMap<String, Instant>>,
    hashes: Mutex<HashMap<String, BTreeMap<String, Bytes>>>,
    state: watch::Sender<BusState>,
}

impl Default for MemoryBus {
    fn default() -> Self {
        Self {
            router: Router::confirming_at_once(),
            locks: Mutex::default(),
            hashes: Mutex::default(),
            state: watch::Sender::new(BusState::Up),
        }
    }
}

impl MemoryBus {
    /// A bus that is up.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Takes the bus down for this reason, or up again. While it is down nothing is delivered and publishers wait.
    pub fn set_down(&self, reason: Option<&str>) {
        self.state.send_replace(match reason {
            Some(reason) => BusState::Down { since: Instant::now(), reason: reason.into() },
            None => BusState::Up,
        });
    }

    /// Forgets all hashes, as a Redis that lost its data.
    pub fn forget(&self) {
        self.hashes().clear();
    }

    fn hashes(&self) -> MutexGuard<'_, HashMap<String, BTreeMap<String, Bytes>>> {
        // Held for single map operations only.
        self.hashes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn up(&self) -> Result<(), BusError> {
        // The sender is our own field: this cannot fail while we are borrowed.
        let _ = self.state.subscribe().wait_for(BusState::is_up).await;
        Ok(())
    }
}

impl Bus for MemoryBus {
    fn publish<'a>(&'a self, channel: &'a str, payload: Bytes) -> BusFuture<'a, Option<u64>> {
        Box::pin(async move {
            self.up().await?;
            Ok(Some(self.router.deliver(channel, &payload) as u64))
        })
    }

    fn subscribe(&self, channel: &str) -> Subscription {
        self.router.subscribe(channel)
    }

    fn lock<'a>(&'a self, key: &'a str) -> BusFuture<'a, bool> {
        Box::pin(async move {
            self.up().await?;
            let now = Instant::now();
            let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
            locks.retain(|_, until| *until > now);
            let free = !locks.contains_key(key);
            if free {
                locks.insert(key.to_owned(), now + LOCK_TTL);
            }
            Ok(free)
        })
    }

    fn hash_set<'a>(&'a self, key: &'a str, field: &'a str, value: Bytes, _: Duration) -> BusFuture<'a, bool> {
        Box::pin(async move {
            self.up().await?;
            Ok(self.hashes().entry(key.to_owned()).or_default().insert(field.to_owned(), value).is_none())
        })
    }

    fn hash_read<'a>(&'a self, key: &'a str) -> BusFuture<'a, Vec<(String, Bytes)>> {
        Box::pin(async move {
            self.up().await?;
            Ok(self.hashes().get(key).cloned().unwrap_or_default().into_iter().collect())
        })
    }

    fn hash_remove<'a>(&'a self, key: &'a str, field: &'a str) -> BusFuture<'a, ()> {
        Box::pin(async move {
            self.up().await?;
            self.hashes().get_mut(key).map(|fields| fields.remove(field));
            Ok(())
        })
    }

    fn state(&self) -> watch::Receiver<BusState> {
        self.state.subscribe()
    }

    fn name(&self) -> &str {
        "the bus"
    }
}
