//! What the bus and its supervisor share: the connections to send commands by, and what is known of the cluster.

use super::config::{Address, Config};
use super::node::Node;
use crate::router::Router;
use crate::{BusError, BusState};
use ::redis::{Cmd, FromRedisValue, RedisError, ServerErrorKind};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, timeout};

/// Nodes of a cluster whose connections are kept for locks and hashes; clusters of this use have a handful.
const MAX_LOCK_NODES: usize = 32;

/// See the [module](self).
pub(super) struct Shared {
    pub(super) config: Config,
    /// "Redis at 127.0.0.1:6379".
    pub(super) name: String,
    pub(super) router: Arc<Router>,
    pub(super) state: watch::Sender<BusState>,
    /// Where commands go; `None` while the bus is down.
    node: watch::Sender<Option<Node>>,
    /// Cluster: nodes that own the slots of locks and hashes.
    lock_nodes: Mutex<HashMap<Address, Node>>,
    /// Cluster: nodes learnt from the cluster, for when the configured ones are gone.
    pub(super) learnt: std::sync::Mutex<Vec<Address>>,
}

impl Shared {
    /// Not connected yet.
    pub(super) fn new(config: Config) -> Self {
        let down = BusState::Down { since: Instant::now(), reason: "not connected yet".into() };
        Self {
            name: config.to_string(),
            config,
            router: Router::new(),
            state: watch::Sender::new(down),
            node: watch::Sender::new(None),
            lock_nodes: Mutex::default(),
            learnt: std::sync::Mutex::default(),
        }
    }

    /// The bus is up: commands go to this node.
    pub(super) fn up(&self, node: &Node) {
        if self.state.borrow().is_up() {
            return;
        }
        self.node.send_replace(Some(node.clone()));
        if let BusState::Down { since, .. } = self.state.send_replace(BusState::Up) {
            tracing::info!(node = %node.address(), after = ?since.elapsed(), "connected to {}", self.name);
        }
    }

    /// The bus is down; gives whether it was up.
    pub(super) async fn down(&self, reason: &str) -> bool {
        self.close();
        self.router.lost();
        let since = match &*self.state.borrow() {
            BusState::Down { since, .. } => *since,
            BusState::Up => Instant::now(),
        };
        let was_up = self.state.send_replace(BusState::Down { since, reason: reason.into() }).is_up();
        self.lock_nodes.lock().await.clear();
        was_up
    }

    /// Lets go of the connection for commands.
    pub(super) fn close(&self) {
        self.node.send_replace(None);
    }

    /// Where commands go, as soon as the bus is up.
    pub(super) async fn node(&self) -> Node {
        let mut node = self.node.subscribe();
        match node.wait_for(Option::is_some).await.map(|node| node.clone()) {
            Ok(Some(node)) => node,
            // The sender lives in `self`, and `wait_for` has seen a node.
            _ => std::future::pending().await,
        }
    }

    /// Runs a command; reports the node as broken if it is.
    pub(super) async fn run<T: FromRedisValue>(&self, node: &Node, command: &Cmd) -> Result<T, BusError> {
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
    pub(super) async fn run_redirected<T: FromRedisValue>(
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
            let node = self.lock_node(address).await?;
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
    async fn lock_node(&self, address: Address) -> Result<Node, BusError> {
        let mut nodes = self.lock_nodes.lock().await;
        nodes.retain(|_, node| !node.is_broken());
        if let Some(node) = nodes.get(&address) {
            return Ok(node.clone());
        }
        let node = Node::connect(&self.config, address.clone()).await.map_err(|error| BusError::Down {
            name: format!("Redis at {address}"),
            since: Duration::ZERO,
            reason: error.to_string(),
        })?;
        if nodes.len() < MAX_LOCK_NODES {
            nodes.insert(address, node.clone());
        }
        Ok(node)
    }
}

/// Whether an error means that the connection, or the node behind it, is of no use any more.
fn breaks(error: &RedisError) -> bool {
    // A master that became a replica refuses locks and tells nobody of what is published on it.
    error.is_connection_dropped() || error.is_timeout() || error.kind() == ServerErrorKind::ReadOnly.into()
}
