//! Sets up logging as the configuration says.

use std::collections::BTreeMap;
use std::io;

use model::{IngressSpec, ResourceId};
use tracing::{Span, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};

use super::lines::Lines;
use crate::config::{LogLevel, LoggingConfig};

/// Our own crates, whose lines the configured level is for. Libraries log from `warn` on unless `component_levels` names
/// them: what they write below that is for their authors, and may hold session descriptions.
const OURS: [&str; 16] = [
    "demux",
    "fetch",
    "ingress",
    "ipc",
    "media",
    "model",
    "proto",
    "psrpc",
    "publish",
    "rtc",
    "rtmp",
    "service",
    "session",
    "timing",
    "transcode",
    "worker",
];

/// Logging was set up before in this process.
#[derive(Debug, thiserror::Error)]
#[error("logging was set up before in this process")]
pub struct AlreadyInstalled(#[from] tracing::subscriber::SetGlobalDefaultError);

/// Writes all that this process logs from now on to standard error, each line with the service's name and the node id.
///
/// # Errors
/// If logging was set up before.
pub fn install(config: &LoggingConfig, service_name: &str, node_id: &str) -> Result<(), AlreadyInstalled> {
    tracing::subscriber::set_global_default(subscriber(config, service_name, node_id, io::stderr))?;
    Ok(())
}

/// The span of a session. Every line written within it carries these names, and what the control plane wants there (empty in
/// an open-source livekit-server).
pub fn session_span(spec: &IngressSpec, resource_id: &ResourceId, logging_fields: &BTreeMap<String, String>) -> Span {
    let IngressSpec { ingress_id, room, identity, .. } = spec;
    // A span below the configured level would be left out and the names with it; an error is never below.
    let span = tracing::error_span!(
        "session",
        ingressID = %ingress_id,
        resourceID = %resource_id,
        room = room.as_str(),
        participant = identity.as_str(),
        fields = tracing::field::Empty,
    );
    if !logging_fields.is_empty() {
        // Names of fields are part of the program, so all that somebody else names go into one.
        let fields: Vec<_> = logging_fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
        span.record("fields", fields.join(" "));
    }
    span
}

pub(super) fn subscriber<W>(
    config: &LoggingConfig,
    service_name: &str,
    node_id: &str,
    writer: W,
) -> impl Subscriber + use<W>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let lines = Lines::new(config.json, service_name, node_id, writer).with_filter(targets(config));
    tracing_subscriber::registry().with(lines)
}

fn targets(config: &LoggingConfig) -> Targets {
    let level = filter(config.level);
    let ours = OURS.iter().map(|name| ((*name).to_owned(), level));
    // The Go program separates the parts of a component's name by dots.
    let named = config.component_levels.iter().map(|(name, level)| (name.replace('.', "::"), filter(*level)));
    Targets::new().with_default(level.min(LevelFilter::WARN)).with_targets(ours).with_targets(named)
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Trace => LevelFilter::TRACE,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Error => LevelFilter::ERROR,
    }
}

#[cfg(test)]
mod tests;
