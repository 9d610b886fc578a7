//! The bus over Redis: one server, a master found through sentinels, or a cluster.
//!
//! One task (`supervisor`) owns the connections, a pair to one node: a subscriber and one for commands. It connects for ever,
//! subscribes again to everything, and notices a dead peer. The `redis` crate is used for its protocol only; its own
//! reconnecting gives up after some tries and its clients can't be given a TLS server name, so dialling, finding the node
//! and supervising are here.

mod config;
mod dial;
mod node;
mod shared;
mod supervisor;
mod tls;

pub use config::{Address, Config, ConfigError, Password, Tls, Topology};

use crate::bus::LOCK_TTL;
use crate::{Bus, BusError, BusFuture, BusState, Subscription};
use ::redis::{Cmd, FromRedisValue};
use bytes::Bytes;
use shared::Shared;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// See the module.
pub struct RedisBus {
    shared: Arc<Shared>,
    supervisor: AbortHandle,
}

impl RedisBus {
    /// Starts connecting and goes on for ever. Must be called within a tokio runtime. Fails only where the configuration
    /// can never work; that Redis is away is no failure.
    pub fn new(config: Config) -> Result<Arc<Self>, ConfigError> {
        config.check()?;
        if let Some(tls) = &config.tls {
            tls::client_config(tls)?;
        }
        let shared = Arc::new(Shared::new(config));
        let supervisor = tokio::spawn(supervisor::supervise(shared.clone())).abort_handle();
        Ok(Arc::new(Self { shared, supervisor }))
    }
}

impl RedisBus {
    /// Runs a command about one key, on the node of a cluster that owns it.
    async fn keyed<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, BusError> {
        let node = self.shared.node().await;
        match self.shared.run(&node, command).await {
            Err(BusError::Command { source, .. }) if source.redirect_node().is_some() => {
                self.shared.run_redirected(node, source, command).await
            }
            other => other,
        }
    }
}

impl Drop for RedisBus {
    fn drop(&mut self) {
        self.supervisor.abort();
        self.shared.close();
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
            let set: Option<String> = self.keyed(&command).await?;
            Ok(set.is_some())
        })
    }

    fn hash_set<'a>(&'a self, key: &'a str, field: &'a str, value: Bytes, keep: Duration) -> BusFuture<'a, bool> {
        Box::pin(async move {
            let mut command = ::redis::cmd("HSET");
            command.arg(key).arg(field).arg(&value[..]);
            let added: u64 = self.keyed(&command).await?;
            let mut command = ::redis::cmd("EXPIRE");
            command.arg(key).arg(keep.as_secs().max(1));
            self.keyed::<u64>(&command).await?;
            Ok(added > 0)
        })
    }

    fn hash_read<'a>(&'a self, key: &'a str) -> BusFuture<'a, Vec<(String, Bytes)>> {
        Box::pin(async move {
            let mut command = ::redis::cmd("HGETALL");
            command.arg(key);
            let fields: Vec<(Vec<u8>, Vec<u8>)> = self.keyed(&command).await?;
            // A name that is no text is nobody's that we know.
            let readable = |(field, value): (Vec<u8>, Vec<u8>)| Some((String::from_utf8(field).ok()?, value.into()));
            Ok(fields.into_iter().filter_map(readable).collect())
        })
    }

    fn hash_remove<'a>(&'a self, key: &'a str, field: &'a str) -> BusFuture<'a, ()> {
        Box::pin(async move {
            let mut command = ::redis::cmd("HDEL");
            command.arg(key).arg(field);
            self.keyed::<u64>(&command).await.map(drop)
        })
    }

    fn state(&self) -> watch::Receiver<BusState> {
        self.shared.state.subscribe()
    }

    fn name(&self) -> &str {
        &self.shared.name
    }
}
