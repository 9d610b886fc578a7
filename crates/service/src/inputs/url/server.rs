//! Yields requests to pull as they come from the control plane.

use super::request::{Pulls, Request};
use crate::boxed::BoxFuture;
use crate::config::UrlConfig;
use crate::control::StartRequests;
use crate::inputs::listener::Listener;
use crate::inputs::request::PublishRequest;
use model::LogBudget;
use session::workers::Workers;
use std::net::SocketAddr;
use std::sync::Arc;

/// See the [module](self). Dropping it takes this machine out of the selection.
pub(super) struct Server {
    /// `None` once this machine drains.
    requests: Option<StartRequests>,
    config: Arc<UrlConfig>,
    workers: Arc<dyn Workers>,
    pulls: Pulls,
    log: Arc<LogBudget>,
}

impl Server {
    /// Yields these requests; `workers` starts what pulls.
    pub(super) fn new(requests: StartRequests, config: UrlConfig, workers: Arc<dyn Workers>, pulls: Pulls) -> Self {
        Self { requests: Some(requests), config: Arc::new(config), workers, pulls, log: Arc::default() }
    }
}

impl Listener for Server {
    fn name(&self) -> &'static str {
        "url"
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        Vec::new()
    }

    fn next(&mut self) -> BoxFuture<'_, Box<dyn PublishRequest>> {
        Box::pin(async {
            let start = match &mut self.requests {
                Some(requests) => requests.recv().await,
                None => None,
            };
            match start {
                Some(start) => {
                    let (config, workers, log) = (self.config.clone(), self.workers.clone(), self.log.clone());
                    Box::new(Request::new(start, config, workers, self.pulls.clone(), log)) as Box<dyn PublishRequest>
                }
                None => std::future::pending().await,
            }
        })
    }

    fn drain(&mut self) {
        self.requests = None;
    }
}
