//! The servers that strangers reach.

pub mod rtmp;
mod whip_source;

pub use whip_source::whip_source;
