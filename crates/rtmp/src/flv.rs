//! Audio and video tags (FLV §E.4.2.1, §E.4.3.1; E-RTMP `ExAudioTagHeader`, `ExVideoTagHeader`). One message body is one tag.
//!
//! Stateless, except for the choice of one track of several. `tracks` applies tags to a stream.

use bytes::{Buf, Bytes};

mod audio;
mod video;

pub use audio::{AudioBody, AudioTag, parse_audio};
pub use video::{VideoBody, VideoTag, parse_video};

/// Why a tag can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TagError {
    /// A codec number or FourCC that does not exist. The text is its name.
    #[error("unknown {0}")]
    UnknownCodec(String),
    /// It ends too early or contradicts itself.
    #[error("the tag ends too early or contradicts itself")]
    Malformed,
}

/// The codec of a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec<T> {
    /// A codec that we take.
    Known(T),
    /// The name of a codec that exists but that no decoder here takes.
    Unusable(&'static str),
}

/// The track of a multitrack stream that is taken: track 0, the publisher's default (E-RTMP), once it is seen; until then the first
/// one seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrackChoice(Option<u8>);

impl TrackChoice {
    fn takes(&mut self, id: u8) -> bool {
        if id == 0 {
            self.0 = Some(0);
        }
        *self.0.get_or_insert(id) == id
    }
}

/// An enhanced tag after its modifiers and for the chosen track.
struct Enhanced {
    packet: u8,
    fourcc: [u8; 4],
    nanos: u32,
    data: Bytes,
}

/// The chosen track of an enhanced tag, if it is there, and whether there were others.
struct Tracks {
    chosen: Option<Enhanced>,
    others: bool,
}

/// Parses an enhanced tag after its first byte, which holds the packet type `packet`. `multitrack` is the packet type for several
/// tracks; that for modifiers is the same for audio and video.
fn enhanced(mut data: Bytes, mut packet: u8, multitrack: u8, choice: &mut TrackChoice) -> Result<Tracks, TagError> {
    let mut nanos = 0;
    while packet == MOD_EX {
        (packet, nanos) = modifier(&mut data, nanos).ok_or(TagError::Malformed)?;
    }
    if packet != multitrack {
        let fourcc = take(&mut data).ok_or(TagError::Malformed)?;
        let others = !choice.takes(0);
        return Ok(Tracks { chosen: Some(Enhanced { packet, fourcc, nanos, data }), others });
    }
    tracks(data, multitrack, nanos, choice).ok_or(TagError::Malformed)
}

/// E-RTMP `AudioPacketType.ModEx` and `VideoPacketType.ModEx`.
const MOD_EX: u8 = 7;
const TIMESTAMP_OFFSET_NANO: u8 = 0;
/// E-RTMP: offsets are below a millisecond.
const MAX_NANOS: u32 = 999_999;

/// Parses one modifier; returns the packet type after it and the nanoseconds.
fn modifier(data: &mut Bytes, mut nanos: u32) -> Option<(u8, u32)> {
    let mut size = usize::from(data.try_get_u8().ok()?) + 1;
    if size == 256 {
        size = usize::from(data.try_get_u16().ok()?) + 1;
    }
    if data.len() <= size {
        return None;
    }
    let value = data.split_to(size);
    let types = data.get_u8();
    if types >> 4 == TIMESTAMP_OFFSET_NANO
        && let Some(&[a, b, c]) = value.first_chunk()
    {
        nanos = u32::from_be_bytes([0, a, b, c]).min(MAX_NANOS);
    }
    Some((types & 0xf, nanos))
}

/// Parses a multitrack tag after its modifiers.
fn tracks(mut data: Bytes, multitrack: u8, nanos: u32, choice: &mut TrackChoice) -> Option<Tracks> {
    const ONE_TRACK: u8 = 0;
    const MANY_CODECS: u8 = 2;
    let types = data.try_get_u8().ok()?;
    let (layout, packet) = (types >> 4, types & 0xf);
    if layout > MANY_CODECS || packet == multitrack || packet == MOD_EX {
        return None;
    }
    let shared = if layout == MANY_CODECS { None } else { Some(take(&mut data)?) };
    let mut found = Tracks { chosen: None, others: false };
    while !data.is_empty() {
        let fourcc = match shared {
            Some(fourcc) => fourcc,
            None => take(&mut data)?,
        };
        let id = data.try_get_u8().ok()?;
        let size = match layout {
            ONE_TRACK => data.len(),
            _ => u32::from_be_bytes({
                let [a, b, c] = take(&mut data)?;
                [0, a, b, c]
            }) as usize,
        };
        if size > data.len() {
            return None;
        }
        let track = data.split_to(size);
        // Track 0 replaces one that came before it in this tag.
        found.others |= found.chosen.is_some();
        if choice.takes(id) {
            found.chosen = Some(Enhanced { packet, fourcc, nanos, data: track });
        } else {
            found.others = true;
        }
    }
    Some(found)
}

fn take<const N: usize>(data: &mut Bytes) -> Option<[u8; N]> {
    let taken = *data.first_chunk()?;
    data.advance(N);
    Some(taken)
}

/// The error for an unknown FourCC.
fn unknown_fourcc(kind: &str, fourcc: [u8; 4]) -> TagError {
    TagError::UnknownCodec(format!("{kind} codec \"{}\"", fourcc.escape_ascii()))
}

#[cfg(test)]
mod tests;
