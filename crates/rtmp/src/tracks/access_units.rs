//! Puts access units of H.264 and H.265 together from video messages. A message carries one (FLV §E.4.3.2), but some drones and phones
//! send each slice in a message of its own, or parameter sets apart from their picture.
//!
//! A message that begins a picture does not show whether others will continue it. The first of a stream is held until the next one
//! shows that. Where messages are whole access units, each goes on at once from then on; where they are parts, an access unit is
//! complete when the next one begins.

use bytes::{Bytes, BytesMut};
use media::au_detector::SliceSyntax;
use media::nal;
use model::MediaTime;

/// Access units of one message each, in a row, after which messages are taken for whole again. Ten seconds at 30 a second.
const WHOLE_AFTER: u32 = 300;
/// Bytes of an access unit at most: as of one message.
const MAX_BYTES: usize = 8 << 20;
/// How much audio may come behind the first access unit before that counts as complete: slices of one picture come closer together, and
/// an encoder of one picture a second must not wait for its next.
const MAX_HELD: MediaTime = MediaTime::from_millis(200);

/// What a message brings: NAL units, each behind its length, none of them empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) dts: MediaTime,
    pub(super) pts: MediaTime,
    pub(super) data: Bytes,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct AccessUnits {
    messages: Messages,
    /// The access unit that may go on, or what precedes one.
    held: Option<Held>,
}

/// What messages are.
#[derive(Debug, Default, PartialEq, Eq)]
enum Messages {
    #[default]
    Unknown,
    Whole,
    /// Parts of access units; so many of the last ones were whole.
    Parts(u32),
}

#[derive(Debug)]
struct Held {
    dts: MediaTime,
    pts: MediaTime,
    data: BytesMut,
    /// Whether it has a slice: parameter sets and the like alone are no access unit.
    sliced: bool,
    messages: u32,
    /// The time of the first audio that came behind it.
    audio_from: Option<MediaTime>,
}

impl AccessUnits {
    /// Takes a message, and gives access units that are complete to `ready`. False if one was given before it was complete, or is too
    /// long: what follows builds on a damaged picture.
    pub(super) fn push(&mut self, part: Part, syntax: SliceSyntax, length_size: usize, ready: &mut Vec<Part>) -> bool {
        let first = nal::length_prefixed(&part.data, length_size).flatten().find_map(|unit| {
            // A slice that is cut off behind its header counts as a first one.
            syntax.slice(unit).map(|first| first || unit.len() < 3)
        });
        match first {
            Some(true) => {
                if self.held.as_ref().is_some_and(|held| held.sliced) {
                    self.next_begins(ready);
                }
                self.hold(part, true)
            }
            Some(false) if self.held.as_ref().is_some_and(|held| held.sliced) => {
                self.messages = Messages::Parts(0);
                return self.extend(part);
            }
            // What it continues has been given already.
            Some(false) => {
                self.messages = Messages::Parts(0);
                return false;
            }
            // After the slices of the same picture, or before those of the next.
            None => match &self.held {
                Some(held) if held.sliced && held.dts == part.dts => return self.extend(part),
                Some(held) if held.sliced => {
                    self.next_begins(ready);
                    self.hold(part, false);
                }
                _ => self.hold(part, false),
            },
        }
        if self.messages == Messages::Whole && self.held.as_ref().is_some_and(|held| held.sliced) {
            self.flush(ready);
        }
        true
    }

    /// Gives the access unit that is held, if it is one: no other message continues it.
    pub(super) fn flush(&mut self, ready: &mut Vec<Part>) {
        if let Some(held) = self.held.take_if(|held| held.sliced) {
            ready.push(Part { dts: held.dts, pts: held.pts, data: held.data.freeze() });
        }
    }

    /// Audio of this time has come. It may be ahead of video by any time, so that only what it moves on counts; and where messages are
    /// known to be parts, nothing but the next picture ends one.
    pub(super) fn audio(&mut self, at: MediaTime, ready: &mut Vec<Part>) {
        let Some(held) = self.held.as_mut().filter(|_| self.messages == Messages::Unknown) else { return };
        if at - *held.audio_from.get_or_insert(at) > MAX_HELD {
            self.flush(ready);
        }
    }

