//! The life of a session.
#![forbid(unsafe_code)]

mod report;
mod source;
pub mod state;
pub mod timeline;
pub use report::{AudioFacts, Report, Status, VideoFacts};
pub use source::{SOURCE_QUEUE, Source, SourceEnd, SourceEvent, SourceFeed, source};
