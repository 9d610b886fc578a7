//! Redundant audio (RED, RFC 2198): each packet repeats the ones before it, so that a lost one need not be asked for. Pure.

mod decoder;
mod encoder;
mod position;

pub use decoder::{ReceiveHistory, RedundantBlock, split_blocks};
pub use encoder::RedEncoder;
pub(crate) use encoder::RedundancyControl;
pub use position::RtpPosition;
