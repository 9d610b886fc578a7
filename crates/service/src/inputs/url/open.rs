//! Takes requests to pull, with this machine's bid for each.

use super::request::Pulls;
use super::server::Server;
use crate::control::Affinity;
use crate::inputs::context::Context;
use crate::inputs::listener::Listener;
use model::InputKind;
use std::net::IpAddr;
use std::sync::Arc;

/// What this machine bids for a URL that it pulls already: more than any machine bids that would have to begin.
const RUNNING_BID: f32 = 100.0;

/// Starts taking requests to pull.
pub(crate) fn open(context: &Context<'_>) -> Option<Box<dyn Listener>> {
    let requests = context.control.start_requests(bids(context));
    let mut config = context.config.url.clone();
    // Behind NAT it is on no interface.
    let node_ip = context.config.rtc.node_ip;
    config.guard.own.extend(node_ip.v4.map(IpAddr::V4).into_iter().chain(node_ip.v6.map(IpAddr::V6)));
    let pulls = Pulls(context.sessions.clone());
    Some(Box::new(Server::new(requests, config, context.workers.clone(), pulls)))
}

/// What this machine bids for a URL: the more, the more of it is free.
fn bids(context: &Context<'_>) -> Affinity {
    let (sessions, capacity) = (context.sessions.clone(), context.capacity.clone());
    Arc::new(move |wanted| {
        if wanted.input != InputKind::Url {
            return None;
        }
        if sessions.get(wanted.ingress).is_some() {
            return Some(RUNNING_BID);
        }
        Some(capacity.affinity(wanted.input, wanted.spec)).filter(|bid| *bid > 0.0)
    })
}
