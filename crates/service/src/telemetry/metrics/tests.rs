//! The metrics page, name by name.

use prometheus_client::metrics::counter::Counter;

use super::*;
use crate::config::CpuCost;

fn page(metrics: &Metrics) -> String {
    let text = metrics.render().unwrap();
    let own = text.lines().filter(|line| !line.contains("process_"));
    own.map(|line| format!("{line}\n")).collect()
}

#[test]
fn the_series_of_the_go_ingress() {
    let costs = CpuCost { min_idle_ratio: 0.5, ..CpuCost::default() };
    let admission = Capacity::new(32.0, costs);
    let metrics = Metrics::new("NE_x", "1.2.3", admission.clone());
    let head = "\
# HELP livekit_node_cpu_load Share of the CPUs in use, from 0 to 1
# TYPE livekit_node_cpu_load gauge
livekit_node_cpu_load{node_id=\"NE_x\",node_type=\"INGRESS\"} 0.0
# HELP livekit_ingress_available Whether a session of any kind would fit
# TYPE livekit_ingress_available gauge
livekit_ingress_available{node_id=\"NE_x\"} 1
";
    let build = "\
# HELP ingress_build_info The version that runs; always 1
# TYPE ingress_build_info gauge
ingress_build_info{version=\"1.2.3\",node_type=\"INGRESS\"} 1
";
    // The library writes collectors last.
    assert_eq!(page(&metrics), format!("{build}{head}"));

    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _guard = runtime.enter();
    let permit = admission.try_admit(InputKind::Rtmp, true).unwrap();
    let _other = admission.try_admit(InputKind::Whip, false).unwrap();
    drop(permit);
    admission.drain();
    admission.set_idle(8.0);
    metrics.publish(InputKind::Rtmp, PublishStatus::Success);
    metrics.publish(InputKind::Rtmp, PublishStatus::Success);
    metrics.publish(InputKind::Whip, PublishStatus::from(&Fault::new(Blame::Access, "no such key")));
    metrics.packet_latency(InputKind::Rtmp, LatencyTrack::Video(Quality::High), Duration::from_millis(30));
    let restarts = Counter::<u64>::default();
    restarts.inc();
    metrics.registry().register("ingress_restarts", "Restarts", restarts);
    let busy = "\
# HELP livekit_node_cpu_load Share of the CPUs in use, from 0 to 1
# TYPE livekit_node_cpu_load gauge
livekit_node_cpu_load{node_id=\"NE_x\",node_type=\"INGRESS\"} 0.75
# HELP livekit_ingress_available Whether a session of any kind would fit
# TYPE livekit_ingress_available gauge
livekit_ingress_available{node_id=\"NE_x\"} 0
# HELP livekit_ingress_requests Sessions that run
# TYPE livekit_ingress_requests gauge
livekit_ingress_requests{node_id=\"NE_x\",type=\"rtmp\",transcoding=\"true\"} 0
livekit_ingress_requests{node_id=\"NE_x\",type=\"whip\",transcoding=\"false\"} 1
# HELP livekit_ingress_publish_status Requests of publishers, by how they ended
# TYPE livekit_ingress_publish_status counter
livekit_ingress_publish_status{node_id=\"NE_x\",type=\"rtmp\",status=\"success\"} 2
livekit_ingress_publish_status{node_id=\"NE_x\",type=\"whip\",status=\"4xx\"} 1
";
    let page = page(&metrics);
    let rest = page.strip_suffix(busy).unwrap_or_else(|| panic!("{page}"));
    for line in [
        "# TYPE livekit_ingress_packet_latency_seconds histogram",
        "livekit_ingress_packet_latency_seconds_sum{track=\"output.video.HIGH\",ingress_type=\"RTMP_INPUT\"} 0.03",
        "livekit_ingress_packet_latency_seconds_bucket{le=\"0.02\",track=\"output.video.HIGH\",ingress_type=\"RTMP_INPUT\"} 0",
        "livekit_ingress_packet_latency_seconds_bucket{le=\"0.04\",track=\"output.video.HIGH\",ingress_type=\"RTMP_INPUT\"} 1",
        "livekit_ingress_packet_latency_seconds_bucket{le=\"10.24\",track=\"output.video.HIGH\",ingress_type=\"RTMP_INPUT\"} 1",
        "# TYPE ingress_restarts_total counter",
        "ingress_restarts_total 1",
    ] {
        assert!(rest.lines().any(|l| l == line), "{line}\nnot in\n{rest}");
    }
    assert_eq!(rest.matches("_bucket{").count(), 13);
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
        (Blame::Room, "internal"),
        (Blame::Control, "internal"),
        (Blame::Us, "internal"),
    ] {
        assert_eq!(PublishStatus::from(&Fault::new(blame, "")).as_str(), expected, "{blame:?}");
    }
}
