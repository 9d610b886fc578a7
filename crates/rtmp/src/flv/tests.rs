//! Tags: what each codec number and FourCC stands for, modifiers, many tracks, and noise.

use super::*;
use model::{AudioCodec, VideoCodec};
use proptest::prelude::*;

fn video(bytes: &[u8]) -> Result<Option<VideoTag>, TagError> {
    parse_video(Bytes::copy_from_slice(bytes), &mut TrackChoice::default())
}

fn audio(bytes: &[u8]) -> Result<Option<AudioTag>, TagError> {
    parse_audio(Bytes::copy_from_slice(bytes), &mut TrackChoice::default())
}

fn frame(composition: i32, data: &'static [u8]) -> VideoBody {
    VideoBody::Frame { composition, data: Bytes::from_static(data) }
}

#[test]
fn legacy_video() {
    let tag = |bytes: &[u8]| video(bytes).unwrap().unwrap();
    let known = |id: u8| tag(&[0x10 | id, 1, 0xff, 0xff, 0xfe, 9]);
    for (id, codec) in [
        (2, VideoCodec::Flv1),
        (3, VideoCodec::ScreenVideo),
        (4, VideoCodec::Vp6),
        (5, VideoCodec::Vp6Alpha),
        (6, VideoCodec::ScreenVideo2),
    ] {
        assert_eq!((known(id).codec, known(id).body), (Codec::Known(codec), frame(0, &[1, 0xff, 0xff, 0xfe, 9])));
    }
    for (id, codec) in [(7, VideoCodec::H264), (12, VideoCodec::H265)] {
        assert_eq!((known(id).codec, known(id).body), (Codec::Known(codec), frame(-2, &[9])));
    }
    assert!(matches!(known(9).codec, Codec::Unusable(_)));
    assert_eq!(video(&[0x1d, 0]), Err(TagError::UnknownCodec("video codec number 13".into())));
    assert_eq!(video(&[]), Ok(None));
    assert_eq!(tag(&[0x17]).body, VideoBody::Nothing);
    assert_eq!(tag(&[0x57, 0]).body, VideoBody::Nothing, "a command");
    assert_eq!([0x17, 0x27, 0x37, 0x47].map(|b| tag(&[b, 2, 0, 0, 0]).key), [true, false, false, true]);
}

#[test]
fn legacy_audio() {
    let known = |first: u8| {
        let tag = audio(&[first, 1, 2]).unwrap().unwrap();
        (tag.codec, tag.sample_rate.unwrap(), tag.channels.unwrap())
    };
    for (first, codec, rate, channels) in [
        (0x0f, AudioCodec::PcmS16Le, 44_100, 2),
        (0x3c, AudioCodec::PcmU8, 44_100, 1),
        (0x1b, AudioCodec::AdpcmSwf, 22_050, 2),
        (0x2f, AudioCodec::Mp3, 44_100, 2),
        (0x4e, AudioCodec::Nellymoser, 16_000, 1),
        (0x5f, AudioCodec::Nellymoser, 8_000, 1),
        (0x66, AudioCodec::Nellymoser, 11_025, 1),
        (0x72, AudioCodec::PcmAlaw, 8_000, 1),
        (0x83, AudioCodec::PcmMulaw, 8_000, 2),
        (0xaf, AudioCodec::Aac, 44_100, 2),
        (0xb2, AudioCodec::Speex, 16_000, 1),
        (0xe2, AudioCodec::Mp3, 8_000, 1),
    ] {
        assert_eq!(known(first), (Codec::Known(codec), rate, channels), "{first:x}");
    }
    assert!(matches!(known(0xff).0, Codec::Unusable(_)));
    assert_eq!(audio(&[0xcf, 1]), Err(TagError::UnknownCodec("audio codec number 12".into())));
    assert_eq!(audio(&[]), Ok(None));
    let body = |bytes: &[u8]| audio(bytes).unwrap().unwrap().body;
    assert_eq!(body(&[0xaf, 0, 7]), AudioBody::Config(Bytes::from_static(&[7])));
    assert_eq!(body(&[0xaf, 1, 7]), AudioBody::Packet(Bytes::from_static(&[7])));
    assert_eq!(
        [body(&[0xaf]), body(&[0xaf, 1]), body(&[0xaf, 9, 9]), body(&[0x2f])],
        [const { AudioBody::Nothing }; 4]
    );
}

#[test]
fn enhanced_video() {
    let tag = |bytes: &[u8]| video(bytes).unwrap().unwrap();
    for (fourcc, codec) in [
        (b"hvc1", VideoCodec::H265),
        (b"avc1", VideoCodec::H264),
        (b"av01", VideoCodec::Av1),
        (b"vp09", VideoCodec::Vp9),
        (b"vp08", VideoCodec::Vp8),
    ] {
        let with = |first: u8, rest: &[u8]| tag(&[&[first][..], fourcc, rest].concat());
        let composed = matches!(codec, VideoCodec::H264 | VideoCodec::H265);
        assert_eq!(with(0x90, &[5]).codec, Codec::Known(codec));
        assert_eq!(with(0x90, &[5]).body, VideoBody::Config(Bytes::from_static(&[5])));
        let whole = if composed { frame(3, &[9]) } else { frame(0, &[0, 0, 3, 9]) };
        assert_eq!((with(0xa1, &[0, 0, 3, 9]).body, with(0xa1, &[0, 0, 3, 9]).key), (whole, false));
        assert_eq!(with(0x93, &[9]).body, frame(0, &[9]));
        for nothing in [0x92, 0x94, 0x95, 0x9f] {
            assert_eq!(with(nothing, &[1]).body, VideoBody::Nothing);
        }
    }
    assert!(matches!(tag(b"\x91vvc1\0\0\0\0").codec, Codec::Unusable(_)));
    assert_eq!(video(b"\x91ab\"\xff"), Err(TagError::UnknownCodec("video codec \"ab\\\"\\xff\"".into())));
    assert_eq!(video(b"\x91hvc"), Err(TagError::Malformed));
    assert_eq!(tag(&[0xd1, 0]).body, VideoBody::Nothing, "a command");
}

