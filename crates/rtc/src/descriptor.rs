//! The dependency descriptor ("RTP Payload Format for AV1" 1.0, appendix A): an RTP header extension that tells to which layer
//! of a picture a packet belongs, and what that layer builds on. livekit-server takes layers in one stream of AV1 apart by it.
//! Pure.
//!
//! A single stream of AV1 keeps its sender's descriptors; only their frame numbers are shifted, so that they go on whoever sends
//! and whatever was left out: all else in them counts from the frame that they belong to, or is said anew with each key picture.
//!
//! Streams of VP9, one per layer, get descriptors of our own. livekit-server (seen in 1.13.5) takes the layer of a packet of VP9
//! from what is in it, even of a track announced with one layer per stream, and so takes all streams for the lowest layer. It
//! believes a descriptor before the packet.

use crate::rewrite::Numbers;
use model::{Packet, VideoCodec, VideoFormat};
use std::sync::Arc;
use str0m::rtp::{Extension, ExtensionSerializer, ExtensionValues};

/// What session descriptions call it.
pub(crate) const URI: &str = "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension";

/// Bytes of the fields that each descriptor begins with: two flags, a template, and the frame's number.
const MANDATORY: usize = 3;
/// Bytes that the short form of header extensions has room for (RFC 8285 §4.2).
const SHORT: usize = 16;

/// The fields that a key picture's descriptor of ours has after those (§A.8.3): flags that a structure is there and nothing else;
/// its templates begin at number 0; one decode target; three templates, each one spatial layer above the one before (2, 2, then 3:
/// no more), each a switching point of the target (2, 2, 2), with no frame differences, no chains, no sizes.
const STRUCTURE: [u8; 5] = [0b1000_0000, 0b0000_0000, 0b1010_1110, 0b1010_0000, 0];

/// Whose descriptors go with packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The sender's, if it has any.
    Sender,
    /// Ours.
    Ours,
}

/// Whose descriptors are of use with so many streams of this codec.
pub(crate) fn source(codec: VideoCodec, streams: usize) -> Option<Source> {
    match (codec, streams) {
        (VideoCodec::Av1, 0 | 1) => Some(Source::Sender),
        (VideoCodec::Vp9, 2..) => Some(Source::Ours),
        _ => None,
    }
}

/// A descriptor as it stands in a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Descriptor(pub(crate) Arc<[u8]>);

#[derive(Debug)]
struct Serializer;

/// The header extension, for the engine.
pub(crate) fn extension() -> Extension {
    Extension::with_serializer(URI, Serializer)
}

impl ExtensionSerializer for Serializer {
    fn write_to(&self, buf: &mut [u8], values: &ExtensionValues) -> usize {
        let Some(Descriptor(bytes)) = values.user_values.get() else { return 0 };
        let Some(to) = buf.get_mut(..bytes.len()) else { return 0 };
        to.copy_from_slice(bytes);
        bytes.len()
    }

    fn parse_value(&self, buf: &[u8], values: &mut ExtensionValues) -> bool {
        let whole = buf.len() >= MANDATORY;
        if whole {
            values.user_values.set(Descriptor(buf.into()));
        }
        whole
    }

    fn is_video(&self) -> bool {
        true
    }

    fn is_audio(&self) -> bool {
        false
    }

    fn requires_two_byte_form(&self, values: &ExtensionValues) -> bool {
        values.user_values.get::<Descriptor>().is_some_and(|d| d.0.len() > SHORT)
    }
}

/// The descriptors of one outgoing stream.
#[derive(Debug)]
pub(crate) enum Descriptors {
    Passed(Shift),
    Made(Made),
}

impl Descriptors {
    /// For the stream of this rank, one of so many; `None` if its packets go without.
    pub(crate) fn of(format: &VideoFormat, rank: usize, streams: usize) -> Option<Self> {
        match source(format.codec, streams).filter(|_| format.described)? {
            Source::Sender => Some(Self::Passed(Shift::default())),
            Source::Ours => Some(Self::Made(Made { template: rank.min(2) as u8, ..Made::default() })),
        }
    }

    /// The one to send with a packet.
    pub(crate) fn next(&mut self, packet: &Packet, numbers: Numbers) -> Option<Descriptor> {
        match self {
            Self::Passed(shift) => shift.next(packet.descriptor.as_ref(), numbers.anew),
            Self::Made(made) => made.next(packet, numbers.timestamp),
        }
    }
}

/// Frame numbers of one sender after the other.
#[derive(Debug, Default)]
pub(crate) struct Shift {
    by: u16,
    newest: u16,
    /// The next one follows the newest, whatever its number.
    anew: bool,
}

impl Shift {
    fn next(&mut self, descriptor: Option<&Arc<[u8]>>, anew: bool) -> Option<Descriptor> {
        self.anew |= anew;
        let mut bytes = descriptor?.clone();
        let &[_, high, low, ..] = &*bytes else { return None };
        let number = u16::from_be_bytes([high, low]);
        if std::mem::take(&mut self.anew) {
            self.by = self.newest.wrapping_add(1).wrapping_sub(number);
        }
        let number = number.wrapping_add(self.by);
        if is_newer(number.into(), self.newest.into(), u16::MAX.into()) {
            self.newest = number;
        }
        if self.by != 0 {
            Arc::make_mut(&mut bytes)[1..MANDATORY].copy_from_slice(&number.to_be_bytes());
        }
        Some(Descriptor(bytes))
    }
}

