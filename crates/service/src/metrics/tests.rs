//! The metrics page, line by line.

use super::*;
use crate::config::CpuCost;
use crate::control::embedded::{self, Embedded};
use crate::inputs::rtmp::Counters;
use crate::load::Capacity;
use model::{Blame, Fault, IngressId, IngressSpec, InputKind, Quality, ResourceId};
use session::{EncodingReason, SessionIds, SessionObserver, TopLayer};
use std::sync::Arc;
use std::time::Duration;

const IDLE: &str = "\
# HELP ingress_build_info The version that runs; always 1
# TYPE ingress_build_info gauge
ingress_build_info{version=\"1.2.3\",node_type=\"INGRESS\"} 1
# HELP ingress_committed_cores Cores that the sessions here need when all layers are watched
# TYPE ingress_committed_cores gauge
ingress_committed_cores 0
# HELP ingress_dropped_frames_total Frames of sources that were dropped because their transcoder did not take them
# TYPE ingress_dropped_frames_total counter
ingress_dropped_frames_total 0
# HELP ingress_free_cores Cores that are free for one more session
# TYPE ingress_free_cores gauge
ingress_free_cores 24
# HELP ingress_passthrough_sessions Sessions whose highest layer is the source's own video
# TYPE ingress_passthrough_sessions gauge
ingress_passthrough_sessions 0
# HELP ingress_redis_connected Whether the control plane (Redis) is connected
# TYPE ingress_redis_connected gauge
ingress_redis_connected 1
# HELP ingress_rtmp_connections RTMP connections that are open
# TYPE ingress_rtmp_connections gauge
ingress_rtmp_connections 0
# HELP ingress_rtmp_received_bytes_total Bytes received over RTMP
# TYPE ingress_rtmp_received_bytes_total counter
ingress_rtmp_received_bytes_total 0
# HELP ingress_stalled_sources Sources that publish and have sent nothing for some seconds
# TYPE ingress_stalled_sources gauge
ingress_stalled_sources 0
# HELP ingress_transcoder_restarts_total Transcoders that crashed or hung while streaming and were replaced
# TYPE ingress_transcoder_restarts_total counter
ingress_transcoder_restarts_total 0
# HELP livekit_ingress_available Whether a session of any kind would fit
# TYPE livekit_ingress_available gauge
livekit_ingress_available{node_id=\"NE_x\"} 1
# HELP livekit_node_cpu_load Share of the CPUs in use, from 0 to 1
# TYPE livekit_node_cpu_load gauge
livekit_node_cpu_load{node_id=\"NE_x\",node_type=\"INGRESS\"} 0
";

const BUSY: &[&str] = &[
    "# TYPE ingress_rtmp_refused_connections_total counter",
    "ingress_rtmp_refused_connections_total{reason=\"address\"} 1",
    "# TYPE ingress_rtmp_publishes_total counter",
    "ingress_rtmp_publishes_total{answer=\"accepted\"} 1",
    "# TYPE ingress_rtmp_ended_connections_total counter",
    "ingress_rtmp_ended_connections_total{how=\"finished\"} 1",
    "ingress_rtmp_connections 1",
    "ingress_rtmp_received_bytes_total 12345",
    "ingress_transcoder_restarts_total 1",
    "ingress_dropped_frames_total 17",
    "ingress_stalled_sources 1",
    "ingress_passthrough_sessions 1",
    "ingress_passthrough_changes_total{reason=\"\",to=\"source\"} 1",
    "ingress_passthrough_changes_total{reason=\"unknown\",to=\"encoder\"} 1",
    "ingress_source_stalls_total{type=\"rtmp\"} 2",
    "livekit_node_cpu_load{node_id=\"NE_x\",node_type=\"INGRESS\"} 0.75",
    "livekit_ingress_available{node_id=\"NE_x\"} 0",
    "# HELP livekit_ingress_requests Sessions that run",
    "# TYPE livekit_ingress_requests gauge",
    "livekit_ingress_requests{node_id=\"NE_x\",type=\"rtmp\",transcoding=\"true\"} 0",
    "livekit_ingress_requests{node_id=\"NE_x\",type=\"whip\",transcoding=\"false\"} 1",
    "# HELP livekit_ingress_publish_status Requests of publishers, by how they ended",
    "# TYPE livekit_ingress_publish_status counter",
    "livekit_ingress_publish_status{node_id=\"NE_x\",type=\"rtmp\",status=\"success\"} 2",
    "livekit_ingress_publish_status{node_id=\"NE_x\",type=\"whip\",status=\"4xx\"} 1",
    "# HELP livekit_ingress_packet_latency_seconds Observed end-to-end packet latency within the ingress pipeline",
    "# TYPE livekit_ingress_packet_latency_seconds histogram",
    "livekit_ingress_packet_latency_seconds_sum{ingress_type=\"RTMP_INPUT\",track=\"output.video.HIGH\"} 0.03",
    "livekit_ingress_packet_latency_seconds_count{ingress_type=\"RTMP_INPUT\",track=\"output.video.HIGH\"} 1",
    "livekit_ingress_packet_latency_seconds_bucket{ingress_type=\"RTMP_INPUT\",track=\"output.video.HIGH\",le=\"0.005\"} 0",
    "livekit_ingress_packet_latency_seconds_bucket{ingress_type=\"RTMP_INPUT\",track=\"output.video.HIGH\",le=\"0.02\"} 0",
    "livekit_ingress_packet_latency_seconds_bucket{ingress_type=\"RTMP_INPUT\",track=\"output.video.HIGH\",le=\"0.04\"} 1",
    "livekit_ingress_packet_latency_seconds_bucket{ingress_type=\"RTMP_INPUT\",track=\"output.video.HIGH\",le=\"10.24\"} 1",
    "livekit_ingress_packet_latency_seconds_bucket{ingress_type=\"RTMP_INPUT\",track=\"output.video.HIGH\",le=\"+Inf\"} 1",
];

#[tokio::test]
async fn the_page_has_all_series_by_their_names() {
    let capacity = Capacity::new(32.0, CpuCost { min_idle_ratio: 0.5, ..CpuCost::default() });
    let registry = Registry::default();
    register_machine(&registry, "NE_x", "1.2.3", &capacity);
    register_control(&registry, Arc::new(Embedded::new()));
    let publishes = PublishCounts::register(&registry, "NE_x");
    let sessions = SessionMetrics::register(&registry);
    let rtmp = Counters::register(&registry);
    assert_eq!(registry.page().unwrap(), IDLE);

    let admit = |id: &str, input, transcode| {
        let spec = IngressSpec { transcode, ..embedded::ingress(input, "k").spec };
        capacity.try_admit(&ResourceId(id.into()), &spec).unwrap()
    };
    let permit = admit("RT_1", InputKind::Rtmp, true);
    let _other = admit("WH_1", InputKind::Whip, false);
    drop(permit);
    capacity.drain();
    capacity.set_idle(8.0);
    publishes.count(InputKind::Rtmp, PublishStatus::Success);
    publishes.count(InputKind::Rtmp, PublishStatus::Success);
    publishes.count(InputKind::Whip, PublishStatus::from(&Fault::new(Blame::Access, "no such key")));
    let ids = SessionIds {
        ingress_id: IngressId("IN_x".into()),
        resource_id: ResourceId("RT_x".into()),
        input: InputKind::Rtmp,
    };
    let observer = sessions.begin(&ids);
    observer.latency(Some(Quality::High), Duration::from_millis(30));
    observer.transcoder_restarted();
    observer.dropped(17);
    for stalled in [false, true, true, false, true] {
        observer.stalled(stalled);
    }
    for maker in [TopLayer::Encoding(EncodingReason::Unknown), TopLayer::Passing, TopLayer::Bridging] {
        observer.top_layer(maker);
    }
    rtmp.count_one_of_each();
    let page = registry.page().unwrap();
    for line in BUSY {
        assert!(page.lines().any(|l| l == *line), "{line}\nnot in\n{page}");
    }
    assert_eq!(page.matches("_bucket{").count(), 13);
    drop(observer);
    assert!(
        registry.page().unwrap().contains("ingress_passthrough_sessions 0"),
        "a session that has ended passes nothing"
    );
    assert!(registry.page().unwrap().contains("ingress_stalled_sources 0"), "a session that ends stalls no longer");
}

#[test]
fn a_pull_is_no_publish() {
    let registry = Registry::default();
    PublishCounts::register(&registry, "NE_x").count(InputKind::Url, PublishStatus::Success);
    assert_eq!(registry.page().unwrap(), "");
}

#[test]
fn faults_count_as_the_go_ingress_counts_its_codes() {
    for (blame, expected) in [
        (Blame::Source, "4xx"),
        (Blame::Access, "4xx"),
        (Blame::Unknown, "4xx"),
        (Blame::Mismatch, "4xx"),
        (Blame::InUse, "4xx"),
        (Blame::Spec, "4xx"),
        (Blame::Capacity, "4xx"),
        (Blame::Draining, "internal"),
        (Blame::Room, "internal"),
        (Blame::Control, "internal"),
        (Blame::Us, "internal"),
    ] {
        assert_eq!(PublishStatus::from(&Fault::new(blame, "")).as_str(), expected, "{blame:?}");
    }
}
