//! What others may learn of a session while it runs: for metrics and status pages.

use crate::layers::passing::State as TopLayer;
use model::{IngressId, InputKind, Layer, Quality, ResourceId};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
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

/// Counts the pictures of a source as they come. Clones share one count.
#[derive(Clone, Debug, Default)]
pub struct PictureCount(Arc<AtomicU64>);

impl PictureCount {
    /// Another one has come.
    pub fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// How many have come so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a session asks of its transcoder.
#[derive(Clone, Debug, Default)]
pub struct Work {
    /// The process id of the worker; `None` while there is none.
    pub worker: Option<u32>,
    /// The layers to encode, lowest first; empty until the source's pictures are known.
    pub layers: Vec<Layer>,
    /// Which of them viewers want.
    pub wanted: Vec<bool>,
    /// Width and height of the source's pictures, in pixels; `None` if unknown.
    pub size: Option<(u32, u32)>,
    /// Pictures a second, by what the source says of itself; `None` if it says nothing.
    pub frame_rate: Option<f64>,
    /// The pictures that have come so far.
    pub pictures: PictureCount,
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
    /// Who makes the highest layer of video from now on. Never told where all or nothing is passed through.
    fn top_layer(&self, maker: TopLayer);
    /// The transcoder is asked for this from now on. Never told where nothing is transcoded.
    fn works(&self, work: Work);
}
