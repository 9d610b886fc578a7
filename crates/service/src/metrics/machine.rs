//! The machine's load, the sessions on it, and the version that runs.

use super::{Registry, Sample};
use crate::load::Capacity;

/// Shows this machine's load and capacity, read at each scrape. `version` is the program's.
pub fn register(registry: &Registry, node_id: &str, version: &str, capacity: &Capacity) {
    let build = vec![("version", version.to_owned()), ("node_type", "INGRESS".to_owned())];
    let build = Sample { labels: build, value: 1.0 };
    registry.read_gauges("ingress_build_info", "The version that runs; always 1", move || vec![build.clone()]);

    let (load, node) = (capacity.clone(), node_id.to_owned());
    registry.read_gauges("livekit_node_cpu_load", "Share of the CPUs in use, from 0 to 1", move || {
        let labels = vec![("node_id", node.clone()), ("node_type", "INGRESS".to_owned())];
        vec![Sample { labels, value: load.load() }]
    });

    let (available, node) = (capacity.clone(), node_id.to_owned());
    registry.read_gauges("livekit_ingress_available", "Whether a session of any kind would fit", move || {
        let value = f64::from(u8::from(available.can_accept_every_kind()));
        vec![Sample { labels: vec![("node_id", node.clone())], value }]
    });

    let cores = capacity.clone();
    registry.read_gauges(
        "ingress_committed_cores",
        "Cores that the sessions here need when all layers are watched",
        move || vec![Sample { labels: Vec::new(), value: cores.cores().committed }],
    );
    let cores = capacity.clone();
    registry.read_gauges("ingress_free_cores", "Cores that are free for one more session", move || {
        vec![Sample { labels: Vec::new(), value: cores.cores().free.max(0.0) }]
    });

    let (sessions, node) = (capacity.clone(), node_id.to_owned());
    registry.read_gauges("livekit_ingress_requests", "Sessions that run", move || {
        let sample = |active: crate::load::Active| Sample {
            labels: vec![
                ("node_id", node.clone()),
                ("type", active.input.as_str().to_owned()),
                ("transcoding", active.transcoding.to_string()),
            ],
            value: f64::from(active.sessions),
        };
        sessions.active().into_iter().map(sample).collect()
    });
}
