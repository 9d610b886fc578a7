//! What we take of an offer.

use model::{AudioCodec, VideoFormat};

/// What we take of an offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The sender's ICE user fragment.
    pub(crate) ufrag: String,
    pub(crate) pwd: String,
    pub(crate) fingerprint: String,
    pub(crate) setup: String,
    pub(crate) ice_lite: bool,
    pub(crate) candidates: Vec<String>,
    pub(crate) audio: Option<Audio>,
    pub(crate) video: Option<Video>,
    /// All media lines, in order.
    pub(crate) sections: Vec<Section>,
}

/// A media line, as far as an answer must repeat it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Section {
    /// Its `m=` line: the kind, and what follows the port.
    pub(crate) kind: String,
    pub(crate) tail: String,
    pub(crate) mid: String,
    pub(crate) taken: bool,
}

/// What audio and video have in common.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Common {
    pub(crate) mid: String,
    pub(crate) pt: u8,
    pub(crate) nack: bool,
    pub(crate) transport_cc: bool,
    /// Header extensions (RFC 8285) by id; only those that somebody here reads.
    pub(crate) extensions: Vec<(u8, &'static str)>,
    /// The stream's SSRC, and that of its retransmissions (FID, RFC 5576 §4.2).
    pub(crate) ssrc: Option<u32>,
    pub(crate) rtx_ssrc: Option<u32>,
}

/// The audio line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Audio {
    /// Opus; G.711 where it is to be decoded and nothing else is offered.
    pub(crate) codec: AudioCodec,
    pub(crate) common: Common,
    pub(crate) stereo: bool,
    pub(crate) dtx: bool,
    pub(crate) fec: bool,
    /// The payload type of redundant packets (RED, RFC 2198).
    pub(crate) red: Option<u8>,
}

/// The video line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Video {
    pub(crate) common: Common,
    pub(crate) format: VideoFormat,
    /// The payload type of retransmissions (RFC 4588).
    pub(crate) rtx: Option<u8>,
    pub(crate) pli: bool,
    pub(crate) fir: bool,
    pub(crate) remb: bool,
    /// The layers' RTP stream ids in the order of `a=simulcast`; empty for a single stream.
    pub(crate) rids: Vec<String>,
    /// The SSRCs of the layers and of their retransmissions, where the offer names layers by these alone (`a=ssrc-group:SIM`, as
    /// browsers had it before stream ids). The ids are ours then, and the client hears nothing of them.
    pub(crate) layer_ssrcs: Vec<(u32, Option<u32>)>,
}

impl Video {
    /// Whether the client is to be told how much it may send (goog-remb), as it does not find out by itself (transport-cc).
    pub(crate) fn needs_remb(&self) -> bool {
        let extensions = &self.common.extensions;
        self.remb && !(self.common.transport_cc && extensions.iter().any(|(_, uri)| uri.contains("transport-wide-cc")))
    }
}

impl Offer {
    /// How the video will be coded, if there is any.
    pub fn video_format(&self) -> Option<&VideoFormat> {
        self.video.as_ref().map(|video| &video.format)
    }
}
