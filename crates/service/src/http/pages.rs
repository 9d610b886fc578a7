//! The pages for operators: health, availability and metrics.

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;

use crate::load::Capacity;
use crate::metrics::{CONTENT_TYPE, Registry};

/// For `health_port`: `/availability` says whether a session would fit (200 or 503), any other path that this process is alive.
pub fn health(capacity: Capacity) -> Router {
    let availability = async move || match capacity.can_accept_every_kind() {
        true => (StatusCode::OK, "Available"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "No availability"),
    };
    Router::new().route("/availability", any(availability)).fallback(async || "Healthy")
}

/// For `prometheus_port`: the metrics on every path.
pub fn metrics(registry: Registry) -> Router {
    let page = async move || -> Response {
        match registry.page() {
            Ok(page) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], page).into_response(),
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "metrics could not be written");
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
        }
    };
    Router::new().fallback(page)
}
