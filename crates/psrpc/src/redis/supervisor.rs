//! Keeps the connection to Redis: connects, subscribes to everything wanted, notices that it broke, and begins again.

use super::config::Topology;
use super::dial::DialError;
use super::node::{self, Node};
use super::shared::Shared;
use ::redis::aio::{PubSub, PubSubSink, PubSubStream};
use ::redis::{Value, cmd};
use bytes::Bytes;
use futures_util::StreamExt;
use rand::RngExt;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

/// How often both connections are tried. A peer that vanished without a word is noticed after this and `reply_timeout` at most.
const PING_INTERVAL: Duration = Duration::from_secs(3);

/// How often sentinels are asked whether the master is still the one we are connected to. A master that is cut off from its
/// sentinels goes on answering us while everybody else talks to its successor.
const MASTER_CHECK_INTERVAL: Duration = Duration::from_secs(10);

/// Channels in one SUBSCRIBE.
const SUBSCRIBE_BATCH: usize = 256;

/// Waits between attempts: doubling from the first to the last, and shortened at random by up to a half, so that many
/// programs don't come back at once.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// A connection that lasted for so long resets the backoff.
const STABLE_AFTER: Duration = Duration::from_secs(5);

/// How often an outage that lasts is logged again.
const OUTAGE_LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Runs for ever.
pub(super) async fn supervise(shared: Arc<Shared>) {
    let (mut pause, longest) = BACKOFF;
    let mut logged = None;
    loop {
        let start = Instant::now();
        let reason = match connect(&shared).await {
            Ok((node, subscriber)) => serve(&shared, node, subscriber).await,
            Err(error) => error.to_string(),
        };
        if shared.down(&reason).await || logged.is_none_or(|at: Instant| at.elapsed() > OUTAGE_LOG_INTERVAL) {
            logged = Some(Instant::now());
            tracing::warn!(reason, "{} is not reachable", shared.name);
        }
        if start.elapsed() > STABLE_AFTER {
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
    let node = node::find(&shared.config, &shared.learnt).await?;
    let subscriber = node::subscriber(&shared.config, node.address()).await?;
    Ok((node, subscriber))
}

/// Works until a connection is broken; gives the reason.
async fn serve(shared: &Shared, node: Node, subscriber: PubSub) -> String {
    let (sink, stream) = subscriber.split();
    tokio::select! {
        () = read(shared, stream) => "the subscriber connection was closed".to_owned(),
        error = subscribe(shared, sink, &node) => error.to_string(),
        error = ping(&node) => error.to_string(),
        reason = node.until_broken() => reason,
        reason = check_master(shared, &node) => reason,
    }
}

/// Hands on what arrives, and does nothing else: all channels wait for it.
async fn read(shared: &Shared, mut stream: PubSubStream) {
    while let Some(message) = stream.next().await {
        shared.router.deliver(message.get_channel_name(), &Bytes::copy_from_slice(message.get_payload_bytes()));
    }
}

/// Subscribes to what is wanted, and declares the bus up once all is confirmed.
async fn subscribe(shared: &Shared, mut sink: PubSubSink, node: &Node) -> DialError {
    let mut actual = HashSet::new();
    let mut pings = interval(PING_INTERVAL);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let changes = shared.router.reconcile(&actual);
        for channels in changes.subscribe.chunks(SUBSCRIBE_BATCH) {
            let names: Vec<&str> = channels.iter().map(|c| &**c).collect();
            if let Err(error) = node.reply(sink.subscribe(names)).await {
                return error;
            }
            actual.extend(channels.iter().cloned());
        }
        for channels in changes.unsubscribe.chunks(SUBSCRIBE_BATCH) {
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
        sleep(PING_INTERVAL).await;
        if let Err(error) = node.ask::<Value>(&cmd("PING")).await {
            return error;
        }
    }
}

/// Ends when sentinels name another master. Does nothing in other set-ups.
async fn check_master(shared: &Shared, node: &Node) -> String {
    if !matches!(shared.config.topology, Topology::Sentinel { .. }) {
        std::future::pending::<()>().await;
    }
    loop {
        sleep(MASTER_CHECK_INTERVAL).await;
        // Sentinels that are away say nothing about the master.
        if let Ok(master) = node::master(&shared.config).await
            && master != *node.address()
        {
            return format!("{} is not the master any more: {master} is", node.address());
        }
    }
}
