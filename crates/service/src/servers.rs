//! The servers that strangers reach.

pub(crate) mod admission;
pub mod rtmp;
pub mod whip;
mod whip_source;
