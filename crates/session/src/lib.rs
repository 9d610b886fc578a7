//! The life of a session: from an accepted publisher to the last report.
//!
//! [`state`] decides, [`run`] carries out: one task per session that moves media from its [`Source`] through a
//! [`transcoder`] child into a [`room`], and tells what became of it as [`Report`]s. [`registry`] knows all sessions of this
//! process. Servers and the control plane are not known here.
#![forbid(unsafe_code)]

mod comeback;
mod crashes;
mod doze;
mod driver;
mod facts;
mod fit;
mod owed;
pub mod pull;
pub mod registry;
mod report;
pub mod room;
mod seldom;
mod source;
pub mod state;
pub mod transcoder;

pub use driver::{Observer, Start, run};
pub use report::{AudioFacts, Report, Status, VideoFacts};
pub use source::{SOURCE_QUEUE, Source, SourceEnd, SourceEvent, SourceFeed, Wish, WishFeed, Wishes, source};
