//! Parses video tags.

use super::{Codec, TagError, TrackChoice, enhanced, take, unknown_fourcc};
use bytes::{Buf, Bytes};
use model::VideoCodec;

/// A video tag, or the chosen track of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VideoTag {
    /// The codec.
    pub codec: Codec<VideoCodec>,
    /// Whether the encoder marks it as a key frame.
    pub key: bool,
    /// Nanoseconds below a millisecond, to add to the message's timestamp.
    pub nanos: u32,
    /// What it carries.
    pub body: VideoBody,
    /// Whether it carries further tracks.
    pub others: bool,
}

/// What a video tag carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VideoBody {
    /// A decoder configuration record.
    Config(Bytes),
    /// An access unit.
    Frame {
        /// The composition offset: presentation minus decoding time, in milliseconds.
        composition: i32,
        /// Its bytes.
        data: Bytes,
    },
    /// Nothing for a decoder: end of sequence, seeking, HDR metadata, or only other tracks.
    Nothing,
}

/// Frame types (FLV §E.4.3.1).
const KEY: u8 = 1;
const GENERATED_KEY: u8 = 4;
const COMMAND: u8 = 5;

/// Parses the body of a video message; `None` if it is empty.
///
/// # Errors
/// [`TagError::UnknownCodec`], and [`TagError::Malformed`] for an enhanced header that ends too early or contradicts itself.
pub fn parse_video(mut body: Bytes, choice: &mut TrackChoice) -> Result<Option<VideoTag>, TagError> {
    let Ok(first) = body.try_get_u8() else { return Ok(None) };
    let (frame, low) = (first >> 4 & 7, first & 0xf);
    let key = matches!(frame, KEY | GENERATED_KEY);
    if first & 0x80 != 0 {
        return parse_enhanced(body, frame, key, low, choice).map(Some);
    }
    let others = !choice.takes(0);
    let codec = legacy_codec(low)?;
    let body = match codec {
        _ if frame == COMMAND => VideoBody::Nothing,
        Codec::Known(VideoCodec::H264 | VideoCodec::H265) => nal_packet(body),
        _ if body.is_empty() => VideoBody::Nothing,
        _ => VideoBody::Frame { composition: 0, data: body },
    };
    Ok(Some(VideoTag { codec, key, nanos: 0, body, others }))
}

/// FLV §E.4.3.1, CodecID. 12 is in no specification: encoders and networks agreed on it before E-RTMP existed.
fn legacy_codec(id: u8) -> Result<Codec<VideoCodec>, TagError> {
    Ok(Codec::Known(match id {
        2 => VideoCodec::Flv1,
        3 => VideoCodec::ScreenVideo,
        4 => VideoCodec::Vp6,
        5 => VideoCodec::Vp6Alpha,
        6 => VideoCodec::ScreenVideo2,
        7 => VideoCodec::H264,
        12 => VideoCodec::H265,
        1 => return Ok(Codec::Unusable("JPEG video")),
        8 => return Ok(Codec::Unusable("H.263 video")),
        9 => return Ok(Codec::Unusable("MPEG-4 part 2 video")),
        id => return Err(TagError::UnknownCodec(format!("video codec number {id}"))),
    }))
}

/// FLV §E.4.3.2, AVCVIDEOPACKET.
fn nal_packet(mut body: Bytes) -> VideoBody {
    let Some([packet, a, b, c]) = take(&mut body) else { return VideoBody::Nothing };
    match packet {
        0 => VideoBody::Config(body),
        1 if !body.is_empty() => VideoBody::Frame { composition: signed_24([a, b, c]), data: body },
        _ => VideoBody::Nothing,
    }
}

fn signed_24([a, b, c]: [u8; 3]) -> i32 {
    i32::from_be_bytes([a, b, c, 0]) >> 8
}

fn parse_enhanced(
    body: Bytes,
    frame: u8,
    key: bool,
    packet: u8,
    choice: &mut TrackChoice,
) -> Result<VideoTag, TagError> {
    const MULTITRACK: u8 = 6;
    const METADATA: u8 = 4;
    let nothing = |codec, others| VideoTag { codec, key, nanos: 0, body: VideoBody::Nothing, others };
    if frame == COMMAND && packet != METADATA {
        return Ok(nothing(Codec::Unusable("no video"), false));
    }
    let tracks = enhanced(body, packet, MULTITRACK, choice)?;
    let Some(tag) = tracks.chosen else { return Ok(nothing(Codec::Unusable("no video"), tracks.others)) };
    let codec = fourcc_codec(tag.fourcc)?;
    let composed = matches!(codec, Codec::Known(VideoCodec::H264 | VideoCodec::H265));
    let body = match (tag.packet, tag.data) {
        (0, data) => VideoBody::Config(data),
        (1, mut data) if composed => match take(&mut data) {
            Some(composition) if !data.is_empty() => VideoBody::Frame { composition: signed_24(composition), data },
            _ => VideoBody::Nothing,
        },
        (1 | 3, data) if !data.is_empty() => VideoBody::Frame { composition: 0, data },
        // End of sequence, HDR metadata, the MPEG-2 TS form of a start, reserved.
        _ => VideoBody::Nothing,
    };
    Ok(VideoTag { codec, key, nanos: tag.nanos, body, others: tracks.others })
}

/// E-RTMP `VideoFourCc`.
fn fourcc_codec(fourcc: [u8; 4]) -> Result<Codec<VideoCodec>, TagError> {
    Ok(Codec::Known(match &fourcc {
        b"avc1" => VideoCodec::H264,
        b"hvc1" => VideoCodec::H265,
        b"av01" => VideoCodec::Av1,
        b"vp09" => VideoCodec::Vp9,
        b"vp08" => VideoCodec::Vp8,
        b"vvc1" => return Ok(Codec::Unusable("H.266 video")),
        _ => return Err(unknown_fourcc("video", fourcc)),
    }))
}
