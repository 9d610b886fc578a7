//! Types of [`model`] as they stand in a header: without the bytes that travel as the payload.

use bytes::Bytes;
use model::{AudioCodec, Colours, Kind, MediaTime, Rotation, VideoCodec};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
#[serde(remote = "model::Frame")]
pub(crate) struct FrameHeader {
    kind: Kind,
    pts: MediaTime,
    dts: MediaTime,
    key: bool,
    #[serde(skip)]
    data: Bytes,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "model::VideoConfig")]
pub(crate) struct VideoConfigHeader {
    codec: VideoCodec,
    #[serde(skip)]
    record: Bytes,
    size: Option<(u32, u32)>,
    rotation: Rotation,
    colours: Colours,
    pixel_aspect: Option<(u32, u32)>,
    max_luminance: Option<u16>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "model::AudioConfig")]
pub(crate) struct AudioConfigHeader {
    codec: AudioCodec,
    #[serde(skip)]
    record: Bytes,
    sample_rate: Option<u32>,
    channels: Option<u8>,
}
