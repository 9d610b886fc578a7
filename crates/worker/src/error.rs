//! What can go wrong inside a worker. It leaves the process as a [`Fault`].

use gstreamer as gst;
use model::{Blame, Fault};

/// Why a part of the worker could not do its work.
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
    /// A decoder gives what nothing here can work with.
    #[error("what was decoded cannot be used: {0}")]
    Format(gst::glib::BoolError),
    /// An element stopped, with its own text where it had some.
    #[error("{}", .text.as_deref().unwrap_or("the media pipeline stopped"))]
    Flow {
        /// How GStreamer calls it.
        #[source]
        flow: gst::FlowError,
        /// What the element said.
        text: Option<String>,
    },
}

impl Error {
    /// Whose fault it is: of what cannot be built, ours; of what stops on media, the source's.
    pub fn blame(&self) -> Blame {
        match self {
            Self::NoElement(_) | Self::Build(_) | Self::State(_) => Blame::Us,
            Self::Format(_) | Self::Flow { .. } => Blame::Source,
        }
    }

    /// As a fault. What GStreamer can't build now, as the machine has no memory or threads left, it may build later; what is not
    /// installed comes with no other attempt.
    pub fn fault(&self, context: &str) -> Fault {
        let text = if context.is_empty() { self.to_string() } else { format!("{context}: {self}") };
        Fault { blame: self.blame(), retry: matches!(self, Self::State(_)), text }
    }
}
