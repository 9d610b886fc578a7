//! How workers are confined.

use super::{Registry, Sample};
use confine::Support;

/// Shows which layers of confinement workers have, and how many workers they have ended.
pub(crate) fn register(registry: &Registry, support: Support, killed: impl Fn() -> u64 + Send + Sync + 'static) {
    let sample = |(layer, there): (&'static str, bool)| Sample {
        labels: vec![("layer", layer.to_owned())],
        value: f64::from(u8::from(there)),
    };
    let help =
        "Whether workers are confined by this layer of the kernel: files, tcp and signals (Landlock), calls (seccomp)";
    let layers: Vec<Sample> = support.layers().into_iter().map(sample).collect();
    registry.read_gauges("ingress_worker_confinement", help, move || layers.clone());
    let help = "Workers ended by their own confinement, as they asked the kernel for what no worker needs";
    registry.read_counters("ingress_worker_confinement_kills_total", help, move || vec![Sample::bare(killed() as f64)]);
}
