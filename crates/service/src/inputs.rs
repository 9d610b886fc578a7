//! The inputs, a folder each: what encoders push to, and what is pulled.

pub(crate) mod connection_limits;
pub mod rtmp;
pub(crate) mod url;
pub mod whip;