#[test]
fn enhanced_audio() {
    let tag = |bytes: &[u8]| audio(bytes).unwrap().unwrap();
    for (fourcc, codec) in [
        (b"mp4a", AudioCodec::Aac),
        (b"Opus", AudioCodec::Opus),
        (b"ac-3", AudioCodec::Ac3),
        (b"ec-3", AudioCodec::Eac3),
        (b"fLaC", AudioCodec::Flac),
        (b".mp3", AudioCodec::Mp3),
    ] {
        let with = |first: u8, rest: &[u8]| tag(&[&[first][..], fourcc, rest].concat());
        assert_eq!(
            (with(0x90, &[5]).codec, with(0x90, &[5]).body),
            (Codec::Known(codec), AudioBody::Config(vec![5].into()))
        );
        assert_eq!(with(0x91, &[5]).body, AudioBody::Packet(vec![5].into()));
        assert_eq!(with(0x92, &[]).body, AudioBody::Nothing);
        assert_eq!(with(0x94, &[1, 2, 0, 0, 0, 3]).body, AudioBody::Channels(2));
    }
    assert_eq!(audio(b"\x91abcd"), Err(TagError::UnknownCodec("audio codec \"abcd\"".into())));
}

#[test]
fn modifiers_add_nanoseconds() {
    let nanos = |bytes: &[u8]| video(bytes).map(|t| t.unwrap().nanos);
    assert_eq!(nanos(b"\x97\x02\x00\x01\x00\x03hvc1\x01"), Ok(256));
    assert_eq!(nanos(b"\x97\x02\xff\xff\xff\x03hvc1\x01"), Ok(999_999));
    // A kind that nobody knows, then one of three bytes in the long form.
    assert_eq!(nanos(b"\x97\x00\x09\x17\xff\x00\x02\x00\x00\x07\x03hvc1\x01"), Ok(7));
    assert_eq!(nanos(b"\x97\x02\x00\x01"), Err(TagError::Malformed));
    assert_eq!(nanos(b"\x97\xff\xff\xff\x00"), Err(TagError::Malformed));
    let tag = audio(b"\x97\x02\x00\x00\x09\x01Opus\x55").unwrap().unwrap();
    assert_eq!((tag.nanos, tag.body), (9, AudioBody::Packet(vec![0x55].into())));
}

#[test]
fn one_of_many_tracks_is_taken() {
    let mut choice = TrackChoice::default();
    let mut parse = |bytes: &[u8]| parse_video(Bytes::copy_from_slice(bytes), &mut choice).map(Option::unwrap);
    // One track, 3: the first that comes.
    let one = parse(b"\x96\x03hvc1\x03\xaa").unwrap();
    assert_eq!((one.body, one.others), (frame(0, &[0xaa]), false));
    let other = parse(b"\x96\x03hvc1\x02\xbb").unwrap();
    assert_eq!((other.body, other.others), (VideoBody::Nothing, true));
    // Many tracks of one codec: 2, then 0, which takes over.
    let many = parse(b"\x96\x13hvc1\x02\x00\x00\x01\xaa\x00\x00\x00\x02\xbb\xcc").unwrap();
    assert_eq!((many.body, many.others), (frame(0, &[0xbb, 0xcc]), true));
    // Many tracks, many codecs.
    let many = parse(b"\x96\x23hvc1\x02\x00\x00\x01\xaaavc1\x00\x00\x00\x01\xdd").unwrap();
    assert_eq!((many.codec, many.body), (Codec::Known(VideoCodec::H264), frame(0, &[0xdd])));
    // A plain tag is track 0; from now on, 3 is another one.
    assert_eq!(parse(b"\x93hvc1\xee").unwrap().body, frame(0, &[0xee]));
    assert_eq!(parse(b"\x96\x03hvc1\x03\xaa").unwrap().body, VideoBody::Nothing);
    for wrong in [
        &b"\x96"[..],
        b"\x96\x33hvc1\x00",
        b"\x96\x06hvc1\x00",
        b"\x96\x13hvc1\x00\x00\x00\x09\x01",
        b"\x96\x27hvc1\x00",
    ] {
        assert_eq!(parse(wrong), Err(TagError::Malformed), "{wrong:?}");
    }
    let tag = audio(b"\x95\x01Opus\x00\x11").unwrap().unwrap();
    assert_eq!((tag.body, tag.others), (AudioBody::Packet(vec![0x11].into()), false));
}

proptest! {
    #[test]
    fn noise_is_read_or_refused(noise in proptest::collection::vec(prop_oneof![any::<u8>(), Just(0x97), Just(0x96)], 0..120)) {
        let _ = (video(&noise), audio(&noise));
    }
}
