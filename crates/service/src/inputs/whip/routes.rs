//! What each request is answered with.

use super::answers::{self, PathKind};
use super::body;
use super::headers::{self, FRAGMENT, IfMatch, SDP, Target};
use super::request::Request;
use super::shared::Shared;
use crate::control::WhipRequest;
use crate::http::Peer;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, ETAG};
use axum::http::{HeaderValue, Method, StatusCode, request::Parts};
use axum::response::Response;
use model::{Blame, Fault, ResourceId, Secret};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::oneshot;
use tokio::time::timeout;

/// How long a client waits for the answer to its offer: 3 s to find the ingress, 3 s for a session that is ending, 3 s to learn
/// what the room takes, 1 s to subscribe, each with the machine busy.
const OFFER_ANSWER: Duration = Duration::from_secs(13);

/// Answers any request.
pub(super) async fn answer(State(shared): State<Arc<Shared>>, request: axum::extract::Request) -> Response {
    let (parts, body) = request.into_parts();
    let response = match (parts.uri.path(), Target::read(parts.uri.path())) {
        (path @ ("/health" | "/availability"), _) if parts.method != Method::POST => page(&shared, path, &parts.method),
        (_, None) => {
            answers::text(StatusCode::NOT_FOUND, "nothing is here; publish with POST to /{app} or /{app}/{key}")
        }
        (_, Some(target)) if target.resource.is_some() => session(&shared, &parts, target, body).await,
        (_, Some(target)) => endpoint(&shared, &parts, target, body).await,
    };
    answers::for_all_origins(response)
}

/// As on `health_port`.
fn page(shared: &Shared, path: &str, method: &Method) -> Response {
    match *method {
        Method::OPTIONS => answers::options(PathKind::Page, Vec::new()),
        Method::GET | Method::HEAD if path == "/health" => answers::text(StatusCode::OK, "Healthy"),
        Method::GET | Method::HEAD if shared.capacity.can_accept_every_kind() => {
            answers::text(StatusCode::OK, "Available")
        }
        Method::GET | Method::HEAD => answers::text(StatusCode::SERVICE_UNAVAILABLE, "No availability"),
        _ => answers::wrong_method(PathKind::Page, method),
    }
}

async fn endpoint(shared: &Shared, parts: &Parts, target: Target, body: Body) -> Response {
    match parts.method {
        Method::POST => publish(shared, parts, target, body).await,
        Method::OPTIONS => preflight(shared, parts, &target).await,
        _ => answers::wrong_method(PathKind::Endpoint, &parts.method),
    }
}

/// OPTIONS: the STUN and TURN servers that a client learns before it offers. Credentials are for those who show a key in a header: a
/// browser's preflight never has one. A wrong key costs as much as with an offer, so that nobody tries keys faster here.
async fn preflight(shared: &Shared, parts: &Parts, target: &Target) -> Response {
    let servers = &shared.handles.ice_servers;
    let public = answers::options(PathKind::Endpoint, servers.public());
    if !servers.has_turn() || !parts.headers.contains_key(AUTHORIZATION) {
        return public;
    }
    hold(parts);
    for key in headers::keys(&parts.headers, target) {
        if let Ok(found) = shared.handles.control.lookup(&key).await {
            let all = servers.all(&found.spec.ingress_id.0, &found.ws_url, SystemTime::now());
            return answers::options(PathKind::Endpoint, all);
        }
    }
    charge(parts);
    answers::last(public)
}

/// POST: an offer (RFC 9725 §4.2).
async fn publish(shared: &Shared, parts: &Parts, target: Target, body: Body) -> Response {
    let keys = headers::keys(&parts.headers, &target);
    if keys.is_empty() {
        return answers::last(no_key());
    }
    if !headers::has_type(&parts.headers, SDP) {
        return answers::last(answers::wrong_type(&parts.method, SDP));
    }
    let offer = match body::read(&parts.headers, body, body::MAX_OFFER_SIZE).await {
        Ok(offer) => offer,
        Err(response) => return response,
    };
    hold(parts);
    let (answer, answered) = oneshot::channel();
    let (peer, agent) = (address(parts), headers::agent(&parts.headers));
    let request = Request { keys, app: target.app, peer, agent, offer, handles: shared.handles.clone(), answer };
    if shared.requests.try_send(request).is_err() {
        return answers::fault(&Fault::transient(Blame::Capacity, "the server is busy; try again in a moment"));
    }
    let response = match timeout(OFFER_ANSWER, answered).await {
        Ok(Ok(response)) => response,
        _ => answers::fault(&Fault::transient(Blame::Us, "the offer was not answered in time; try again")),
    };
    refused_for_key(parts, response)
}

