//! What we accept of an offer.

use model::VideoCodec;

/// In which form received media is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// RTP packets as they come, all simulcast layers: for passthrough.
    Packets,
    /// Access units in order, of the best layer: for decoding.
    Frames,
}

/// What to accept of an offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accept {
    /// How media is delivered.
    pub delivery: Delivery,
    /// The video codecs that may be sent to us. The offer's order decides among them.
    pub video: Vec<VideoCodec>,
}

impl Accept {
    /// For passthrough: what rooms can take.
    pub fn passthrough() -> Self {
        Self { delivery: Delivery::Packets, video: VideoCodec::OVER_RTP.to_vec() }
    }

    /// The same with these video codecs alone: the room takes no others.
    pub fn only(self, video: Vec<VideoCodec>) -> Self {
        Self { video, ..self }
    }

    /// For transcoding: what the transcoder decodes.
    pub fn transcoded() -> Self {
        Self { delivery: Delivery::Frames, video: VideoCodec::OVER_RTP.to_vec() }
    }
}
