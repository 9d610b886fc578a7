//! What others may learn of a session while it runs: for metrics and status pages.

use model::{IngressId, InputKind, Quality, ResourceId};
use std::sync::Arc;
use std::time::Duration;

/// Which session is observed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionIds {
    /// Its ingress.
    pub ingress_id: IngressId,
    /// The session.
    pub resource_id: ResourceId,
    /// How its media comes in.
    pub input: InputKind,
}

/// Observes all sessions.
pub trait SessionObserver: Send + Sync + 'static {
    /// A session begins. The result observes it, and is dropped when the session is over.
    fn begin(&self, session: &SessionIds) -> Arc<dyn Observer>;
}

/// Observes one session.
pub trait Observer: Send + Sync + 'static {
    /// A frame of this layer (`None`: audio) was handed to the participant this long after it was due.
    fn latency(&self, layer: Option<Quality>, latency: Duration);
    /// A transcoder crashed and was replaced.
    fn transcoder_restarted(&self);
    /// Frames of the source were dropped, because the transcoder did not take them.
    fn dropped(&self, frames: u64);
    /// Whether the source has sent nothing for some seconds, of any track that it announced. Told again and again; no longer once
    /// the session ends.
    fn stalled(&self, stalled: bool);
}
