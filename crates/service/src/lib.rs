//! The service: configuration, servers, control plane, admission, telemetry, and how they start and stop.
#![forbid(unsafe_code)]

pub mod config;
pub mod control;
pub mod http;
pub mod load;
pub mod servers;
pub mod telemetry;
