//! What the RTMP server counts.

use crate::metrics::Registry;
use prometheus::{IntCounter, IntCounterVec, IntGauge};

/// Counters of the RTMP server. Clones count together.
#[derive(Clone, Debug)]
pub struct Counters {
    connections: IntGauge,
    refused: IntCounterVec,
    publishes: IntCounterVec,
    ended: IntCounterVec,
    received: IntCounter,
}

impl Counters {
    /// Counters that `registry` shows as `ingress_rtmp_…`.
    pub fn register(registry: &Registry) -> Self {
        Self {
            connections: registry.gauge("ingress_rtmp_connections", "RTMP connections that are open"),
            refused: registry.counters(
                "ingress_rtmp_refused_connections_total",
                "RTMP connections not taken, by the bound that they met",
                &["reason"],
            ),
            publishes: registry.counters(
                "ingress_rtmp_publishes_total",
                "RTMP publish requests, by their answer",
                &["answer"],
            ),
            ended: registry.counters(
                "ingress_rtmp_ended_connections_total",
                "RTMP connections, by how they ended",
                &["how"],
            ),
            received: registry.counter("ingress_rtmp_received_bytes_total", "Bytes received over RTMP"),
        }
    }

    pub(super) fn connections(&self) -> &IntGauge {
        &self.connections
    }

    pub(super) fn refused(&self, reason: &'static str) {
        self.refused.with_label_values(&[reason]).inc();
    }

    pub(super) fn published(&self, answer: &'static str) {
        self.publishes.with_label_values(&[answer]).inc();
    }

    pub(super) fn ended(&self, how: &'static str) {
        self.ended.with_label_values(&[how]).inc();
    }

    pub(super) fn received(&self, bytes: usize) {
        self.received.inc_by(bytes as u64);
    }

    /// Something of everything, for the test of the page.
    #[cfg(test)]
    pub(crate) fn count_one_of_each(&self) {
        self.connections().inc();
        self.refused("address");
        self.published("accepted");
        self.ended("finished");
        self.received(12_345);
    }
}