/// Descriptors of our own.
#[derive(Debug, Default)]
pub(crate) struct Made {
    /// Of [`STRUCTURE`]'s.
    template: u8,
    /// The newest frame.
    number: u16,
    timestamp: Option<u32>,
}

impl Made {
    fn next(&mut self, packet: &Packet, timestamp: u32) -> Option<Descriptor> {
        /// That the packet begins its frame, or ends it (RFC 9628 §4.2).
        const BEGINS: u8 = 0x08;
        const ENDS: u8 = 0x04;
        let head = packet.payload.first()?;
        let newest = *self.timestamp.get_or_insert(timestamp);
        if is_newer(timestamp, newest, u32::MAX) {
            self.timestamp = Some(timestamp);
            self.number = self.number.wrapping_add(1);
        }
        // Of an earlier frame that comes late it is of no interest which one it is.
        let late = is_newer(newest, timestamp, u32::MAX);
        let number = self.number.wrapping_sub(u16::from(late));
        let flags = u8::from(head & BEGINS != 0) << 7 | u8::from(head & ENDS != 0) << 6;
        let [high, low] = number.to_be_bytes();
        let mut bytes = vec![flags | self.template, high, low];
        if packet.key {
            bytes.extend(STRUCTURE);
        }
        Some(Descriptor(bytes.into()))
    }
}

/// Whether a number that wraps around after `last` comes after another one.
fn is_newer(number: u32, than: u32, last: u32) -> bool {
    let ahead = number.wrapping_sub(than) & last;
    (1..=last / 2).contains(&ahead)
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Kind;
    use proptest::prelude::*;
    use std::time::Instant;

    fn packet(head: u8, key: bool, descriptor: Option<Vec<u8>>) -> Packet {
        Packet {
            kind: Kind::Video,
            layer: 0,
            stream: 1,
            sequence: 0,
            timestamp: 0,
            at: Instant::now(),
            marker: false,
            key,
            level: None,
            orientation: None,
            descriptor: descriptor.map(Into::into),
            before: None,
            payload: [head][..].into(),
        }
    }

    fn format(codec: VideoCodec) -> VideoFormat {
        VideoFormat { codec, parameters: String::new(), described: true }
    }

    fn numbers(timestamp: u32, anew: bool) -> Numbers {
        Numbers { sequence: 0, timestamp, anew }
    }

    #[test]
    fn a_senders_frame_numbers_go_on_from_the_last_ones() {
        let mut passed = Descriptors::of(&format(VideoCodec::Av1), 0, 1).unwrap();
        let mut next = |number: u16, anew| {
            let [high, low] = number.to_be_bytes();
            let sent = passed.next(&packet(0, false, Some(vec![0xc1, high, low, 0x80, 7])), numbers(0, anew)).unwrap();
            assert_eq!((sent.0[0], &sent.0[3..]), (0xc1, &[0x80, 7][..]), "all else as it came");
            u16::from_be_bytes([sent.0[1], sent.0[2]])
        };
        assert_eq!([next(65_535, true), next(0, false), next(1, false), next(65_535, false)], [1, 2, 3, 1]);
        assert_eq!([next(40_000, true), next(40_002, false)], [4, 6], "another sender");
        assert_eq!(next(39_000, true), 7, "after a pause");
        assert_eq!(passed.next(&packet(0, false, None), numbers(0, true)), None);
        let later = passed.next(&packet(0, false, Some(vec![0, 0, 0])), numbers(0, false)).unwrap();
        assert_eq!(&later.0[..], [0, 0, 8]);
    }

    #[test]
    fn streams_of_vp9_say_which_layer_they_are() {
        assert!(Descriptors::of(&format(VideoCodec::Vp9), 0, 1).is_none(), "it may hold layers of its own");
        assert!(Descriptors::of(&format(VideoCodec::Av1), 0, 3).is_none(), "the server goes by the stream");
        let mut made = Descriptors::of(&format(VideoCodec::Vp9), 2, 3).unwrap();
        let mut next = |head, key, timestamp| made.next(&packet(head, key, None), numbers(timestamp, false)).unwrap().0;
        let first = next(0x08, true, u32::MAX);
        assert_eq!(first[..], [&[0x82, 0, 0][..], &STRUCTURE].concat());
        assert_eq!(next(0x04, false, u32::MAX)[..], [0x42, 0, 0]);
        assert_eq!(next(0x0c, false, 2_999)[..], [0xc2, 0, 1]);
        assert_eq!(next(0x00, false, u32::MAX)[..], [0x02, 0, 0], "come late");
    }

    proptest! {
        #[test]
        fn noise_is_passed_on_or_left_out(bytes in proptest::collection::vec(any::<u8>(), 0..300), anew in any::<bool>()) {
            let mut values = ExtensionValues::default();
            let known = Serializer.parse_value(&bytes, &mut values);
            prop_assert_eq!(known, bytes.len() >= MANDATORY);
            let mut buf = [0; 255];
            let written = Serializer.write_to(&mut buf, &values);
            prop_assert!(written == 0 || buf[..written] == bytes[..]);
            let mut passed = Descriptors::of(&format(VideoCodec::Av1), 0, 1).unwrap();
            let next = passed.next(&packet(0, false, Some(bytes.clone())), numbers(0, anew));
            prop_assert_eq!(next.is_some(), known);
        }
    }
}