/// A wrong key costs its connection, and its address stays charged for it for a while.
fn refused_for_key(parts: &Parts, response: Response) -> Response {
    match response.status() {
        StatusCode::NOT_FOUND | StatusCode::FORBIDDEN => {
            charge(parts);
            answers::last(response)
        }
        _ => response,
    }
}

/// What a session is asked (RFC 9725 §4.2, §4.3).
async fn session(shared: &Shared, parts: &Parts, target: Target, body: Body) -> Response {
    let keys = headers::keys(&parts.headers, &target);
    let Some(resource) = target.resource else { return answers::empty(StatusCode::NOT_FOUND) };
    match parts.method {
        Method::OPTIONS => answers::options(PathKind::Session, Vec::new()),
        Method::DELETE | Method::PATCH if keys.is_empty() => answers::last(no_key()),
        Method::DELETE => ask(shared, parts, &resource, &keys, WhipRequest::Delete).await,
        Method::PATCH => patch(shared, parts, &resource, &keys, body).await,
        _ => answers::wrong_method(PathKind::Session, &parts.method),
    }
}

/// PATCH: candidates, or new credentials for ICE. The body may be a bare fragment or a whole SDP, like the Go ingress wants it.
async fn patch(shared: &Shared, parts: &Parts, resource: &ResourceId, keys: &[Secret], body: Body) -> Response {
    if !headers::has_type(&parts.headers, FRAGMENT) {
        return answers::last(answers::wrong_type(&parts.method, FRAGMENT));
    }
    let fragment = match body::read(&parts.headers, body, rtc::MAX_FRAGMENT).await {
        Ok(fragment) => fragment,
        Err(response) => return response,
    };
    let if_match = headers::if_match(&parts.headers);
    if IfMatch::read(&if_match) == IfMatch::Missing {
        return answers::refusal(&super::resources::unconditional());
    }
    // Before anybody else is asked about it.
    if let Err(unreadable) = rtc::Fragment::read(&fragment) {
        return answers::refusal(&super::resources::refusal(unreadable));
    }
    ask(shared, parts, resource, keys, WhipRequest::Ice { if_match, fragment }).await
}

async fn ask(shared: &Shared, parts: &Parts, resource: &ResourceId, keys: &[Secret], request: WhipRequest) -> Response {
    let deletes = request == WhipRequest::Delete;
    hold(parts);
    let answer = match shared.handles.resources.ask(resource, keys, request, &*shared.handles.control).await {
        Ok(answer) => answer,
        Err(refusal) => {
            tracing::debug!(peer = %address(parts), %resource, method = %parts.method, reason = %refusal, "WHIP request refused");
            return refused_for_key(parts, answers::refusal(&refusal));
        }
    };
    tracing::info!(peer = %address(parts), %resource, method = %parts.method, "WHIP request done");
    if deletes {
        return answers::empty(StatusCode::OK);
    }
    if answer.fragment.is_empty() {
        return answers::empty(StatusCode::NO_CONTENT);
    }
    let mut response = Response::new(Body::from(answer.fragment));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(FRAGMENT));
    if let Ok(etag) = HeaderValue::try_from(answer.etag) {
        response.headers_mut().insert(ETAG, etag);
    }
    response
}

fn no_key() -> Response {
    let text = "no stream key was given: send it as Authorization: Bearer {key}, or in the path as /{app}/{key}";
    answers::text(StatusCode::UNAUTHORIZED, text)
}

fn address(parts: &Parts) -> std::net::SocketAddr {
    let nobody = || std::net::SocketAddr::from(([0, 0, 0, 0], 0));
    parts.extensions.get::<Peer>().map_or_else(nobody, |peer| peer.address)
}

/// The request is whole and names a key: its connection does not give way until it is answered. One that has given way by now finds
/// nobody to answer.
fn hold(parts: &Parts) {
    if let Some(peer) = parts.extensions.get::<Peer>() {
        peer.hold();
    }
}

fn charge(parts: &Parts) {
    if let Some(peer) = parts.extensions.get::<Peer>() {
        peer.charge();
    }
}
