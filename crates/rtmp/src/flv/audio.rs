//! Parses audio tags.

use super::{Codec, TagError, TrackChoice, enhanced, unknown_fourcc};
use bytes::{Buf, Bytes};
use model::AudioCodec;

/// An audio tag, or the chosen track of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AudioTag {
    /// The codec.
    pub codec: Codec<AudioCodec>,
    /// Nanoseconds below a millisecond, to add to the message's timestamp.
    pub nanos: u32,
    /// Samples a second in a legacy tag; the stream of some codecs has a better value.
    pub sample_rate: Option<u32>,
    /// Channels in a legacy tag; the stream of some codecs has a better value.
    pub channels: Option<u8>,
    /// What it carries.
    pub body: AudioBody,
    /// Whether it carries further tracks.
    pub others: bool,
}

/// What an audio tag carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AudioBody {
    /// A decoder configuration record.
    Config(Bytes),
    /// The number of channels, for a codec without a configuration (E-RTMP `MultichannelConfig`).
    Channels(u8),
    /// A packet.
    Packet(Bytes),
    /// Nothing for a decoder: end of sequence, silence, or only other tracks.
    Nothing,
}

/// Parses the body of an audio message; `None` if it is empty, which means silence (E-RTMP).
///
/// # Errors
/// [`TagError::UnknownCodec`], and [`TagError::Malformed`] for an enhanced header that ends too early or contradicts itself.
pub fn parse_audio(mut body: Bytes, choice: &mut TrackChoice) -> Result<Option<AudioTag>, TagError> {
    const ENHANCED: u8 = 9;
    let Ok(first) = body.try_get_u8() else { return Ok(None) };
    let format = first >> 4;
    if format == ENHANCED {
        return parse_enhanced(body, first & 0xf, choice).map(Some);
    }
    let others = !choice.takes(0);
    let (codec, fixed_rate, mono) = legacy_codec(format, first & 2 != 0)?;
    let body = match codec {
        Codec::Known(AudioCodec::Aac) => match body.try_get_u8() {
            Ok(0) => AudioBody::Config(body),
            Ok(1) if !body.is_empty() => AudioBody::Packet(body),
            _ => AudioBody::Nothing,
        },
        _ if body.is_empty() => AudioBody::Nothing,
        _ => AudioBody::Packet(body),
    };
    Ok(Some(AudioTag {
        codec,
        nanos: 0,
        sample_rate: fixed_rate.or(Some([5_512, 11_025, 22_050, 44_100][usize::from(first >> 2 & 3)])),
        channels: Some(if mono || first & 1 == 0 { 1 } else { 2 }),
        body,
        others,
    }))
}

/// FLV §E.4.2.1, SoundFormat: the codec, its sample rate if the format fixes it, and whether it is mono whatever the tag says.
fn legacy_codec(format: u8, sixteen_bits: bool) -> Result<(Codec<AudioCodec>, Option<u32>, bool), TagError> {
    let (codec, rate, mono) = match format {
        // 0 is "platform endian"; all platforms that ever sent it were little-endian.
        0 | 3 if sixteen_bits => (AudioCodec::PcmS16Le, None, false),
        0 | 3 => (AudioCodec::PcmU8, None, false),
        1 => (AudioCodec::AdpcmSwf, None, false),
        2 => (AudioCodec::Mp3, None, false),
        4 => (AudioCodec::Nellymoser, Some(16_000), true),
        5 => (AudioCodec::Nellymoser, Some(8_000), true),
        6 => (AudioCodec::Nellymoser, None, false),
        7 => (AudioCodec::PcmAlaw, Some(8_000), false),
        8 => (AudioCodec::PcmMulaw, Some(8_000), false),
        10 => (AudioCodec::Aac, None, false),
        11 => (AudioCodec::Speex, Some(16_000), true),
        14 => (AudioCodec::Mp3, Some(8_000), false),
        15 => return Ok((Codec::Unusable("device-specific audio"), None, false)),
        format => return Err(TagError::UnknownCodec(format!("audio codec number {format}"))),
    };
    Ok((Codec::Known(codec), rate, mono))
}

fn parse_enhanced(body: Bytes, packet: u8, choice: &mut TrackChoice) -> Result<AudioTag, TagError> {
    const MULTITRACK: u8 = 5;
    let tag = |codec, nanos, body, others| AudioTag { codec, nanos, sample_rate: None, channels: None, body, others };
    let tracks = enhanced(body, packet, MULTITRACK, choice)?;
    let Some(chosen) = tracks.chosen else {
        return Ok(tag(Codec::Unusable("no audio"), 0, AudioBody::Nothing, tracks.others));
    };
    let body = match (chosen.packet, chosen.data) {
        (0, data) => AudioBody::Config(data),
        (1, data) if !data.is_empty() => AudioBody::Packet(data),
        // Order, then count.
        (4, data) => data.get(1).map_or(AudioBody::Nothing, |&count| AudioBody::Channels(count)),
        // End of sequence, reserved.
        _ => AudioBody::Nothing,
    };
    Ok(tag(Codec::Known(fourcc_codec(chosen.fourcc)?), chosen.nanos, body, tracks.others))
}

/// E-RTMP `AudioFourCc`.
fn fourcc_codec(fourcc: [u8; 4]) -> Result<AudioCodec, TagError> {
    Ok(match &fourcc {
        b"mp4a" => AudioCodec::Aac,
        b"Opus" => AudioCodec::Opus,
        b"ac-3" => AudioCodec::Ac3,
        b"ec-3" => AudioCodec::Eac3,
        b"fLaC" => AudioCodec::Flac,
        b".mp3" => AudioCodec::Mp3,
        _ => return Err(unknown_fourcc("audio", fourcc)),
    })
}
