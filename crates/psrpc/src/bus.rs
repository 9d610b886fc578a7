//! What carries the calls: publish, subscribe, and a lock.

use crate::router::{Router, SubscriberId};
use bytes::Bytes;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// A future behind a trait object.
pub type BusFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, BusError>> + Send + 'a>>;

/// Carries messages between processes. Used as `Arc<dyn Bus>`.
pub trait Bus: Send + Sync + 'static {
    /// Publishes. Waits for the link if it is down, so the caller must bound it. Gives the number of subscribers it
    /// reached, where the bus can tell.
    fn publish<'a>(&'a self, channel: &'a str, payload: Bytes) -> BusFuture<'a, Option<u64>>;

    /// Listens to a channel from the moment the bus has confirmed it ([`Subscription::confirmed`]) until the subscription
    /// is dropped, also across lost links.
    fn subscribe(&self, channel: &str) -> Subscription;

    /// Takes a lock that lasts for [`LOCK_TTL`]; true for the first who asks. Waits for the link if it is down.
    fn lock<'a>(&'a self, key: &'a str) -> BusFuture<'a, bool>;

    /// The link's state, now and whenever it changes.
    fn link(&self) -> watch::Receiver<Link>;

    /// What to call it in a text: "Redis at 127.0.0.1:6379".
    fn name(&self) -> &str;
}

/// For how long a message is locked to the server that took it: psrpc's figure.
pub const LOCK_TTL: Duration = Duration::from_secs(5);

/// Whether messages can be exchanged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// They can, and every confirmed subscription is in place.
    Up,
    /// They can't.
    Down {
        /// Since when.
        since: Instant,
        /// In words, without secrets.
        reason: Arc<str>,
    },
}

impl Link {
    /// Whether messages can be exchanged.
    pub fn is_up(&self) -> bool {
        *self == Self::Up
    }
}

/// Why the bus did not do as asked.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BusError {
    /// There is no link.
    #[error("{name} is not reachable (since {} s): {reason}", since.as_secs())]
    Down {
        /// What is not reachable.
        name: String,
        /// For how long.
        since: Duration,
        /// In words, without secrets.
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
    /// It refused the command, or the link broke while it was under way.
    #[error("{name}: {source}")]
    Command {
        /// What did.
        name: String,
        /// Its words.
        source: ::redis::RedisError,
    },
}

/// Messages of one channel. Dropping it ends the subscription.
#[derive(Debug)]
pub struct Subscription {
    pub(crate) place: Place,
    pub(crate) messages: mpsc::Receiver<Bytes>,
    pub(crate) confirmed: watch::Receiver<bool>,
}

impl Subscription {
    /// The next message. `None` when the bus is gone. Cancel safe.
    pub async fn recv(&mut self) -> Option<Bytes> {
        self.messages.recv().await
    }

    /// Whether the bus has confirmed the subscription; false again while the link is down.
    pub fn confirmed(&self) -> watch::Receiver<bool> {
        self.confirmed.clone()
    }
}

/// A subscriber's place at its channel. Dropping any copy gives it up at once.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) router: Arc<Router>,
    pub(crate) channel: Arc<str>,
    pub(crate) id: SubscriberId,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.router.unsubscribe(&self.channel, self.id);
    }
}
