//! What sessions measure and count while they run. A metric of a session is one line in [`SessionMetrics::register`] and one in
//! [`Observed`], which knows the session's ids.

use super::Registry;
use model::{InputKind, Quality};
use prometheus::{HistogramVec, IntCounter, IntCounterVec, IntGauge, exponential_buckets};
use session::{Observer, SessionIds, SessionObserver, TopLayer, Work};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The metrics of all sessions, and the maker of their observers.
#[derive(Clone, Debug)]
pub struct SessionMetrics {
    packet_latency: HistogramVec,
    restarts: IntCounter,
    dropped: IntCounter,
    stalls: IntCounterVec,
    stalled: IntGauge,
    passing: IntGauge,
    top_layers: IntCounterVec,
}

impl SessionMetrics {
    /// Metrics that `registry` shows.
    pub fn register(registry: &Registry) -> Self {
        // From 5 ms, doubling, to about 10 s.
        let bounds = exponential_buckets(0.005, 2.0, 12).unwrap_or_default();
        Self {
            packet_latency: registry.histograms(
                "livekit_ingress_packet_latency_seconds",
                "Observed end-to-end packet latency within the ingress pipeline",
                &["track", "ingress_type"],
                bounds,
            ),
            restarts: registry.counter(
                "ingress_transcoder_restarts_total",
                "Transcoders that crashed or hung while streaming and were replaced",
            ),
            dropped: registry.counter(
                "ingress_dropped_frames_total",
                "Frames of sources that were dropped because their transcoder did not take them",
            ),
            stalls: registry.counters(
                "ingress_source_stalls_total",
                "How often a source that publishes has sent nothing for some seconds",
                &["type"],
            ),
            passing: registry
                .gauge("ingress_passthrough_sessions", "Sessions whose highest layer is the source's own video"),
            top_layers: registry.counters(
                "ingress_passthrough_changes_total",
                "How often the highest layer came to be made by the source or an encoder, and why it is encoded",
                &["to", "reason"],
            ),
            stalled: registry
                .gauge("ingress_stalled_sources", "Sources that publish and have sent nothing for some seconds"),
        }
    }
}

impl SessionObserver for SessionMetrics {
    fn begin(&self, session: &SessionIds) -> Arc<dyn Observer> {
        let (stalled, passes) = (AtomicBool::new(false), AtomicBool::new(false));
        Arc::new(Observed { session: session.clone(), metrics: self.clone(), stalled, passes })
    }
}

/// The observer of one session.
struct Observed {
    session: SessionIds,
    metrics: SessionMetrics,
    /// Whether the source is counted as stalled.
    stalled: AtomicBool,
    /// Whether the session is counted as one whose highest layer is passed through.
    passes: AtomicBool,
}

impl Observed {
    fn count_passing(&self, passes: bool) {
        match (self.passes.swap(passes, Ordering::Relaxed), passes) {
            (false, true) => self.metrics.passing.inc(),
            (true, false) => self.metrics.passing.dec(),
            _ => {}
        }
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        self.stalled(false);
        self.count_passing(false);
    }
}

impl Observer for Observed {
    /// The Go ingress measures at most every 0.5 s for a track, and so do sessions.
    fn latency(&self, layer: Option<Quality>, latency: Duration) {
        let track = match layer {
            None => "output.audio",
            Some(Quality::Low) => "output.video.LOW",
            Some(Quality::Medium) => "output.video.MEDIUM",
            Some(Quality::High) => "output.video.HIGH",
        };
        let ingress_type = match self.session.input {
            InputKind::Rtmp => "RTMP_INPUT",
            InputKind::Whip => "WHIP_INPUT",
            InputKind::Url => "URL_INPUT",
        };
        self.metrics.packet_latency.with_label_values(&[track, ingress_type]).observe(latency.as_secs_f64());
    }

    fn transcoder_restarted(&self) {
        self.metrics.restarts.inc();
    }

    fn works(&self, _: Work) {}

    fn top_layer(&self, maker: TopLayer) {
        let (to, reason) = match maker {
            TopLayer::Passing => ("source", ""),
            TopLayer::Bridging => ("encoder", "key_frame"),
            TopLayer::Encoding(reason) => ("encoder", reason.as_str()),
        };
        self.metrics.top_layers.with_label_values(&[to, reason]).inc();
        // A bridge lasts up to the next key frame.
        self.count_passing(!matches!(maker, TopLayer::Encoding(_)));
    }

    fn dropped(&self, frames: u64) {
        self.metrics.dropped.inc_by(frames);
    }

    fn stalled(&self, stalled: bool) {
        match (self.stalled.swap(stalled, Ordering::Relaxed), stalled) {
            (false, true) => {
                self.metrics.stalls.with_label_values(&[self.session.input.as_str()]).inc();
                self.metrics.stalled.inc();
            }
            (true, false) => self.metrics.stalled.dec(),
            _ => {}
        }
    }
}
