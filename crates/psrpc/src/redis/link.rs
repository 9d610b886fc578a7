//! Keeps the link to Redis: connects, subscribes to everything wanted, notices that it broke, and begins again.

use super::Shared;
use super::config::Topology;
use super::dial::DialError;
use super::node::{self, Node};
use crate::Link;
use ::redis::aio::{PubSub, PubSubSink, PubSubStream};
use ::redis::{Value, cmd};
use bytes::Bytes;
use futures_util::StreamExt;
use rand::RngExt;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

/// How often both connections are tried. A peer that vanished without a word is noticed after this and `reply_timeout` at the most.
const PING: Duration = Duration::from_secs(3);

/// How often sentinels are asked whether the master is still the one we are connected to. A master that is cut off from its
/// sentinels goes on answering us while everybody else talks to its successor.
const MASTER_CHECK: Duration = Duration::from_secs(10);

/// Channels in one SUBSCRIBE.
const BATCH: usize = 256;

/// Waits between attempts: doubling from the first to the last, and shortened at random by up to a half, so that many
/// programs don't come back at once.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// A link that held for so long was a good one: the next attempt comes soon.
const GOOD: Duration = Duration::from_secs(5);

/// How often an outage that lasts is logged again.
const REMIND: Duration = Duration::from_secs(60);

/// Runs for ever.
pub(super) async fn supervise(shared: Arc<Shared>) {
    let (mut pause, longest) = BACKOFF;
    let mut said = None;
    loop {
        let start = Instant::now();
        let reason = match connect(&shared).await {
            Ok((node, subscriber)) => serve(&shared, node, subscriber).await,
            Err(error) => error.to_string(),
        };
        if shared.down(&reason) || said.is_none_or(|said: Instant| said.elapsed() > REMIND) {
            said = Some(Instant::now());
            tracing::warn!(reason, "{} is not reachable", shared.name);
        }
        shared.others.lock().await.clear();
        if start.elapsed() > GOOD {
            pause = BACKOFF.0;
        }
        sleep(shortened(pause)).await;
        pause = longest.min(pause * 2);
    }
}

/// A pause shortened at random.
fn shortened(pause: Duration) -> Duration {
    pause.mul_f64(rand::rng().random_range(0.5..1.0))
}

async fn connect(shared: &Shared) -> Result<(Node, PubSub), DialError> {
    let node = node::find(shared).await?;
    let subscriber = node::subscriber(&shared.config, node.address()).await?;
    Ok((node, subscriber))
}

/// Works until the link is broken; gives the reason.
async fn serve(shared: &Shared, node: Node, subscriber: PubSub) -> String {
    let (sink, stream) = subscriber.split();
    tokio::select! {
        () = read(shared, stream) => "the subscriber connection was closed".to_owned(),
        error = subscribe(shared, sink, &node) => error.to_string(),
        error = ping(&node) => error.to_string(),
        reason = node.until_broken() => reason,
        reason = watch_master(shared, &node) => reason,
    }
}

/// Hands on what arrives, and does nothing else: all channels wait here.
async fn read(shared: &Shared, mut stream: PubSubStream) {
    while let Some(message) = stream.next().await {
        shared.router.deliver(message.get_channel_name(), &Bytes::copy_from_slice(message.get_payload_bytes()));
    }
}

/// Keeps the subscriptions those that are wanted; declares the link up once they are.
async fn subscribe(shared: &Shared, mut sink: PubSubSink, node: &Node) -> DialError {
    let mut actual = HashSet::new();
    let mut pings = interval(PING);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let changes = shared.router.reconcile(&actual);
        for channels in changes.subscribe.chunks(BATCH) {
            let names: Vec<&str> = channels.iter().map(|c| &**c).collect();
            if let Err(error) = node.reply(sink.subscribe(names)).await {
                return error;
            }
            actual.extend(channels.iter().cloned());
        }
        for channels in changes.unsubscribe.chunks(BATCH) {
            let names: Vec<&str> = channels.iter().map(|c| &**c).collect();
            if let Err(error) = node.reply(sink.unsubscribe(names)).await {
                return error;
            }
            channels.iter().for_each(|c| _ = actual.remove(c));
        }
        if !changes.is_empty() {
            continue;
        }
        shared.up(node);
        tokio::select! {
            () = shared.router.changed() => {}
            _ = pings.tick() => if let Err(error) = node.reply(sink.ping::<Value>()).await {
                return error;
            }
        }
    }
}

async fn ping(node: &Node) -> DialError {
    loop {
        sleep(PING).await;
        if let Err(error) = node.ask::<Value>(&cmd("PING")).await {
            return error;
        }
    }
}

/// Ends when sentinels name another master. Does nothing in other set-ups.
async fn watch_master(shared: &Shared, node: &Node) -> String {
    if !matches!(shared.config.topology, Topology::Sentinel { .. }) {
        std::future::pending::<()>().await;
    }
    loop {
        sleep(MASTER_CHECK).await;
        // Sentinels that are away say nothing about the master.
        if let Ok(master) = node::master(&shared.config).await
            && master != *node.address()
        {
            return format!("{} is not the master any more: {master} is", node.address());
        }
    }
}

impl Shared {
    fn up(&self, node: &Node) {
        if self.link.borrow().is_up() {
            return;
        }
        self.node.send_replace(Some(node.clone()));
        if let Link::Down { since, .. } = self.link.send_replace(Link::Up) {
            tracing::info!(node = %node.address(), after = ?since.elapsed(), "connected to {}", self.name);
        }
    }

    /// Takes note that the link is down; tells whether it was up.
    fn down(&self, reason: &str) -> bool {
        self.node.send_replace(None);
        self.router.lost();
        let since = match &*self.link.borrow() {
            Link::Down { since, .. } => *since,
            Link::Up => Instant::now(),
        };
        self.link.send_replace(Link::Down { since, reason: reason.into() }).is_up()
    }
}
