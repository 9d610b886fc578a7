//! What it takes to answer an offer, and to reach its session afterwards.

use super::ice_servers::IceServers;
use super::media::Media;
use super::resources::Resources;
use crate::control::ControlPlane;
use model::LogBudget;
use std::sync::Arc;

/// See the [module](self).
#[derive(Clone)]
pub(super) struct Handles {
    pub(super) media: Arc<dyn Media>,
    pub(super) control: Arc<dyn ControlPlane>,
    pub(super) ice_servers: Arc<IceServers>,
    pub(super) resources: Resources,
    pub(super) log: Arc<LogBudget>,
}
