//! A bus within one process, for tests: it delivers at once, and its locks expire by tokio's time.

use crate::bus::LOCK_TTL;
use crate::router::Router;
use crate::{Bus, BusError, BusFuture, BusState, Subscription};
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;
use tokio::time::Instant;

/// See the module.
#[derive(Debug)]
pub struct MemoryBus {
    router: Arc<Router>,
    locks: Mutex<HashMap<String, Instant>>,
    state: watch::Sender<BusState>,
}

impl Default for MemoryBus {
    fn default() -> Self {
        Self { router: Router::confirming_at_once(), locks: Mutex::default(), state: watch::Sender::new(BusState::Up) }
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

    fn state(&self) -> watch::Receiver<BusState> {
        self.state.subscribe()
    }

    fn name(&self) -> &str {
        "the bus"
    }
}
