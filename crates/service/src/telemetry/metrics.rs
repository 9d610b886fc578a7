//! Metrics, under the Go ingress's names and labels, and a registry for all others.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::{Blame, Fault, InputKind, Quality};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode_registry;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use super::process::Process;
use crate::load::Capacity;

mod exposition;

pub use exposition::CONTENT_TYPE;

/// The metrics of this process. Clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
    publish_status: Arc<PublishCounts>,
    packet_latency: Family<LatencyLabels, Histogram, fn() -> Histogram>,
}

/// How a publisher's request ended, as `livekit_ingress_publish_status` counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PublishStatus {
    /// Accepted.
    Success,
    /// Refused for what was asked: "4xx".
    Refused,
    /// A server behind us failed with an HTTP status of 500 or more: "5xx".
    Upstream,
    /// Failed for any other reason: "internal".
    Internal,
}

impl PublishStatus {
    /// The value of the label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Refused => "4xx",
            Self::Upstream => "5xx",
            Self::Internal => "internal",
        }
    }
}

/// As the Go ingress sorts its codes: what the asker can mend, or what a retry elsewhere mends (a full machine is HTTP 429 there),
/// is 4xx; a machine or control plane that is not there (503) is internal.
impl From<&Fault> for PublishStatus {
    fn from(fault: &Fault) -> Self {
        match fault.blame {
            Blame::Source | Blame::Access | Blame::Unknown | Blame::Mismatch | Blame::InUse => Self::Refused,
            Blame::Spec | Blame::Capacity => Self::Refused,
            Blame::Room | Blame::Control | Blame::Us | Blame::Draining => Self::Internal,
        }
    }
}

/// The track that a packet's latency was measured on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum LatencyTrack {
    Audio,
    Video(Quality),
}

impl Metrics {
    /// Registers all that is known of here. `version` is the program's.
    pub fn new(node_id: &str, version: &'static str, admission: Capacity) -> Self {
        let mut registry = Registry::default();
        let publish_status = Arc::new(PublishCounts { node_id: node_id.to_owned(), counts: Mutex::default() });
        // From 5 ms, doubling, to about 10 s.
        let histogram: fn() -> Histogram = || Histogram::new(exponential_buckets(0.005, 2.0, 12));
        let packet_latency = Family::new_with_constructor(histogram);
        let machine = Machine { node_id: node_id.to_owned(), admission };
        registry.register_collector(Box::new(machine));
        registry.register_collector(Box::new(Arc::clone(&publish_status)));
        let help = "Observed end-to-end packet latency within the ingress pipeline";
        registry.register("livekit_ingress_packet_latency_seconds", help, packet_latency.clone());
        let build = Info::new([("version", version), ("node_type", "INGRESS")]);
        registry.register("ingress_build", "The version that runs; always 1", build);
        registry.register_collector(Box::new(Process::new("/proc")));
        Self { registry: Arc::new(Mutex::new(registry)), publish_status, packet_latency }
    }

    /// For registering more; their names begin with `ingress_`.
    pub fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a publisher's request.
    pub fn publish(&self, input: InputKind, status: PublishStatus) {
        let mut counts = self.publish_status.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry((input.as_str(), status)).or_insert(0) += 1;
    }

    /// Notes how long a packet took from its arrival to its departure. The Go ingress does so at most every 0.5 s for a track.
    pub fn packet_latency(&self, input: InputKind, track: LatencyTrack, latency: Duration) {
        let track = match track {
            LatencyTrack::Audio => "output.audio",
            LatencyTrack::Video(Quality::Low) => "output.video.LOW",
            LatencyTrack::Video(Quality::Medium) => "output.video.MEDIUM",
            LatencyTrack::Video(Quality::High) => "output.video.HIGH",
        };
        let ingress_type = match input {
            InputKind::Rtmp => "RTMP_INPUT",
            InputKind::Whip => "WHIP_INPUT",
            InputKind::Url => "URL_INPUT",
        };
        self.packet_latency.get_or_create(&LatencyLabels { track, ingress_type }).observe(latency.as_secs_f64());
    }

    /// All of them in the text format that [`CONTENT_TYPE`] names.
    ///
    /// # Errors
    /// If a registered metric cannot be encoded.
    pub fn render(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode_registry(&mut text, &self.registry())?;
        Ok(exposition::from_open_metrics(&text))
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LatencyLabels {
    track: &'static str,
    ingress_type: &'static str,
}

/// `livekit_ingress_publish_status`. The client library's counters end in `_total`, which this name does not.
#[derive(Debug)]
struct PublishCounts {
    node_id: String,
    /// At most one for each input and status.
    counts: Mutex<BTreeMap<(&'static str, PublishStatus), u64>>,
}

impl Collector for PublishCounts {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if counts.is_empty() {
            return Ok(());
        }
        let help = "Requests of publishers, by how they ended";
        let mut family =
            encoder.encode_descriptor("livekit_ingress_publish_status", help, None, MetricType::Counter)?;
        for ((input, status), count) in counts {
            let labels = [("node_id", self.node_id.as_str()), ("type", input), ("status", status.as_str())];
            family.encode_family(&labels)?.encode_gauge(&count)?;
        }
        Ok(())
    }
}

/// The load of this machine and the sessions on it.
#[derive(Debug)]
struct Machine {
    node_id: String,
    admission: Capacity,
}

impl Collector for Machine {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let node = ("node_id", self.node_id.as_str());
        encoder
            .encode_descriptor(
                "livekit_node_cpu_load",
                "Share of the CPUs in use, from 0 to 1",
                None,
                MetricType::Gauge,
            )?
            .encode_family(&[node, ("node_type", "INGRESS")])?
            .encode_gauge(&self.admission.load())?;
        let available = i64::from(self.admission.can_accept_any());
        encoder
            .encode_descriptor(
                "livekit_ingress_available",
                "Whether a session of any kind would fit",
                None,
                MetricType::Gauge,
            )?
            .encode_family(&[node])?
            .encode_gauge(&available)?;
        let active = self.admission.active();
        if active.is_empty() {
            return Ok(());
        }
        let mut requests =
            encoder.encode_descriptor("livekit_ingress_requests", "Sessions that run", None, MetricType::Gauge)?;
        for active in active {
            let transcoding = if active.transcoding { "true" } else { "false" };
            let labels = [node, ("type", active.input.as_str()), ("transcoding", transcoding)];
            requests.encode_family(&labels)?.encode_gauge(&active.sessions)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
