//! What all WHIP requests share.

use super::ice_servers::IceServers;
use super::media::Media;
use super::request::Request;
use super::resources::Resources;
use crate::control::ControlPlane;
use crate::inputs::log_budget::LogBudget;
use crate::load::Capacity;
use std::sync::Arc;
use tokio::sync::mpsc;

/// See the [module](self).
pub(super) struct Shared {
    pub(super) handles: Handles,
    /// For `/availability`.
    pub(super) capacity: Capacity,
    pub(super) requests: mpsc::Sender<Request>,
}

/// What it takes to answer an offer.
#[derive(Clone)]
pub(super) struct Handles {
    pub(super) media: Arc<dyn Media>,
    pub(super) control: Arc<dyn ControlPlane>,
    pub(super) ice_servers: Arc<IceServers>,
    pub(super) resources: Resources,
    pub(super) log: Arc<LogBudget>,
}
