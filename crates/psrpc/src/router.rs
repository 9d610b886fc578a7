//! The subscriptions of this process: who listens to which channel, and which channels the bus has confirmed.
//!
//! The wanted set lives here; a bus subscribes to what is in it and hands in what arrives.

use bytes::Bytes;
use model::LogBudget;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, mpsc, watch};

/// Messages that may wait for one subscriber. psrpc's own default is 100 for servers and 1000 for busy clients; ours take
/// messages at once, so that this fills only when the process is starved. Then the newest are lost, and their senders see a
/// timeout, but no other channel waits.
const SUBSCRIBER_QUEUE: usize = 256;

/// Identifies a subscriber of a channel.
type SubscriberId = u64;

#[derive(Debug, Default)]
pub(crate) struct Router {
    table: Mutex<Table>,
    changed: Notify,
    /// The bound on lines about messages that are dropped.
    log: LogBudget,
    /// Whether channels count as confirmed as soon as they are wanted.
    confirms_at_once: bool,
}

#[derive(Debug, Default)]
struct Table {
    next_id: SubscriberId,
    channels: HashMap<Arc<str>, Channel>,
}

#[derive(Debug)]
struct Channel {
    subscribers: Vec<(SubscriberId, mpsc::Sender<Bytes>)>,
    confirmed: watch::Sender<bool>,
}

/// What a bus has to do so that its subscriptions are the wanted ones.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Changes {
    pub(crate) subscribe: Vec<Arc<str>>,
    pub(crate) unsubscribe: Vec<Arc<str>>,
}

impl Changes {
    pub(crate) fn is_empty(&self) -> bool {
        self.subscribe.is_empty() && self.unsubscribe.is_empty()
    }
}

/// Messages of one channel. Dropping it ends the subscription.
#[derive(Debug)]
pub struct Subscription {
    guard: SubscriptionGuard,
    messages: mpsc::Receiver<Bytes>,
    confirmed: watch::Receiver<bool>,
}

impl Subscription {
    /// The next message. `None` when the bus is gone. Cancel safe.
    pub async fn recv(&mut self) -> Option<Bytes> {
        self.messages.recv().await
    }

    /// Whether the bus has confirmed the subscription; false again while it is down.
    pub fn confirmed(&self) -> watch::Receiver<bool> {
        self.confirmed.clone()
    }

    /// Ends the subscription when it is dropped, even while the subscription itself lives.
    pub(crate) fn guard(&self) -> SubscriptionGuard {
        self.guard.clone()
    }
}

/// Dropping any copy of it ends the subscription at once.
#[derive(Clone, Debug)]
pub(crate) struct SubscriptionGuard {
    router: Arc<Router>,
    channel: Arc<str>,
    id: SubscriberId,
}

impl Drop for SubscriptionGuard {
    fn drop(&mut self) {
        self.router.unsubscribe(&self.channel, self.id);
    }
}

