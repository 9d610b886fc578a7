//! The servers that strangers reach.

pub(crate) mod admission;
pub mod rtmp;
mod whip_source;

pub use whip_source::whip_source;
