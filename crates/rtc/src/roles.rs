//! The two roles of a connection: [`sender`] publishes to the SFU, [`receiver`] takes what WHIP clients send.

pub(crate) mod receiver;
pub(crate) mod sender;
