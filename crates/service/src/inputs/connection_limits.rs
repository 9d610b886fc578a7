//! Bounds on a port's connections, and on log lines about them: [`model::ConnectionLimits`] for tasks that can wait for the moment
//! at which they have to give way.

use model::{ConnectionSlot, LogBudget, Refusal};
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::oneshot;

/// See the [module](self).
#[derive(Clone, Debug)]
pub(crate) struct ConnectionLimits {
    slots: Arc<model::ConnectionLimits<oneshot::Sender<()>>>,
    log: Arc<LogBudget>,
}

/// A connection's slot. Dropping it frees it for another.
#[derive(Debug)]
pub(crate) struct Slot(ConnectionSlot<oneshot::Sender<()>>);

/// Resolves when the connection has to give way.
#[derive(Debug)]
pub(crate) struct Eviction(oneshot::Receiver<()>);

impl ConnectionLimits {
    /// See [`model::ConnectionLimits::new`].
    pub(crate) fn new(max: usize, max_per_address: usize) -> Self {
        Self { slots: Arc::new(model::ConnectionLimits::new(max, max_per_address)), log: Arc::default() }
    }

    /// See [`model::ConnectionLimits::enter`].
    pub(crate) fn enter(&self, address: Option<IpAddr>) -> Result<(Slot, Eviction), Refusal> {
        let (token, evicted) = oneshot::channel();
        Ok((Slot(self.slots.enter(address, token)?), Eviction(evicted)))
    }

    /// The bound on log lines about these connections.
    pub(crate) fn log(&self) -> &Arc<LogBudget> {
        &self.log
    }
}

impl Slot {
    /// See [`ConnectionSlot::hold`].
    pub(crate) fn hold(&self) -> bool {
        self.0.hold()
    }

    /// See [`ConnectionSlot::wait`].
    pub(crate) fn wait(&self) {
        self.0.wait();
    }

    /// See [`ConnectionSlot::publishes`].
    pub(crate) fn publishes(&self) -> bool {
        self.0.publishes()
    }

    /// See [`ConnectionSlot::fine`].
    pub(crate) fn fine(&self) {
        self.0.fine();
    }

    /// See [`ConnectionSlot::charge`].
    pub(crate) fn charge(&self, address: IpAddr) -> Result<(), Refusal> {
        self.0.charge(address)
    }
}

impl Eviction {
    /// Resolves when the connection has to give way; never, after it has ended or while it holds its slot. Cancel safe.
    pub(crate) async fn evicted(&mut self) {
        // Nothing is ever sent: what resolves it is that the sender is dropped.
        let _ = (&mut self.0).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_eviction_reaches_its_connection() {
        let limits = ConnectionLimits::new(1, 10);
        let address = |last| Some(IpAddr::from([192, 0, 2, last]));
        let (first, mut evicted) = limits.enter(address(1)).unwrap();
        let (second, _second) = limits.enter(address(2)).unwrap();
        evicted.evicted().await;
        assert!(!first.hold() && second.hold());
    }
}
