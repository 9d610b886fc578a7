//! What carries the calls: publish, subscribe, and a lock; and small hashes, in which programs note what others must learn once they are
//! gone.

use crate::router::Subscription;
use bytes::Bytes;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// A future behind a trait object.
pub type BusFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, BusError>> + Send + 'a>>;

/// Carries messages between processes. Used as `Arc<dyn Bus>`.
pub trait Bus: Send + Sync + 'static {
    /// Publishes. Waits while the bus is down, so the caller must bound it. Gives the number of subscribers it reached, where the
    /// bus can tell.
    fn publish<'a>(&'a self, channel: &'a str, payload: Bytes) -> BusFuture<'a, Option<u64>>;

    /// Listens to a channel from the moment the bus has confirmed it ([`Subscription::confirmed`]) until the subscription
    /// is dropped, also across lost connections.
    fn subscribe(&self, channel: &str) -> Subscription;

    /// Takes a lock that lasts for [`LOCK_TTL`]; true for the first who asks. Waits while the bus is down.
    fn lock<'a>(&'a self, key: &'a str) -> BusFuture<'a, bool>;

    /// Sets a field of a hash, and keeps the whole hash for `keep` from now. True if the field is new. Waits while the bus is
    /// down.
    fn hash_set<'a>(&'a self, key: &'a str, field: &'a str, value: Bytes, keep: Duration) -> BusFuture<'a, bool>;

    /// All fields of a hash with their values; none if there is no such hash. Waits while the bus is down.
    fn hash_read<'a>(&'a self, key: &'a str) -> BusFuture<'a, Vec<(String, Bytes)>>;

    /// Removes a field of a hash, if it is there. Waits while the bus is down.
    fn hash_remove<'a>(&'a self, key: &'a str, field: &'a str) -> BusFuture<'a, ()>;

    /// Whether messages can be exchanged, now and whenever that changes.
    fn state(&self) -> watch::Receiver<BusState>;

    /// Its name in texts: "Redis at 127.0.0.1:6379".
    fn name(&self) -> &str;
}

/// For how long a message is locked to the server that took it: psrpc's figure.
pub const LOCK_TTL: Duration = Duration::from_secs(5);

/// Whether messages can be exchanged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BusState {
    /// They can, and every confirmed subscription is in place.
    Up,
    /// They can't.
    Down {
        /// Since when.
        since: Instant,
        /// Why, without secrets.
        reason: Arc<str>,
    },
}

impl BusState {
    /// Whether messages can be exchanged.
    pub fn is_up(&self) -> bool {
        *self == Self::Up
    }
}

/// Why the bus did not do as asked.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BusError {
    /// There is no connection.
    #[error("{name} is not reachable (since {} s): {reason}", since.as_secs())]
    Down {
        /// What is not reachable.
        name: String,
        /// For how long.
        since: Duration,
        /// Why, without secrets.
        reason: String,
    },
    /// It did not answer in time.
    #[error("{name} did not answer within {} ms", within.as_millis())]
    Silent {
        /// What did not.
        name: String,
        /// How long was waited.
        within: Duration,
    },
    /// It refused the command, or the connection broke while it was under way.
    #[error("{name}: {source}")]
    Command {
        /// What did.
        name: String,
        /// Its error.
        source: ::redis::RedisError,
    },
}
