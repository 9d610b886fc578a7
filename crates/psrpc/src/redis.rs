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
use bytes::Bytes;
use shared::Shared;
use std::sync::Arc;
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

    fn state(&self) -> watch::Receiver<BusState> {
        self.shared.state.subscribe()
    }

    fn name(&self) -> &str {
        &self.shared.name
    }
}
