//! An offer of a client that wants to send to us (WHIP, RFC 9725): read, judged, and written again with only what we take, so that
//! no line reaches the engine as it came. Pure.

mod accept;
mod choose;
mod read;
mod taken;
mod write;

pub use accept::{Accept, Delivery};
pub use read::MAX_OFFER;
pub(crate) use read::{candidates, credentials};
pub use taken::Offer;
pub(crate) use taken::{Audio, Common, Video};

#[cfg(test)]
mod tests;
