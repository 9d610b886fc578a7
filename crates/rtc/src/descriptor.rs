//! The dependency descriptor ("RTP Payload Format for AV1" 1.0, appendix A): an RTP header extension that says to which scalable
//! layer (SVC) a packet belongs, and what that layer depends on. livekit-server separates the layers of one AV1 stream by it.
//! Pure.
//!
//! A single AV1 stream keeps its sender's descriptors; only their frame numbers are shifted, so that they go on whoever sends
//! and whatever was left out: all else in them is relative to the frame that they belong to, or repeated with each key frame.
//!
//! VP9 streams, one per layer, get descriptors of our own. livekit-server (seen in 1.13.5) takes the layer of a VP9 packet from
//! its payload, even of a track announced with one layer per stream, and so takes all streams for the lowest layer. It trusts a
//! descriptor before the payload.

use model::{Packet, VideoCodec, VideoFormat};
use std::sync::Arc;
use str0m::rtp::{Extension, ExtensionSerializer, ExtensionValues};

/// Its URI in `a=extmap` lines.
pub(crate) const URI: &str = "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension";

/// Bytes of the mandatory fields (§A.8.2): two flags, a template id, and the frame number.
const MANDATORY: usize = 3;
/// Bytes that fit the one-byte form of header extensions (RFC 8285 §4.2).
const MAX_ONE_BYTE_FORM: usize = 16;

/// The fields that our descriptor of a key frame has after those (§A.8.3): flags that a structure is there and nothing else;
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
        values.user_values.get::<Descriptor>().is_some_and(|d| d.0.len() > MAX_ONE_BYTE_FORM)
    }
}

/// How a packet is sent, as far as descriptors go by it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrameStamp {
    /// Its RTP timestamp.
    pub(crate) timestamp: u32,
    /// Another source begins here, or packets were left out before it.
    pub(crate) restarted: bool,
}

/// The descriptors of one outgoing stream.
#[derive(Debug)]
pub(crate) enum Descriptors {
    Sender(FrameShift),
    Ours(OwnDescriptors),
}

impl Descriptors {
    /// For the stream of this rank, one of so many; `None` if its packets go without.
    pub(crate) fn of(format: &VideoFormat, rank: usize, streams: usize) -> Option<Self> {
        match source(format.codec, streams).filter(|_| format.described)? {
            Source::Sender => Some(Self::Sender(FrameShift::default())),
            Source::Ours => {
                Some(Self::Ours(OwnDescriptors { template: rank.min(2) as u8, ..OwnDescriptors::default() }))
            }
        }
    }

    /// The one to send with a packet.
    pub(crate) fn next(&mut self, packet: &Packet, stamp: FrameStamp) -> Option<Descriptor> {
        match self {
            Self::Sender(shift) => shift.next(packet.descriptor.as_ref(), stamp.restarted),
            Self::Ours(own) => own.next(packet, stamp.timestamp),
        }
    }
}

/// Shifts the frame numbers of one sender after the other.
#[derive(Debug, Default)]
pub(crate) struct FrameShift {
    by: u16,
    newest: u16,
    /// The next one follows the newest, whatever its number.
    restarted: bool,
}

impl FrameShift {
    fn next(&mut self, descriptor: Option<&Arc<[u8]>>, restarted: bool) -> Option<Descriptor> {
        self.restarted |= restarted;
        let mut bytes = descriptor?.clone();
        let &[_, high, low, ..] = &*bytes else { return None };
        let number = u16::from_be_bytes([high, low]);
        if std::mem::take(&mut self.restarted) {
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

/// Makes descriptors of our own.
#[derive(Debug, Default)]
pub(crate) struct OwnDescriptors {
    /// Its id among those of [`STRUCTURE`].
    template: u8,
    /// The newest frame.
    number: u16,
    timestamp: Option<u32>,
}

impl OwnDescriptors {
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

    fn stamp(timestamp: u32, restarted: bool) -> FrameStamp {
        FrameStamp { timestamp, restarted }
    }

    #[test]
    fn frame_numbers_continue_across_senders() {
        let mut shifted = Descriptors::of(&format(VideoCodec::Av1), 0, 1).unwrap();
        let mut next = |number: u16, restarted| {
            let [high, low] = number.to_be_bytes();
            let sent =
                shifted.next(&packet(0, false, Some(vec![0xc1, high, low, 0x80, 7])), stamp(0, restarted)).unwrap();
            assert_eq!((sent.0[0], &sent.0[3..]), (0xc1, &[0x80, 7][..]), "all else as it came");
            u16::from_be_bytes([sent.0[1], sent.0[2]])
        };
        assert_eq!([next(65_535, true), next(0, false), next(1, false), next(65_535, false)], [1, 2, 3, 1]);
        assert_eq!([next(40_000, true), next(40_002, false)], [4, 6], "another sender");
        assert_eq!(next(39_000, true), 7, "after a pause");
        assert_eq!(shifted.next(&packet(0, false, None), stamp(0, true)), None);
        let later = shifted.next(&packet(0, false, Some(vec![0, 0, 0])), stamp(0, false)).unwrap();
        assert_eq!(&later.0[..], [0, 0, 8]);
    }

    #[test]
    fn vp9_streams_name_their_layer() {
        assert!(Descriptors::of(&format(VideoCodec::Vp9), 0, 1).is_none(), "it may hold layers of its own");
        assert!(Descriptors::of(&format(VideoCodec::Av1), 0, 3).is_none(), "the server goes by the stream");
        let mut own = Descriptors::of(&format(VideoCodec::Vp9), 2, 3).unwrap();
        let mut next = |head, key, timestamp| own.next(&packet(head, key, None), stamp(timestamp, false)).unwrap().0;
        let first = next(0x08, true, u32::MAX);
        assert_eq!(first[..], [&[0x82, 0, 0][..], &STRUCTURE].concat());
        assert_eq!(next(0x04, false, u32::MAX)[..], [0x42, 0, 0]);
        assert_eq!(next(0x0c, false, 2_999)[..], [0xc2, 0, 1]);
        assert_eq!(next(0x00, false, u32::MAX)[..], [0x02, 0, 0], "come late");
    }

    proptest! {
        #[test]
        fn any_descriptor_is_kept_or_left_out(bytes in proptest::collection::vec(any::<u8>(), 0..300), restarted in any::<bool>()) {
            let mut values = ExtensionValues::default();
            let known = Serializer.parse_value(&bytes, &mut values);
            prop_assert_eq!(known, bytes.len() >= MANDATORY);
            let mut buf = [0; 255];
            let written = Serializer.write_to(&mut buf, &values);
            prop_assert!(written == 0 || buf[..written] == bytes[..]);
            let mut shifted = Descriptors::of(&format(VideoCodec::Av1), 0, 1).unwrap();
            let next = shifted.next(&packet(0, false, Some(bytes.clone())), stamp(0, restarted));
            prop_assert_eq!(next.is_some(), known);
        }
    }
}
