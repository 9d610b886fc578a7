//! The service: configuration, servers, control plane, admission, telemetry, and how they start and stop.
//!
//! [`run`] is all of it. Media is not touched here: servers hand sources to sessions, and sessions are a crate of their own.
#![forbid(unsafe_code)]

pub mod config;
pub mod control;
mod descriptors;
pub mod http;
pub mod inputs;
pub mod load;
mod run;
mod session_metrics;
pub mod sessions;
pub mod telemetry;
pub mod tls;

pub use run::{Children, run};
