//! Opens RTMP's ports as the configuration says.

use super::counters::Counters;
use super::server::Server;
use super::shared::Config;
use crate::http;
use crate::inputs::context::Context;
use crate::inputs::listener::Listener;
use crate::tls;
use model::{Blame, Fault};

/// Opens the ports that are configured.
///
/// # Errors
/// What keeps a port from being opened, by its configuration key.
pub(crate) async fn open(context: &Context<'_>) -> Result<Option<Box<dyn Listener>>, Fault> {
    let config = context.config;
    let settings = Config {
        max_connections: config.rtmp.max_connections as usize,
        max_waiting_per_address: config.rtmp.max_connections_per_address as usize,
        proxies: config.rtmp.proxy_protocol_from.clone(),
        ..Config::default()
    };
    let mut server = Server::new(settings, Counters::register(&context.metrics));
    if let Some(port) = config.rtmp.port {
        let listener = http::listen(config.bind_address, port, "rtmp_port").await?;
        server.listen(listener).map_err(|e| Fault::new(Blame::Us, format!("rtmp_port: port {port}: {e}")))?;
    }
    if let Some(rtmps) = &config.rtmp.tls {
        let listener = http::listen(config.bind_address, rtmps.port, "rtmps_port").await?;
        let files = tls::Files { certificate: rtmps.cert_file.clone(), key: rtmps.key_file.clone() };
        let unusable = |e| Fault::new(Blame::Us, format!("rtmps_port: {e}"));
        server.listen_tls(listener, files).map_err(unusable)?;
    }
    Ok(Some(Box::new(server)))
}
