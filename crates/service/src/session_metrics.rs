//! What sessions tell of themselves while they run, as metrics.

use crate::control::ControlPlane;
use crate::telemetry::{LatencyTrack, Metrics};
use model::{InputKind, Quality};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::ConstGauge;
use session::{Observer, SessionIds, SessionObserver};
use std::sync::Arc;
use std::time::Duration;

/// Makes the observers of sessions.
pub(crate) struct Watcher {
    metrics: Metrics,
    restarts: Counter,
    dropped: Counter,
}

impl Watcher {
    /// Registers what sessions count.
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let (restarts, dropped) = (Counter::default(), Counter::default());
        let mut registry = metrics.registry();
        registry.register(
            "ingress_transcoder_restarts",
            "Transcoders that crashed or hung while streaming and were replaced",
            restarts.clone(),
        );
        registry.register(
            "ingress_dropped_frames",
            "Frames of sources that were dropped because their transcoder did not take them",
            dropped.clone(),
        );
        drop(registry);
        Self { metrics: metrics.clone(), restarts, dropped }
    }
}

impl SessionObserver for Watcher {
    fn begin(&self, session: &SessionIds) -> Arc<dyn Observer> {
        Arc::new(Observed {
            input: session.input,
            metrics: self.metrics.clone(),
            restarts: self.restarts.clone(),
            dropped: self.dropped.clone(),
        })
    }
}

struct Observed {
    input: InputKind,
    metrics: Metrics,
    restarts: Counter,
    dropped: Counter,
}

impl Observer for Observed {
    fn latency(&self, layer: Option<Quality>, latency: Duration) {
        let track = layer.map_or(LatencyTrack::Audio, LatencyTrack::Video);
        self.metrics.packet_latency(self.input, track, latency);
    }

    fn transcoder_restarted(&self) {
        self.restarts.inc();
    }

    fn dropped(&self, frames: u64) {
        self.dropped.inc_by(frames);
    }
}

/// Shows whether the control plane can be reached, asked whenever metrics are read.
pub(crate) struct Reachable(pub(crate) Arc<dyn ControlPlane>);

impl std::fmt::Debug for Reachable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reachable")
    }
}

impl Collector for Reachable {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let gauge = ConstGauge::new(i64::from(self.0.reachable().is_ok()));
        let help = "Whether the control plane (Redis) is connected";
        let metric = encoder.encode_descriptor("ingress_redis_connected", help, None, gauge.metric_type())?;
        gauge.encode(metric)
    }
}
