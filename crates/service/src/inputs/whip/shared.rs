//! What all WHIP requests share.

use super::handles::Handles;
use super::request::Request;
use crate::load::Capacity;
use tokio::sync::mpsc;

/// See the [module](self).
pub(super) struct Shared {
    pub(super) handles: Handles,
    /// For `/availability`.
    pub(super) capacity: Capacity,
    pub(super) requests: mpsc::Sender<Request>,
}