    fn next_begins(&mut self, ready: &mut Vec<Part>) {
        let whole = self.held.as_ref().is_some_and(|held| held.messages == 1);
        self.messages = match self.messages {
            Messages::Unknown if whole => Messages::Whole,
            Messages::Parts(count) if whole && count + 1 >= WHOLE_AFTER => Messages::Whole,
            Messages::Parts(count) if whole => Messages::Parts(count + 1),
            Messages::Parts(_) => Messages::Parts(0),
            Messages::Unknown | Messages::Whole => Messages::Whole,
        };
        self.flush(ready);
    }

    /// Holds a message that begins an access unit, behind what precedes it.
    fn hold(&mut self, part: Part, sliced: bool) {
        let before = self.held.take().filter(|held| held.data.len() + part.data.len() <= MAX_BYTES);
        let data = match before {
            Some(mut held) => {
                held.data.extend_from_slice(&part.data);
                held.data
            }
            // The message is ours alone, so that nothing is copied.
            None => BytesMut::from(part.data),
        };
        self.held = Some(Held { dts: part.dts, pts: part.pts, data, sliced, messages: 1, audio_from: None });
    }

    fn extend(&mut self, part: Part) -> bool {
        let Some(held) = &mut self.held else { return false };
        if held.data.len() + part.data.len() > MAX_BYTES {
            self.held = None;
            return false;
        }
        held.data.extend_from_slice(&part.data);
        held.messages += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SPS: &[u8] = &[0x67, 1, 2, 3];
    const FIRST: &[u8] = &[0x65, 0x88, 1, 2];
    const NEXT: &[u8] = &[0x65, 0x20, 1, 2];
    const P_FIRST: &[u8] = &[0x41, 0x9a, 1, 2];
    const P_NEXT: &[u8] = &[0x41, 0x20, 1, 2];

    fn part(ms: i64, units: &[&[u8]]) -> Part {
        let mut data = Vec::new();
        units.iter().for_each(|unit| nal::push_length_prefixed(&mut data, unit));
        let at = MediaTime::from_millis(ms);
        Part { dts: at, pts: at, data: data.into() }
    }

    struct Rig(AccessUnits);

    impl Rig {
        fn push(&mut self, ms: i64, units: &[&[u8]]) -> (bool, Vec<Part>) {
            let mut ready = Vec::new();
            (self.0.push(part(ms, units), SliceSyntax::H264, 4, &mut ready), ready)
        }
    }

    #[test]
    fn whole_messages_go_on_at_once_from_the_second_on() {
        let mut rig = Rig(AccessUnits::default());
        assert_eq!(rig.push(0, &[SPS, FIRST, NEXT]), (true, vec![]));
        assert_eq!(rig.push(33, &[P_FIRST]), (true, vec![part(0, &[SPS, FIRST, NEXT]), part(33, &[P_FIRST])]));
        assert_eq!(rig.push(66, &[P_FIRST]), (true, vec![part(66, &[P_FIRST])]));
    }

    #[test]
    fn slices_of_one_picture_become_one_access_unit() {
        let mut rig = Rig(AccessUnits::default());
        for (ms, units) in [(0, &[SPS, FIRST][..]), (0, &[NEXT]), (1, &[NEXT])] {
            assert_eq!(rig.push(ms, units), (true, vec![]));
        }
        assert_eq!(rig.push(33, &[P_FIRST]), (true, vec![part(0, &[SPS, FIRST, NEXT, NEXT])]));
        assert_eq!(rig.push(33, &[P_NEXT]), (true, vec![]));
        assert_eq!(rig.push(66, &[P_FIRST]), (true, vec![part(33, &[P_FIRST, P_NEXT])]));
        let mut ready = Vec::new();
        (0..20).for_each(|n| rig.0.audio(MediaTime::from_millis(n * 100), &mut ready));
        assert!(ready.is_empty(), "nothing but the next picture ends one");
        rig.0.flush(&mut ready);
        assert_eq!(ready, [part(66, &[P_FIRST])]);
    }

    #[test]
    fn the_first_picture_does_not_wait_for_a_slow_second() {
        let mut rig = Rig(AccessUnits::default());
        rig.push(0, &[FIRST]);
        let mut ready = Vec::new();
        // The encoder's audio is half a second ahead.
        for ms in [500, 520, 700] {
            rig.0.audio(MediaTime::from_millis(ms), &mut ready);
            assert!(ready.is_empty());
        }
        rig.0.audio(MediaTime::from_millis(721), &mut ready);
        assert_eq!(ready, [part(0, &[FIRST])]);
        assert_eq!(rig.push(1_000, &[P_FIRST]), (true, vec![]));
        assert_eq!(rig.push(2_000, &[P_FIRST]).1.len(), 2);
    }

    #[test]
    fn parts_of_a_picture_that_was_given_are_damage() {
        let mut rig = Rig(AccessUnits::default());
        rig.push(0, &[FIRST]);
        rig.push(33, &[P_FIRST]);
        assert_eq!(rig.push(33, &[P_NEXT]), (false, vec![]));
        // From now on access units are put together.
        assert_eq!(rig.push(66, &[FIRST]), (true, vec![]));
        assert_eq!(rig.push(66, &[NEXT]), (true, vec![]));
        assert_eq!(rig.push(99, &[P_FIRST]), (true, vec![part(66, &[FIRST, NEXT])]));
        // And no more, once all have been whole for long.
        for n in 0..WHOLE_AFTER as usize {
            assert_eq!(rig.push(133, &[P_FIRST]).1.len(), 1 + usize::from(n + 1 == WHOLE_AFTER as usize), "{n}");
        }
        assert_eq!(rig.push(166, &[P_FIRST]), (true, vec![part(166, &[P_FIRST])]));
    }

    #[test]
    fn parameter_sets_apart_go_before_their_picture() {
        let mut rig = Rig(AccessUnits::default());
        assert_eq!(rig.push(0, &[SPS]), (true, vec![]));
        assert_eq!(rig.push(0, &[FIRST]), (true, vec![]));
        assert_eq!(rig.push(33, &[SPS]), (true, vec![part(0, &[SPS, FIRST])]));
        assert_eq!(rig.push(33, &[P_FIRST]), (true, vec![part(33, &[SPS, P_FIRST])]));
        let mut ready = Vec::new();
        rig.0.flush(&mut ready);
        assert!(ready.is_empty(), "{ready:?}");
    }

    #[test]
    fn an_access_unit_without_end_is_dropped() {
        let mut rig = Rig(AccessUnits::default());
        let (first, next) = ([FIRST, &[1; MAX_BYTES / 2]].concat(), [NEXT, &[1; MAX_BYTES / 2]].concat());
        assert!(rig.push(0, &[&first]).0);
        assert_eq!(rig.push(0, &[&next]), (false, vec![]));
        assert_eq!(rig.push(0, &[NEXT]), (false, vec![]));
        assert_eq!(rig.push(33, &[FIRST]), (true, vec![]));
    }

    proptest! {
        /// However pictures are cut into messages, from the second key picture on each comes out once, as a whole.
        #[test]
        fn any_cut_gives_whole_pictures(
            pictures in proptest::collection::vec((1usize..6, any::<u8>(), any::<bool>()), 3..40),
        ) {
            let (mut units, mut sent, mut got, mut damaged) = (AccessUnits::default(), Vec::new(), Vec::new(), false);
            for (i, (slices, cut, sets)) in pictures.into_iter().enumerate() {
                let ms = i as i64 * 33;
                let mut picture: Vec<&[u8]> = if sets { vec![SPS] } else { vec![] };
                picture.push(FIRST);
                picture.extend(std::iter::repeat_n(NEXT, slices - 1));
                sent.push(part(ms, &picture));
                let mut rest = &picture[..];
                while !rest.is_empty() {
                    let length = 1 + usize::from(cut) % rest.len();
                    let (message, after) = rest.split_at(length);
                    rest = after;
                    let mut ready = Vec::new();
                    damaged |= !units.push(part(ms, message), SliceSyntax::H264, 4, &mut ready);
                    got.extend(ready);
                }
            }
            units.flush(&mut got);
            if !damaged {
                prop_assert_eq!(got, sent);
            } else {
                prop_assert!(got.windows(2).all(|w| w[0].dts < w[1].dts));
            }
        }
    }
}
