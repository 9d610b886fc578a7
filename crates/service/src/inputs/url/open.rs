//! Takes requests to pull, with this machine's bid for each.

use super::server::Server;
use crate::control::Affinity;
use crate::inputs::context::Context;
use crate::inputs::listener::Listener;
use model::InputKind;
use std::sync::Arc;

/// What this machine bids for a URL that it pulls already: more than any machine bids that would have to begin.
const RUNNING_BID: f32 = 100.0;

/// Starts taking requests to pull.
pub(crate) fn open(context: &Context<'_>) -> Option<Box<dyn Listener>> {
    let requests = context.control.start_requests(bids(context));
    Some(Box::new(Server::new(requests, context.config.url.clone(), context.workers.clone())))
}

/// What this machine bids for a URL: the more, the more of it is free.
fn bids(context: &Context<'_>) -> Affinity {
    let (sessions, capacity) = (context.sessions.clone(), context.capacity.clone());
    Arc::new(move |input, ingress| {
        if input != InputKind::Url {
            return None;
        }
        if sessions.get(ingress).is_some() {
            return Some(RUNNING_BID);
        }
        Some(capacity.affinity(input, true)).filter(|bid| *bid > 0.0)
    })
}
