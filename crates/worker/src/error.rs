//! What can go wrong inside the child. None of it leaves the process but as words in [`ipc::ToParent`].

use gstreamer as gst;

/// Why a part of the child could not do its work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// None of the GStreamer elements that could do it is installed.
    #[error("this installation has no {0}")]
    NoElement(String),
    /// GStreamer refused to build or connect something.
    #[error("media pipeline: {0}")]
    Build(#[from] gst::glib::BoolError),
    /// An element would not change its state.
    #[error("media pipeline does not start: {0}")]
    State(#[from] gst::StateChangeError),
    /// An element stopped, with its own words where it had some.
    #[error("{}", .words.as_deref().unwrap_or("the media pipeline stopped"))]
    Flow {
        /// How GStreamer calls it.
        #[source]
        flow: gst::FlowError,
        /// What the element said.
        words: Option<String>,
    },
}
