//! What passes and when, on virtual time, with access units as x264 writes them.

use super::*;
use bytes::Bytes;
use media::codec_config::avc;
use model::{Kind, Quality};
use proptest::prelude::*;

/// 320x180: Main, which says that nothing is reordered; High, which allows two.
const MAIN: [&str; 2] = ["674d400dd901419f9f0110000003001000000303c0f142a480", "68ebc3cb20"];
const HIGH: [&str; 2] = ["6764000dacd941419f9f0110000003001000000303c0f1429960", "68ebe3cb22c0"];

const IDR: u8 = 0x65;
/// `first_mb_in_slice` 0, then the slice type: 5 (P) or 6 (B).
const P: u8 = 0b1001_1010;
const B: u8 = 0b1001_1110;

fn config(sets: [&str; 2]) -> VideoConfig {
    let hex =
        |text: &str| (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect();
    let record = avc::record(&sets.map(hex)).unwrap();
    VideoConfig::new(VideoCodec::H264, Bytes::from(record), None)
}

fn unit(nal: &[u8], bytes: usize) -> Bytes {
    let length = (nal.len() + bytes) as u32;
    Bytes::from([&length.to_be_bytes()[..], nal, &vec![0x55; bytes]].concat())
}

/// A stream of 25 pictures a second.
struct Stream {
    passing: Passing,
    now: Instant,
    number: i64,
    /// Bytes of each picture.
    bytes: usize,
    newest: Option<MediaTime>,
}

impl Stream {
    fn of(sets: [&str; 2], wish: Passthrough) -> Self {
        let (mut passing, now) = (Passing::new(wish), Instant::now());
        let layer = Layer { quality: Quality::Low, width: 320, height: 180, bitrate: 200_000 };
        passing.encoded(Some(Top { layer, max_frame_rate: 30.0 }));
        passing.configure(&config(sets), VideoCodec::H264, now);
        Self { passing, now, number: 0, bytes: 500, newest: None }
    }

    fn new(sets: [&str; 2]) -> Self {
        Self::of(sets, Passthrough::default())
    }

    fn picture(&mut self, nal: &[u8]) -> Verdict {
        let pts = MediaTime::from_millis(self.number * 40);
        let key = nal[0] == IDR;
        let frame = Frame { kind: Kind::Video, pts, dts: pts, key, data: unit(nal, self.bytes) };
        self.number += 1;
        self.now += Duration::from_millis(40);
        let verdict = self.passing.picture(&frame, false, self.newest, self.now);
        self.newest = if verdict.passes { Some(pts) } else { self.newest };
        verdict
    }

    /// GOPs of so many pictures; gives how many pictures were sent.
    fn gops(&mut self, count: usize, length: usize) -> usize {
        let mut sent = 0;
        for n in 0..count * length {
            let verdict = if n % length == 0 { self.picture(&[IDR, 0x88, 0x80]) } else { self.picture(&[0x41, P, 0]) };
            sent += usize::from(verdict.passes);
        }
        sent
    }

    fn state(&self) -> State {
        self.passing.state()
    }
}

#[test]
fn a_stream_that_says_it_reorders_nothing_passes_with_its_second_gop() {
    let mut stream = Stream::new(MAIN);
    assert_eq!(stream.state(), State::Encoding(Reason::Unknown));
    assert_eq!(stream.gops(1, 50), 0);
    let verdict = stream.picture(&[IDR, 0x88, 0x80]);
    assert!(verdict.changed && verdict.passes);
    assert_eq!(stream.state(), State::Passing);
    assert!(!stream.picture(&[0x41, P, 0]).changed);
}

#[test]
fn one_that_says_nothing_is_watched_for_two_gops() {
    let mut stream = Stream::new(HIGH);
    assert_eq!(stream.gops(2, 50), 0);
    assert_eq!(stream.gops(1, 50), 50);
}

#[test]
fn a_picture_that_does_not_fit_is_not_sent() {
    let mut stream = Stream::new(MAIN);
    assert_eq!(stream.gops(2, 50), 50);
    let verdict = stream.picture(&[0x01, B, 0]);
    assert_eq!(verdict, Verdict { passes: false, changed: true });
    assert_eq!(stream.state(), State::Encoding(Reason::Stream(Unfit::BFrames)));
    // Without any more of them it passes again, but not soon.
    assert_eq!(stream.gops(5, 50), 0);
    assert_eq!(stream.gops(2, 50), 100);
    stream.picture(&[0x01, B, 0]);
    assert_eq!(stream.gops(10, 50), 0, "twice as long");
    assert_eq!(stream.gops(2, 50), 100);
}

#[test]
fn what_does_not_fit_is_named() {
    let reason = |stream: &mut Stream| match stream.state() {
        State::Encoding(reason) => reason.as_str(),
        state => panic!("{state:?}"),
    };
    let mut stream = Stream::new(MAIN);
    stream.gops(2, 150);
    assert_eq!(reason(&mut stream), "key_interval");
    let mut stream = Stream::new(MAIN);
    stream.bytes = 3_000;
    stream.gops(3, 50);
    assert_eq!(reason(&mut stream), "bitrate");
    let mut stream = Stream::new(MAIN);
    let layer = Layer { quality: Quality::Low, width: 640, height: 360, bitrate: 200_000 };
    stream.passing.encoded(Some(Top { layer, max_frame_rate: 30.0 }));
    stream.gops(3, 50);
    assert_eq!(reason(&mut stream), "size");
    let mut stream = Stream::new(MAIN);
    let layer = Layer { width: 320, height: 180, ..layer };
    stream.passing.encoded(Some(Top { layer, max_frame_rate: 15.0 }));
    stream.gops(3, 50);
    assert_eq!(reason(&mut stream), "frame_rate");
    let mut stream = Stream::new(MAIN);
    let vp8 = VideoConfig::new(VideoCodec::Vp8, Bytes::new(), None);
    stream.passing.configure(&vp8, VideoCodec::H264, stream.now);
    stream.gops(3, 50);
    assert_eq!(reason(&mut stream), "codec");
    let mut stream = Stream::new(MAIN);
    assert_eq!(stream.gops(2, 50), 50);
    let turned = VideoConfig { rotation: Rotation::Clockwise90, ..config(MAIN) };
    assert!(stream.passing.configure(&turned, VideoCodec::H264, stream.now), "the same parameter sets, turned");
    assert_eq!((stream.gops(3, 50), reason(&mut stream)), (0, "rotation"));
    let mut stream = Stream::new(MAIN);
    stream.gops(2, 50);
    stream.number += 20;
    stream.picture(&[0x41, P, 0x40]);
    assert_eq!(reason(&mut stream), "missing");
    assert_eq!(stream.gops(2, 50), 50, "with the second key frame it passes again");
    let mut stream = Stream::of(MAIN, Passthrough { enabled: false, ..Passthrough::default() });
    assert_eq!(stream.gops(5, 50), 0);
}

#[test]
fn of_several_reasons_one_is_said() {
    let mut stream = Stream::new(HIGH);
    stream.bytes = 3_000;
    let mut said = 0;
    for n in 0..500 {
        let nal: &[u8] = if n % 50 == 0 { &[IDR, 0x88, 0x80] } else { &[[0x41, P, 0], [0x01, B, 0]][n % 2] };
        said += u32::from(stream.picture(nal).changed);
    }
    assert_eq!((said, stream.state()), (1, State::Encoding(Reason::Stream(Unfit::BFrames))));
}

#[test]
fn a_burst_of_bits_is_left_at_once() {
    let mut stream = Stream::new(MAIN);
    assert_eq!(stream.gops(3, 50), 100);
    stream.bytes = 20_000;
    let sent = stream.gops(1, 50);
    assert!(sent < 5, "{sent}");
    assert_eq!(stream.state(), State::Encoding(Reason::Bitrate));
}

#[test]
fn a_key_frame_that_is_wanted_is_bridged() {
    let mut stream = Stream::new(MAIN);
    assert_eq!(stream.gops(3, 50), 100);
    assert!(!stream.passing.keyframe_wanted(stream.now), "the next is due in 40 ms");
    stream.picture(&[IDR, 0x88, 0x80]);
    stream.picture(&[0x41, P, 0]);
    assert!(stream.passing.keyframe_wanted(stream.now));
    assert!(!stream.passing.keyframe_wanted(stream.now), "once");
    assert_eq!(stream.state(), State::Bridging);
    assert!(stream.picture(&[0x41, P, 0]).passes, "until the encoder has taken over");
    assert!(stream.picture(&[IDR, 0x88, 0x80]).changed);
    assert_eq!(stream.state(), State::Passing);
}

#[test]
fn too_much_bridging_is_encoding() {
    let mut stream = Stream::new(MAIN);
    stream.gops(3, 50);
    let mut asked = 0;
    while stream.state() != State::Encoding(Reason::Bridging) {
        asked += 1;
        assert!(asked < 30, "{:?}", stream.state());
        // Somebody comes with each GOP.
        stream.picture(&[IDR, 0x88, 0x80]);
        assert!(stream.passing.keyframe_wanted(stream.now), "an encoder has to make it in any case");
        for _ in 0..49 {
            stream.picture(&[0x41, P, 0]);
        }
    }
    assert_eq!(asked, 16, "half a minute of it is bridged");
}

#[test]
fn a_source_that_stalls_is_bridged() {
    let mut stream = Stream::new(MAIN);
    stream.gops(3, 50);
    assert!(stream.passing.stalls(stream.now));
    assert_eq!(stream.state(), State::Bridging);
    assert!(!stream.passing.stalls(stream.now));
    // What was shown meanwhile is newer than the key frame that was on its way.
    stream.newest = Some(MediaTime::from_millis(stream.number * 40 + 300));
    assert_eq!(stream.gops(1, 50), 50, "the plan keeps them back");
    assert_eq!(stream.state(), State::Bridging);
    stream.gops(1, 50);
    assert_eq!(stream.state(), State::Passing);
}

#[test]
fn the_same_configuration_again_changes_nothing() {
    let mut stream = Stream::new(MAIN);
    stream.gops(3, 50);
    assert!(!stream.passing.configure(&config(MAIN), VideoCodec::H264, stream.now));
    assert_eq!(stream.state(), State::Passing);
    assert!(stream.passing.configure(&config(HIGH), VideoCodec::H264, stream.now));
    assert_eq!(stream.state(), State::Encoding(Reason::Unknown));
}

proptest! {
    /// Whatever comes: nothing is sent but while passing; the first that is sent is an IDR picture; nothing that does not fit is sent.
    #[test]
    fn nothing_broken_is_ever_sent(pictures in proptest::collection::vec((0u8..12, 0u8..4, 1usize..2_000), 1..600)) {
        let mut stream = Stream::new(MAIN);
        let mut follows = false;
        for (kind, event, bytes) in pictures {
            stream.bytes = bytes;
            let nal: &[u8] = match kind {
                0 | 1 => &[IDR, 0x88, 0x80],
                2 => &[0x01, B, 0],
                3 => &[0x06, 5, 1],
                _ => &[0x41, P, 0],
            };
            match event {
                0 => drop(stream.passing.keyframe_wanted(stream.now)),
                1 if kind == 5 => drop(stream.passing.stalls(stream.now)),
                _ => {}
            }
            let passed = stream.passing.passes();
            let verdict = stream.picture(nal);
            prop_assert_eq!(verdict.passes && !stream.passing.passes(), false);
            if verdict.passes {
                prop_assert!(follows || nal[0] == IDR, "sent behind a gap");
                prop_assert!(nal != [0x01, B, 0]);
            }
            follows = stream.passing.passes() && (passed && follows || nal[0] == IDR);
        }
    }
}
