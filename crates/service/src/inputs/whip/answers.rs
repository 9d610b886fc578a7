//! HTTP answers: a status and a text for what went wrong, and the headers that let pages of any origin read them.

use super::headers::{FRAGMENT, SDP};
use crate::control::{WhipRefusal, WhipRefusalKind};
use axum::body::Body;
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderName,
    RETRY_AFTER, WWW_AUTHENTICATE,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::Response;
use model::{Blame, Fault};
use rtc::Refusal;

/// RFC 9725 §4.2.
pub(super) const ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");
/// RFC 5789 §3.1.
pub(super) const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");

/// When a client may try a full machine again: sessions end by the minute, and a balancer finds another machine at once.
const RETRY_FULL: &str = "5";
/// When a client may retry after a transient fault: Redis and livekit-server are back within seconds.
const RETRY_TRANSIENT: &str = "2";

/// Headers a page may read beyond the safe ones.
const EXPOSED_HEADERS: &str = "Location, ETag, Link, Retry-After, Accept-Post, Accept-Patch, Allow";
/// Headers a page may send. The star does not cover Authorization (Fetch §3.3.3).
const ALLOWED_HEADERS: &str = "Authorization, Content-Type, If-Match, *";
/// How long a browser may cache the answer to OPTIONS, in seconds: as long as Chromium does at most.
const PREFLIGHT_MAX_AGE: &str = "7200";

/// What a path is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PathKind {
    /// Where offers go.
    Endpoint,
    /// A session.
    Session,
    /// `/health` and `/availability`.
    Page,
}

impl PathKind {
    fn methods(self) -> &'static str {
        match self {
            Self::Endpoint => "POST, OPTIONS",
            Self::Session => "PATCH, DELETE, OPTIONS",
            Self::Page => "GET, HEAD, OPTIONS",
        }
    }
}

/// An answer with a text.
pub(super) fn text(status: StatusCode, text: impl Into<String>) -> Response {
    let mut response = Response::new(Body::from(text.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"WHIP\""));
    }
    response
}

/// An answer without a body.
pub(super) fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// Adds what every answer carries.
pub(super) fn for_all_origins(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED_HEADERS));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The answer to OPTIONS (RFC 9725 §4.1, Fetch §3.3).
pub(super) fn options(kind: PathKind, links: Vec<HeaderValue>) -> Response {
    let mut response = empty(StatusCode::NO_CONTENT);
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(kind.methods()));
    headers.insert(ALLOW, HeaderValue::from_static(kind.methods()));
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(ALLOWED_HEADERS));
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(PREFLIGHT_MAX_AGE));
    match kind {
        PathKind::Endpoint => {
            headers.insert(ACCEPT_POST, HeaderValue::from_static(SDP));
            add_links(headers, links);
        }
        PathKind::Session => _ = headers.insert(ACCEPT_PATCH, HeaderValue::from_static(FRAGMENT)),
        PathKind::Page => {}
    }
    response
}

/// Adds `Link` headers.
pub(super) fn add_links(headers: &mut HeaderMap, links: Vec<HeaderValue>) {
    for link in links {
        headers.append(axum::http::header::LINK, link);
    }
}

/// The answer to a method that a path does not have.
pub(super) fn wrong_method(kind: PathKind, method: &Method) -> Response {
    let message = format!("{method} is not for this path; {} are", kind.methods());
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, message);
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(kind.methods()));
    response
}

/// The answer to a body of another type.
pub(super) fn wrong_type(method: &Method, wanted: &'static str) -> Response {
    let message = format!("the body's Content-Type must be {wanted}");
    let mut response = text(StatusCode::UNSUPPORTED_MEDIA_TYPE, message);
    let accepted = if *method == Method::POST { ACCEPT_POST } else { ACCEPT_PATCH };
    response.headers_mut().insert(accepted, HeaderValue::from_static(wanted));
    response
}

/// Ends the connection after this answer.
pub(super) fn last(mut response: Response) -> Response {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// The answer to a refused publisher.
pub(super) fn fault(fault: &Fault) -> Response {
    let status = match fault.blame {
        Blame::Access => StatusCode::FORBIDDEN,
        Blame::Unknown => StatusCode::NOT_FOUND,
        Blame::Mismatch | Blame::Spec => StatusCode::BAD_REQUEST,
        Blame::InUse => StatusCode::CONFLICT,
        Blame::Source => StatusCode::NOT_ACCEPTABLE,
        Blame::Capacity | Blame::Draining => StatusCode::SERVICE_UNAVAILABLE,
        Blame::Room | Blame::Control | Blame::Us if fault.retry => StatusCode::SERVICE_UNAVAILABLE,
        Blame::Room | Blame::Control | Blame::Us => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let mut response = text(status, fault.public());
    if status == StatusCode::SERVICE_UNAVAILABLE {
        let after = if fault.blame == Blame::Capacity { RETRY_FULL } else { RETRY_TRANSIENT };
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static(after));
    }
    response
}

/// The answer to an offer that can't be accepted.
pub(super) fn offer(refusal: &Refusal) -> Response {
    let status = match refusal {
        Refusal::Unreadable(_) => StatusCode::BAD_REQUEST,
        Refusal::Full => StatusCode::SERVICE_UNAVAILABLE,
        Refusal::Gone | Refusal::OtherIceSession => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::NOT_ACCEPTABLE,
    };
    let mut response = text(status, refusal.to_string());
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static(RETRY_FULL));
    }
    response
}

/// The answer to a refused request to a session.
pub(super) fn refusal(refusal: &WhipRefusal) -> Response {
    let status = match refusal.why {
        WhipRefusalKind::WrongKey => StatusCode::FORBIDDEN,
        WhipRefusalKind::Gone => StatusCode::NOT_FOUND,
        WhipRefusalKind::Unconditional => StatusCode::PRECONDITION_REQUIRED,
        WhipRefusalKind::OtherIceSession => StatusCode::PRECONDITION_FAILED,
        WhipRefusalKind::Malformed => StatusCode::BAD_REQUEST,
        WhipRefusalKind::Unprocessable => StatusCode::UNPROCESSABLE_ENTITY,
        WhipRefusalKind::Unreachable => StatusCode::SERVICE_UNAVAILABLE,
    };
    let mut response = text(status, &refusal.text);
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static(RETRY_TRANSIENT));
    }
    response
}
