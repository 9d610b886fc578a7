//! The bus over Redis: one server, a master found through sentinels, or a cluster.
//!
//! One task (`ipc`) owns the connections, a pair to one node: a subscriber and one for commands. It connects for ever,
//! subscribes again to everything, and notices a dead peer. The `redis` crate is used for its protocol only; its own
//! reconnecting gives up after some tries and its clients can't be given a TLS server name, so dialling, finding the node
//! and supervising are here.

mod config;
mod dial;
mod link;
mod node;
mod tls;

pub use config::{Address, Config, ConfigError, Password, Tls, Topology};

use crate::bus::LOCK_TTL;
use crate::router::Router;
use crate::{Bus, BusError, BusFuture, Link, Subscription};
use ::redis::{Cmd, FromRedisValue, RedisError, ServerErrorKind};
use bytes::Bytes;
use node::Node;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};

/// Nodes of a cluster whose connections are kept for locks; clusters of this use have a handful.
const NODES_KEPT: usize = 32;

/// See the module.
pub struct RedisBus {
    shared: Arc<Shared>,
    supervisor: AbortHandle,
}

struct Shared {
    config: Config,
    name: String,
    router: Arc<Router>,
    link: watch::Sender<Link>,
    /// Where commands go; `None` while the link is down.
    node: watch::Sender<Option<Node>>,
    /// Cluster: nodes that own the slots of locks.
    others: Mutex<HashMap<Address, Node>>,
    /// Cluster: nodes learnt from the cluster, for when the configured ones are gone.
    learnt: std::sync::Mutex<Vec<Address>>,
}

impl RedisBus {
    /// Starts connecting and goes on for ever. Must be called within a tokio runtime. Fails only where the configuration
    /// can never work; that Redis is away is no failure.
    pub fn new(config: Config) -> Result<Arc<Self>, ConfigError> {
        config.check()?;
        let down = Link::Down { since: Instant::now(), reason: "not connected yet".into() };
        let shared = Arc::new(Shared {
            name: config.to_string(),
            config,
            router: Router::new(),
            link: watch::Sender::new(down),
            node: watch::Sender::new(None),
            others: Mutex::default(),
            learnt: std::sync::Mutex::default(),
        });
        let supervisor = tokio::spawn(link::supervise(shared.clone())).abort_handle();
        Ok(Arc::new(Self { shared, supervisor }))
    }
}

impl Drop for RedisBus {
    fn drop(&mut self) {
        self.supervisor.abort();
        self.shared.node.send_replace(None);
    }
}

impl Bus for RedisBus {
    fn publish<'a>(&'a self, channel: &'a str, payload: Bytes) -> BusFuture<'a, Option<u64>> {
        Box::pin(async move {
            let node = self.shared.node().await;
            let mut command = ::redis::cmd("PUBLISH");
            command.arg(channel).arg(&payload[..]);
            let reached: u64 = self.shared.run(&node, &command).await?;
            // A node of a cluster counts only its own subscribers.
            Ok((!self.shared.config.is_cluster()).then_some(reached))
        })
    }

    fn subscribe(&self, channel: &str) -> Subscription {
        self.shared.router.subscribe(channel)
    }

    fn lock<'a>(&'a self, key: &'a str) -> BusFuture<'a, bool> {
        Box::pin(async move {
            let mut command = ::redis::cmd("SET");
            // The value is never read back; psrpc puts a random number there.
            command.arg(key).arg(rand::random::<u32>()).arg("EX").arg(LOCK_TTL.as_secs()).arg("NX");
            let node = self.shared.node().await;
            let set: Option<String> = match self.shared.run(&node, &command).await {
                Err(BusError::Command { source, .. }) if source.redirect_node().is_some() => {
                    self.shared.run_redirected(node, source, &command).await?
                }
                other => other?,
            };
            Ok(set.is_some())
        })
    }

    fn link(&self) -> watch::Receiver<Link> {
        self.shared.link.subscribe()
    }

    fn name(&self) -> &str {
        &self.shared.name
    }
}

impl Shared {
    /// Where commands go, as soon as the link is up.
    async fn node(&self) -> Node {
        let mut node = self.node.subscribe();
        match node.wait_for(Option::is_some).await.map(|node| node.clone()) {
            Ok(Some(node)) => node,
            // The sender lives in `self`, and `wait_for` has seen a node.
            _ => std::future::pending().await,
        }
    }

    /// Runs a command; reports the node as broken if it is.
    async fn run<T: FromRedisValue>(&self, node: &Node, command: &Cmd) -> Result<T, BusError> {
        let within = self.config.reply_timeout;
        match timeout(within, command.query_async(&mut node.connection())).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(source)) => {
                if breaks(&source) {
                    node.broken(source.to_string());
                }
                Err(BusError::Command { name: self.name.clone(), source })
            }
            Err(_) => {
                node.broken(format!("no reply within {} ms", within.as_millis()));
                Err(BusError::Silent { name: self.name.clone(), within })
            }
        }
    }

    /// Follows a cluster's redirections to the node that owns the key.
    async fn run_redirected<T: FromRedisValue>(
        &self,
        mut from: Node,
        mut redirection: RedisError,
        command: &Cmd,
    ) -> Result<T, BusError> {
        for _ in 0..self.config.max_redirects() {
            let Some(address) = redirection.redirect_node().and_then(|(to, _)| from.address().redirected(to)) else {
                break;
            };
            let ask = redirection.kind() == ServerErrorKind::Ask.into();
            let node = self.other(address).await?;
            if ask {
                // Valid for the next command on this connection; another task's command in between costs us the lock, and
                // the request goes to another server of the queue.
                self.run::<()>(&node, &::redis::cmd("ASKING")).await?;
            }
            match self.run(&node, command).await {
                Err(BusError::Command { source, .. }) if source.redirect_node().is_some() => redirection = source,
                other => return other,
            }
            from = node;
        }
        Err(BusError::Command { name: self.name.clone(), source: redirection })
    }

    /// A connection to another node of the cluster, kept for the next time.
    async fn other(&self, address: Address) -> Result<Node, BusError> {
        let mut others = self.others.lock().await;
        others.retain(|_, node| !node.is_broken());
        if let Some(node) = others.get(&address) {
            return Ok(node.clone());
        }
        let node = Node::connect(&self.config, address.clone()).await.map_err(|error| BusError::Down {
            name: format!("Redis at {address}"),
            since: Duration::ZERO,
            reason: error.to_string(),
        })?;
        if others.len() < NODES_KEPT {
            others.insert(address, node.clone());
        }
        Ok(node)
    }
}

/// Whether an error means that the connection, or the node behind it, is of no use any more.
fn breaks(error: &RedisError) -> bool {
    // A master that became a replica refuses locks and tells nobody of what is published on it.
    error.is_connection_dropped() || error.is_timeout() || error.kind() == ServerErrorKind::ReadOnly.into()
}
