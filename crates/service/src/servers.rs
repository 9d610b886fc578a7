//! The servers that strangers reach.

pub mod rtmp;
