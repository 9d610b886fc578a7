//! Who observes sessions while they run: metrics, and the account of what this machine's capacity is used for.

use crate::load::Capacity;
use crate::metrics::SessionMetrics;
use model::{Quality, ResourceId};
use session::{Observer, SessionIds, SessionObserver, TopLayer, Work};
use std::sync::Arc;
use std::time::Duration;

/// Tells both about each session.
pub(crate) struct Observers {
    metrics: SessionMetrics,
    capacity: Capacity,
}

impl Observers {
    /// These two.
    pub(crate) fn new(metrics: SessionMetrics, capacity: Capacity) -> Self {
        Self { metrics, capacity }
    }
}

impl SessionObserver for Observers {
    fn begin(&self, session: &SessionIds) -> Arc<dyn Observer> {
        let (metrics, capacity) = (self.metrics.begin(session), self.capacity.clone());
        Arc::new(OfSession { metrics, capacity, resource: session.resource_id.clone() })
    }
}

struct OfSession {
    metrics: Arc<dyn Observer>,
    capacity: Capacity,
    resource: ResourceId,
}

impl Observer for OfSession {
    fn latency(&self, layer: Option<Quality>, latency: Duration) {
        self.metrics.latency(layer, latency);
    }

    fn transcoder_restarted(&self) {
        self.metrics.transcoder_restarted();
    }

    fn dropped(&self, frames: u64) {
        self.metrics.dropped(frames);
    }

    fn stalled(&self, stalled: bool) {
        self.metrics.stalled(stalled);
        self.capacity.stalled(&self.resource, stalled);
    }

    fn top_layer(&self, maker: TopLayer) {
        self.metrics.top_layer(maker);
        self.capacity.passes(&self.resource, !matches!(maker, TopLayer::Encoding(_)));
    }

    fn works(&self, work: Work) {
        self.metrics.works(work.clone());
        self.capacity.works(&self.resource, work);
    }
}
