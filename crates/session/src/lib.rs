//! The life of a session: from an accepted publisher to the last report.
//!
//! [`lifecycle`] decides, [`run`] carries out: one task per session moves media from its [`Source`] to its [`participant`],
//! through a worker ([`workers`]) where something is transcoded, and reports how it goes ([`Report`]). [`registry`] knows all
//! sessions of this process. Inputs and the control plane are not known here.
#![forbid(unsafe_code)]

pub mod demuxed_source;
mod layers;
pub mod lifecycle;
mod observer;
pub mod participant;
mod pipeline;
pub mod prejoined;
pub mod registry;
mod report;
mod session_stats;
mod source;
#[cfg(test)]
mod testing;
mod throttle;
pub mod time;
mod track_watch;
pub mod workers;

pub use layers::passing::{Passthrough, Reason as EncodingReason, State as TopLayer};
pub use observer::{Observer, PictureCount, SessionIds, SessionObserver, Work};
pub use pipeline::{Start, run};
pub use report::{AudioFacts, Report, Status, VideoFacts};
pub use source::{
    KeyframeRequest, KeyframeRequestFeed, KeyframeRequests, Portable, SOURCE_QUEUE, Source, SourceEnd, SourceEvent,
    SourceFeed, source,
};
