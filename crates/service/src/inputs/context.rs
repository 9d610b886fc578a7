//! What inputs are opened with.

use crate::config::Config;
use crate::control::ControlPlane;
use crate::load::Capacity;
use crate::metrics::Registry;
use session::participant::ParticipantFactory;
use session::workers::Workers;
use std::sync::Arc;

/// See the [module](self).
pub(crate) struct Context<'a> {
    /// The whole configuration; each input reads its own section.
    pub(crate) config: &'a Config,
    /// Finds ingresses, and carries requests between machines.
    pub(crate) control: Arc<dyn ControlPlane>,
    /// How much the machine can carry.
    pub(crate) capacity: Capacity,
    /// Where inputs register what they count.
    pub(crate) metrics: Registry,
    /// The sessions that run.
    pub(crate) sessions: session::registry::Registry,
    /// Joins rooms, and remembers what their servers said.
    pub(crate) participants: Arc<dyn ParticipantFactory>,
    /// Starts the workers that pull.
    pub(crate) workers: Arc<dyn Workers>,
}