impl Router {
    /// A router whose bus has to confirm subscriptions.
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// A router whose bus confirms every subscription at once.
    pub(crate) fn confirming_at_once() -> Arc<Self> {
        Arc::new(Self { confirms_at_once: true, ..Self::default() })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Nothing panics while it is held, and a table between two statements is still a table.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn subscribe(self: &Arc<Self>, channel: &str) -> Subscription {
        let (sender, messages) = mpsc::channel(SUBSCRIBER_QUEUE);
        let mut table = self.table();
        table.next_id += 1;
        let id = table.next_id;
        let name: Arc<str> = channel.into();
        let entry = table.channels.entry(name.clone()).or_insert_with(|| Channel {
            subscribers: Vec::new(),
            confirmed: watch::Sender::new(self.confirms_at_once),
        });
        entry.subscribers.push((id, sender));
        let confirmed = entry.confirmed.subscribe();
        drop(table);
        self.changed.notify_one();
        let guard = SubscriptionGuard { router: self.clone(), channel: name, id };
        Subscription { guard, messages, confirmed }
    }

    fn unsubscribe(&self, channel: &Arc<str>, id: SubscriberId) {
        let mut table = self.table();
        let Some(entry) = table.channels.get_mut(channel) else { return };
        entry.subscribers.retain(|(other, _)| *other != id);
        if entry.subscribers.is_empty() {
            table.channels.remove(channel);
            drop(table);
            self.changed.notify_one();
        }
    }

    /// Hands a message to the channel's subscribers; gives how many there are. Never waits.
    pub(crate) fn deliver(&self, channel: &str, payload: &Bytes) -> usize {
        let table = self.table();
        let Some(entry) = table.channels.get(channel) else { return 0 };
        for (_, subscriber) in &entry.subscribers {
            if let Err(mpsc::error::TrySendError::Full(_)) = subscriber.try_send(payload.clone())
                && let Some(unlogged) = self.log.may_log()
            {
                tracing::warn!(
                    channel,
                    unlogged,
                    "a message was dropped: its {SUBSCRIBER_QUEUE} predecessors still wait"
                );
            }
        }
        entry.subscribers.len()
    }

    /// Resolves when the wanted set may have changed since the last call.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Compares the bus's subscriptions with those wanted. Channels in both count as confirmed from here on.
    pub(crate) fn reconcile(&self, actual: &HashSet<Arc<str>>) -> Changes {
        let table = self.table();
        let mut changes = Changes::default();
        for (name, channel) in &table.channels {
            if actual.contains(name) {
                channel.confirmed.send_replace(true);
            } else {
                changes.subscribe.push(name.clone());
            }
        }
        changes.unsubscribe = actual.iter().filter(|name| !table.channels.contains_key(*name)).cloned().collect();
        changes
    }

    /// The connection is gone, and all subscriptions with it.
    pub(crate) fn lost(&self) {
        for channel in self.table().channels.values() {
            channel.confirmed.send_replace(self.confirms_at_once);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn actual(names: &[&str]) -> HashSet<Arc<str>> {
        names.iter().map(|n| Arc::from(*n)).collect()
    }

    #[test]
    fn channels_are_confirmed_once_the_bus_has_them() {
        let router = Router::new();
        let a = router.subscribe("a");
        let a2 = router.subscribe("a");
        assert!(!*a.confirmed().borrow());
        assert_eq!(router.reconcile(&actual(&[])).subscribe, [Arc::from("a")]);
        assert!(!*a.confirmed().borrow());
        assert!(router.reconcile(&actual(&["a"])).is_empty());
        assert!(*a.confirmed().borrow() && *a2.confirmed().borrow());
        router.lost();
        assert!(!*a.confirmed().borrow());
        drop(a);
        assert!(router.reconcile(&actual(&["a"])).is_empty(), "one subscriber is left");
        drop(a2);
        assert_eq!(router.reconcile(&actual(&["a"])).unsubscribe, [Arc::from("a")]);
    }

    #[test]
    fn resubscribed_channel_is_confirmed_again() {
        let router = Router::new();
        drop(router.subscribe("a"));
        let again = router.subscribe("a");
        assert!(!*again.confirmed().borrow());
        assert!(router.reconcile(&actual(&["a"])).is_empty());
        assert!(*again.confirmed().borrow());
    }

    #[test]
    fn full_subscriber_loses_the_newest() {
        let router = Router::confirming_at_once();
        let mut slow = router.subscribe("c");
        for i in 0..SUBSCRIBER_QUEUE + 10 {
            router.deliver("c", &Bytes::from(vec![(i % 251) as u8]));
        }
        let mut late = router.subscribe("c");
        assert_eq!(router.deliver("c", &Bytes::from_static(b"x")), 2);
        assert_eq!(late.messages.try_recv().unwrap(), "x");
        assert_eq!(slow.messages.try_recv().unwrap(), [0u8][..]);
        assert_eq!(router.deliver("nobody", &Bytes::new()), 0);
    }
}
