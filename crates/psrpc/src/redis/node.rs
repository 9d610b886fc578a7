//! A Redis server we talk to, and finding the one to talk to.

use super::config::{Address, Config, Password, Topology};
use super::dial::{DialError, dial};
use ::redis::aio::{MultiplexedConnection, PubSub};
use ::redis::{
    AsyncConnectionConfig, Cmd, FromRedisValue, ProtocolVersion, RedisConnectionInfo, RedisResult, Value, cmd,
};
use rand::seq::SliceRandom;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::timeout;

/// A connection for commands. The last clone that is dropped closes it.
#[derive(Clone)]
pub(super) struct Node {
    address: Address,
    connection: MultiplexedConnection,
    /// How long a reply may take.
    reply_timeout: Duration,
    /// Why it is of no use any more, once it is.
    broken: watch::Sender<Option<String>>,
    _driver: Arc<Driver>,
}

/// The task that moves the connection's bytes.
struct Driver(AbortHandle);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Node {
    /// Connects and authenticates, as the configuration says for data servers.
    pub(super) async fn connect(config: &Config, address: Address) -> Result<Self, DialError> {
        let db = if config.is_cluster() { 0 } else { config.db };
        Self::open(config, address, credentials(&config.username, &config.password, db)).await
    }

    async fn open(config: &Config, address: Address, info: RedisConnectionInfo) -> Result<Self, DialError> {
        within(config.dial_timeout, &address, async {
            let stream = dial(&address, config.tls.as_ref()).await?;
            // Deadlines are set around each command: the library's own is half a second.
            let options = AsyncConnectionConfig::new().set_response_timeout(None);
            let (connection, driver) = MultiplexedConnection::new_with_config(&info, stream, options)
                .await
                .map_err(|source| DialError::Redis { address: address.clone(), source })?;
            let broken = watch::Sender::new(None);
            let ended = broken.clone();
            let driver = tokio::spawn(async move {
                driver.await;
                ended.send_replace(Some("the connection was closed".to_owned()));
            });
            let reply_timeout = config.reply_timeout;
            Ok(Self {
                address: address.clone(),
                connection,
                reply_timeout,
                broken,
                _driver: Arc::new(Driver(driver.abort_handle())),
            })
        })
        .await
    }

    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    pub(super) fn connection(&self) -> MultiplexedConnection {
        self.connection.clone()
    }

    /// Marks it as of no use.
    pub(super) fn broken(&self, reason: String) {
        self.broken.send_if_modified(|known| known.is_none().then(|| *known = Some(reason)).is_some());
    }

    pub(super) fn is_broken(&self) -> bool {
        self.broken.borrow().is_some()
    }

    /// Resolves with the reason when it is of no use any more.
    pub(super) async fn until_broken(&self) -> String {
        let mut broken = self.broken.subscribe();
        match broken.wait_for(Option::is_some).await.map(|reason| reason.clone()) {
            Ok(Some(reason)) => reason,
            // The sender lives in `self`, and `wait_for` has seen a reason.
            _ => std::future::pending().await,
        }
    }

    /// One command, with the deadline of all.
    pub(super) async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, DialError> {
        self.reply(command.query_async(&mut self.connection())).await
    }

    /// Waits for a reply of this server, on whichever connection.
    pub(super) async fn reply<T>(&self, reply: impl Future<Output = RedisResult<T>>) -> Result<T, DialError> {
        within(self.reply_timeout, &self.address, async {
            reply.await.map_err(|source| DialError::Redis { address: self.address.clone(), source })
        })
        .await
    }
}

async fn within<T>(
    limit: Duration,
    address: &Address,
    work: impl Future<Output = Result<T, DialError>>,
) -> Result<T, DialError> {
    match timeout(limit, work).await {
        Ok(result) => result,
        Err(_) => Err(DialError::TimedOut { address: address.clone(), within: limit }),
    }
}

fn credentials(username: &str, password: &Password, db: i64) -> RedisConnectionInfo {
    // RESP2 is what every server and proxy speaks. Naming the library is a command that access rules may refuse and old
    // servers don't know.
    let mut info =
        RedisConnectionInfo::default().set_protocol(ProtocolVersion::RESP2).set_db(db).set_skip_set_lib_name();
    if !username.is_empty() {
        info = info.set_username(username);
    }
    if !password.expose().is_empty() {
        info = info.set_password(password.expose());
    }
    info
}

/// A subscriber connection to the same server.
pub(super) async fn subscriber(config: &Config, address: &Address) -> Result<PubSub, DialError> {
    within(config.dial_timeout, address, async {
        let stream = dial(address, config.tls.as_ref()).await?;
        let info = credentials(&config.username, &config.password, 0);
        PubSub::new(&info, stream).await.map_err(|source| DialError::Redis { address: address.clone(), source })
    })
    .await
}

