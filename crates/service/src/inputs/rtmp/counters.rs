//! What the RTMP server counts.

use prometheus_client::metrics::{counter::Counter, family::Family, gauge::Gauge};
use prometheus_client::registry::Registry;

type Labelled = Family<[(&'static str, &'static str); 1], Counter>;

/// Counters of the RTMP server. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    connections: Gauge,
    refused: Labelled,
    publishes: Labelled,
    ended: Labelled,
    received: Counter,
}

impl Counters {
    /// Counters that `registry` shows as `rtmp_…`.
    pub fn register(registry: &mut Registry) -> Self {
        let counters = Self::default();
        let registry = registry.sub_registry_with_prefix("rtmp");
        registry.register("connections", "RTMP connections that are open", counters.connections.clone());
        registry.register(
            "refused_connections",
            "RTMP connections not taken, by the bound that they met",
            counters.refused.clone(),
        );
        registry.register("publishes", "RTMP publish requests, by their answer", counters.publishes.clone());
        registry.register("ended_connections", "RTMP connections, by how they ended", counters.ended.clone());
        registry.register("received_bytes", "Bytes received over RTMP", counters.received.clone());
        counters
    }

    pub(super) fn connections(&self) -> &Gauge {
        &self.connections
    }

    pub(super) fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&[("reason", reason)]).inc();
    }

    pub(super) fn published(&self, answer: &'static str) {
        self.publishes.get_or_create(&[("answer", answer)]).inc();
    }

    pub(super) fn ended(&self, how: &'static str) {
        self.ended.get_or_create(&[("how", how)]).inc();
    }

    pub(super) fn received(&self, bytes: usize) {
        self.received.inc_by(bytes as u64);
    }
}
