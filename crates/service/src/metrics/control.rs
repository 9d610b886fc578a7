//! Whether the control plane can be reached.

use super::{Registry, Sample};
use crate::control::ControlPlane;
use std::sync::Arc;

/// Shows whether the control plane can be reached, asked at each scrape.
pub(crate) fn register(registry: &Registry, control: Arc<dyn ControlPlane>) {
    let help = "Whether the control plane (Redis) is connected";
    let connected = move || vec![Sample::bare(f64::from(u8::from(control.reachable().is_ok())))];
    registry.read_gauges("ingress_redis_connected", help, connected);
}