/// Finds a server to work with, and connects. `learnt`: nodes of the cluster that were learnt before, and are learnt now.
pub(super) async fn find(config: &Config, learnt: &Mutex<Vec<Address>>) -> Result<Node, DialError> {
    let node = match &config.topology {
        Topology::Single { address } => Node::connect(config, address.clone()).await?,
        Topology::Sentinel { .. } => {
            let node = Node::connect(config, master(config).await?).await?;
            check_role(&node).await?;
            node
        }
        Topology::Cluster { addresses, .. } => cluster_node(config, addresses, learnt).await?,
    };
    // A server that is still loading its data, or whose access rules forbid everything, is not there yet.
    node.ask::<Value>(&cmd("PING")).await?;
    Ok(node)
}

/// Where the sentinels say the master is. `None` outside of sentinel set-ups.
pub(super) async fn master(config: &Config) -> Result<Address, DialError> {
    let Topology::Sentinel { master_name, addresses, username, password } = &config.topology else {
        return Err(DialError::NoAddress);
    };
    let mut last = String::new();
    for sentinel in addresses {
        let asked = async {
            let info = credentials(username, password, 0);
            let sentinel = Node::open(config, sentinel.clone(), info).await?;
            let mut command = cmd("SENTINEL");
            command.arg("get-master-addr-by-name").arg(master_name);
            sentinel.ask::<Option<(String, u16)>>(&command).await
        };
        match asked.await {
            Ok(Some((host, port))) => return Ok(Address { host, port }),
            Ok(None) => last = format!("{sentinel} does not know it"),
            Err(error) => last = error.to_string(),
        }
    }
    Err(DialError::NoMaster { master_name: master_name.clone(), last })
}

/// Refuses a server that sentinels still name though it is the master no more. Where access rules forbid to ask, the sentinels are
/// believed.
async fn check_role(node: &Node) -> Result<(), DialError> {
    let Ok(role) = node.ask::<Vec<Value>>(&cmd("ROLE")).await else { return Ok(()) };
    match role.first() {
        Some(Value::BulkString(role)) if role != b"master" => Err(DialError::NotMaster {
            address: node.address.clone(),
            role: String::from_utf8_lossy(role).into_owned(),
        }),
        _ => Ok(()),
    }
}

/// Any node of the cluster will do: what is published on one reaches all. In random order, so that not all of a
/// cluster's users meet at its first node; configured ones first, learnt ones after.
async fn cluster_node(
    config: &Config,
    configured: &[Address],
    learnt: &Mutex<Vec<Address>>,
) -> Result<Node, DialError> {
    let mut addresses = configured.to_vec();
    addresses.shuffle(&mut rand::rng());
    let known = learnt.lock().unwrap_or_else(PoisonError::into_inner).clone();
    addresses.extend(known.into_iter().filter(|a| !configured.contains(a)));
    let mut last = DialError::NoAddress;
    for address in addresses {
        match Node::connect(config, address).await {
            Ok(node) => {
                let slots = node.ask::<Value>(cmd("CLUSTER").arg("SLOTS")).await;
                let nodes = slots.map(|slots| nodes_of(&slots, &node.address)).unwrap_or_default();
                *learnt.lock().unwrap_or_else(PoisonError::into_inner) = nodes;
                return Ok(node);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Nodes that are learnt at most.
const MAX_LEARNT_NODES: usize = 32;

/// The nodes in a reply to CLUSTER SLOTS: rows of first slot, last slot, then nodes of host, port and more.
fn nodes_of(slots: &Value, from: &Address) -> Vec<Address> {
    let Value::Array(rows) = slots else { return Vec::new() };
    let mut nodes = Vec::new();
    for row in rows {
        let Value::Array(row) = row else { continue };
        for node in row.iter().skip(2) {
            let Value::Array(node) = node else { continue };
            let host = match node.first() {
                Some(Value::BulkString(host)) => String::from_utf8_lossy(host).into_owned(),
                // Redis sends nothing, or an empty text, for "the host you asked".
                _ => String::new(),
            };
            let Some(Value::Int(port)) = node.get(1) else { continue };
            let Some(address) = from.redirected(&format!("{host}:{port}")) else { continue };
            if nodes.len() < MAX_LEARNT_NODES && !nodes.contains(&address) {
                nodes.push(address);
            }
        }
    }
    nodes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_learnt_from_cluster_slots() {
        let text = |t: &str| Value::BulkString(t.as_bytes().to_vec());
        let node = |host: Value, port| Value::Array(vec![host, Value::Int(port), text("id")]);
        let from = Address { host: "10.0.0.9".into(), port: 7000 };
        let slots = Value::Array(vec![
            Value::Array(vec![
                Value::Int(0),
                Value::Int(99),
                node(text("10.0.0.1"), 7001),
                node(text("10.0.0.2"), 7002),
            ]),
            Value::Array(vec![Value::Int(100), Value::Int(200), node(Value::Nil, 7003), node(text("10.0.0.1"), 7001)]),
            Value::Array(vec![Value::Int(1), Value::Int(2), node(text("x"), -1), Value::Nil]),
            Value::Int(3),
        ]);
        let found: Vec<_> = nodes_of(&slots, &from).iter().map(Address::to_string).collect();
        assert_eq!(found, ["10.0.0.1:7001", "10.0.0.2:7002", "10.0.0.9:7003"]);
        assert!(nodes_of(&Value::Nil, &from).is_empty());
    }
}
