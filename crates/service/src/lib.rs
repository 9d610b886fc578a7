//! The service: configuration, inputs, admission, control plane, logs and metrics, and how they start and stop.
//!
//! [`run`] is all of it. Media is not touched here: inputs hand sources to sessions, and sessions are a crate of their own.
#![forbid(unsafe_code)]

pub mod admission;
mod boxed;
pub mod config;
pub mod control;
mod descriptors;
pub mod http;
pub mod inputs;
pub mod load;
pub mod metrics;
mod proc_files;
pub mod recovery;
mod run;
pub mod sessions;
pub mod telemetry;
#[cfg(test)]
mod testing;
pub mod tls;

pub use boxed::BoxFuture;
pub use run::{WorkerProgram, run};
