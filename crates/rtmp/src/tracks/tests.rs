//! Streams that FFmpeg recorded in Enhanced FLV, tag by tag, and edge cases of tracks.

use super::*;
use crate::testing::{AVCC, avc, nal};
use model::{AudioCodec, AudioConfig, VideoCodec, VideoConfig};
use proptest::prelude::*;

/// The tags of an FLV file: type, timestamp, body.
fn tags(file: &'static [u8]) -> Vec<(u8, u32, Bytes)> {
    let mut rest = Bytes::from_static(file);
    rest.advance(13);
    let mut tags = Vec::new();
    while let Some(&[kind, s0, s1, s2, t0, t1, t2, t3, ..]) = rest.first_chunk::<11>() {
        rest.advance(11);
        let body = rest.split_to(u32::from_be_bytes([0, s0, s1, s2]) as usize);
        rest.advance(4);
        tags.push((kind, u32::from_be_bytes([t3, t0, t1, t2]), body));
    }
    tags
}

#[derive(Debug, Default)]
struct Taken {
    announced: Option<SourceTracks>,
    video: Vec<VideoConfig>,
    audio: Vec<AudioConfig>,
    frames: Vec<Frame>,
    warnings: Vec<String>,
    unusable: Vec<(Kind, String)>,
}

fn take(messages: impl IntoIterator<Item = (u8, u32, Bytes)>) -> Taken {
    let (mut tracks, mut events, mut taken) = (Tracks::default(), VecDeque::new(), Taken::default());
    for (kind, timestamp, body) in messages {
        match kind {
            kind::DATA => tracks.metadata(&amf::decode(&body).unwrap()[1], &mut events),
            _ => tracks.message(kind, timestamp, body, &mut events),
        }
    }
    tracks.finish(&mut events);
    for event in events {
        match event {
            Event::Media(Media::Announced(tracks)) => taken.announced = Some(tracks),
            Event::Media(Media::VideoConfig(config)) => taken.video.push(config),
            Event::Media(Media::AudioConfig(config)) => taken.audio.push(config),
            Event::Media(Media::Frame(frame)) => taken.frames.push(frame),
            Event::Media(Media::Unusable(kind, text)) => taken.unusable.push((kind, text)),
            Event::Warning(text) => taken.warnings.push(text),
            other => panic!("{other:?}"),
        }
    }
    taken
}

/// One second of 162×90 at 10 pictures a second with a key frame every half second, and of a tone.
#[track_caller]
fn check(file: &'static [u8], video: (VideoCodec, (u32, u32)), audio: (AudioCodec, u32, u8), packets: usize) -> Taken {
    let taken = take(tags(file));
    assert_eq!(taken.announced, Some(SourceTracks { video: true, audio: true }));
    let [config] = &taken.video[..] else { panic!("{:?}", taken.video) };
    assert_eq!((config.codec, config.size), (video.0, Some(video.1)));
    let [config] = &taken.audio[..] else { panic!("{:?}", taken.audio) };
    assert_eq!((config.codec, config.sample_rate, config.channels), (audio.0, Some(audio.1), Some(audio.2)));
    let of = |kind| taken.frames.iter().filter(move |f| f.kind == kind);
    assert_eq!((of(Kind::Video).count(), of(Kind::Audio).count()), (10, packets));
    assert_eq!(of(Kind::Video).filter(|f| f.key).count(), 2);
    for kind in [Kind::Audio, Kind::Video] {
        assert!(of(kind).is_sorted_by(|a, b| a.dts < b.dts));
        assert!(of(kind).all(|f| f.pts >= f.dts && !f.data.is_empty()));
        let (first, last) = (of(kind).next().unwrap(), of(kind).last().unwrap());
        assert!((800..1100).contains(&(last.dts - first.dts).as_millis()), "{kind:?} {first:?} {last:?}");
    }
    taken
}

#[test]
fn hevc_and_opus() {
    let file = include_bytes!("../../tests/data/hevc-opus.flv");
    let taken = check(file, (VideoCodec::H265, (162, 90)), (AudioCodec::Opus, 48_000, 2), 51);
    assert!(taken.frames.iter().any(|f| f.pts > f.dts), "reordered");
    assert_eq!(&taken.audio[0].record[..8], b"OpusHead");
    assert_eq!(taken.warnings, [] as [String; 0]);
}

#[test]
fn av1_and_ac3() {
    let file = include_bytes!("../../tests/data/av1-ac3.flv");
    let taken = check(file, (VideoCodec::Av1, (162, 90)), (AudioCodec::Ac3, 48_000, 2), 32);
    assert!(taken.audio[0].record.is_empty());
}

#[test]
fn av1_with_an_empty_first_start_and_eac3() {
    let file = include_bytes!("../../tests/data/av1-eac3.flv");
    check(file, (VideoCodec::Av1, (162, 90)), (AudioCodec::Eac3, 48_000, 1), 32);
}

#[test]
fn vp9_and_flac() {
    let file = include_bytes!("../../tests/data/vp9-flac.flv");
    let taken = check(file, (VideoCodec::Vp9, (162, 90)), (AudioCodec::Flac, 48_000, 1), 47);
    assert_eq!((taken.video[0].record[0], taken.audio[0].record.len()), (1, 34));
}

#[test]
fn avc_and_mp3() {
    let file = include_bytes!("../../tests/data/avc-mp3.flv");
    let taken = check(file, (VideoCodec::H264, (162, 90)), (AudioCodec::Mp3, 44_100, 1), 40);
    assert!(taken.frames.iter().any(|f| f.pts > f.dts), "reordered");
}

#[test]
fn the_default_of_two_video_tracks_is_taken() {
    let file = include_bytes!("../../tests/data/multitrack.flv");
    let taken = check(file, (VideoCodec::H265, (162, 90)), (AudioCodec::Aac, 48_000, 1), 48);
    assert_eq!(taken.warnings, ["of several video tracks only the first is taken"]);
}

fn video(time: u32, body: &[u8]) -> (u8, u32, Bytes) {
    (kind::VIDEO, time, Bytes::copy_from_slice(body))
}

fn audio(time: u32, body: &[u8]) -> (u8, u32, Bytes) {
    (kind::AUDIO, time, Bytes::copy_from_slice(body))
}

#[test]
fn frames_configure_codecs_without_a_record() {
    let spark = |key: bool, last: u8| [if key { 0x12 } else { 0x22 }, 0, 0, 0x84, 0x00, 0x51, 0x2d, 0x11, last];
    let taken = take([
        video(0, &spark(false, 1)),
        video(40, &spark(true, 2)),
        video(80, &spark(true, 3)),
        video(120, &[0x14, 0x35, 9, 9]), // VP6, another codec in the middle
        video(160, &[0x24, 0x35, 8]),
        audio(0, &[0x2e, 0xff, 0xf3, 0x80, 0xc4, 1]),
        audio(26, &[0x2e, 1, 2, 3, 4, 5]), // no header: belongs to the frame before
        audio(52, &[0x72, 1]),
        audio(72, &[0x72, 1]),
    ]);
    let video: Vec<_> = taken.video.iter().map(|c| (c.codec, &c.record[..], c.size)).collect();
    assert_eq!(video, [(VideoCodec::Flv1, &[][..], Some((162, 90))), (VideoCodec::Vp6, &[0x35][..], None)]);
    let audio: Vec<_> = taken.audio.iter().map(|c| (c.codec, c.sample_rate, c.channels)).collect();
    let wanted = [(AudioCodec::Mp3, Some(22_050), Some(1)), (AudioCodec::PcmAlaw, Some(8_000), Some(1))];
    assert_eq!(audio, wanted);
    assert_eq!(taken.frames.len(), 4 + 4);
    assert_eq!(taken.frames[3].data, [8][..]);
}

#[test]
fn metadata_size_is_the_fallback() {
    let metadata = amf::encode_all(&[
        "onMetaData".into(),
        amf::object([
            ("width", 720.0.into()),
            ("height", 576.0.into()),
            ("videocodecid", 4.0.into()),
            ("hasAudio", amf::Value::Boolean(false)),
            ("audiocodecid", 2.0.into()),
        ]),
    ]);
    let taken = take([(kind::DATA, 0, metadata.into()), video(0, &[0x14, 0, 1])]);
    assert_eq!(taken.announced, Some(SourceTracks { video: true, audio: false }));
    assert_eq!(taken.video[0].size, Some((720, 576)));
    for wrong in [-1.0, 0.0, f64::NAN, f64::INFINITY, 20_000.0] {
        let metadata =
            amf::encode_all(&["onMetaData".into(), amf::object([("width", wrong.into()), ("height", 9.0.into())])]);
        let taken = take([(kind::DATA, 0, metadata.into()), video(0, &[0x14, 0, 1])]);
        assert_eq!((taken.announced, taken.video[0].size), (None, None), "{wrong}");
    }
}

#[test]
fn undecodable_codecs_are_named_once() {
    let too_early = (0..=warnings::MAX_LEFT_OUT).map(|_| video(0, &avc(true, 1, 0, &nal(&[0x65]))));
    let taken = take(
        [
            video(0, &[0x19, 1]),
            video(0, &[0x19, 1]),
            video(0, b"\x91vvc1\0\0\0\0"),
            audio(0, &[0xff, 1]),
            audio(0, &[0xff, 1]),
            video(0, &[0x17, 0, 0, 0, 0]), // an empty configuration says nothing
        ]
        .into_iter()
        .chain(too_early)
        .chain([
            video(0, &avc(true, 0, 0, AVCC)),
            video(0, &avc(true, 1, 0, &[0xff; 9])),
            video(0, &avc(true, 1, 0, &[&nal(&[0x65, 0x88])[..], &[0, 0, 9, 9, 1]].concat())),
        ]),
    );
    let first_words: Vec<_> = taken.warnings.iter().map(|w| w.split(' ').next().unwrap()).collect();
    assert_eq!(first_words, ["MPEG-4", "H.266", "device-specific", "H.264", "video"]);
    let kinds: Vec<_> = taken.unusable.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds, [Kind::Video, Kind::Audio, Kind::Video], "damage alone is no reason to give up");
    assert!(taken.unusable[0].1.starts_with("MPEG-4 part 2 video is left out"));
    assert_eq!(taken.frames.len(), 1);
    assert_eq!(taken.frames[0].data, nal(&[0x65, 0x88]));
}

/// A picture of H.264 that decoding can begin with.
fn key_frame(time: u32) -> (u8, u32, Bytes) {
    video(time, &avc(true, 1, 0, &nal(&[0x65, 0x88])))
}

#[test]
fn a_codec_that_nobody_knows_leaves_the_other_track_alone() {
    let taken = take([
        video(0, &avc(true, 0, 0, AVCC)),
        audio(0, b"\xdfopus"),
        key_frame(0),
        audio(20, b"\xdfopus"),
        audio(20, b"\x91abcd\0"),
        key_frame(40),
    ]);
    assert_eq!(taken.frames.len(), 2);
    let [(Kind::Audio, text)] = &taken.unusable[..] else { panic!("{:?}", taken.unusable) };
    assert!(text.starts_with("unknown audio codec number 13 is left out"), "{text}");
    assert_eq!(taken.warnings.iter().collect::<Vec<_>>(), [text]);
    // Here it is the video; the sound comes at last in a codec that is known.
    let taken = take([video(0, b"\x1d\0"), audio(0, b"\xdfopus"), audio(20, &[0x72, 1])]);
    let kinds: Vec<_> = taken.unusable.iter().map(|(kind, _)| *kind).collect();
    assert_eq!((kinds, taken.frames.len(), taken.audio.len()), (vec![Kind::Video, Kind::Audio], 1, 1));
}

#[test]
fn a_stray_message_is_no_reason_to_give_up_a_track() {
    let stray = || [video(40, b"\x1d\0"), video(40, b"\x91hvc"), video(40, b"\x19\0")];
    let begun = [video(0, &avc(true, 0, 0, AVCC)), key_frame(0), key_frame(40)];
    let taken = take(begun.iter().cloned().chain(stray()).chain([key_frame(80)]));
    assert_eq!((taken.frames.len(), taken.video.len(), taken.unusable.len(), taken.warnings.len()), (3, 1, 0, 3));
    // When nothing else comes, it is one; and the configuration is told again when the track comes back.
    let many = (0..2 * warnings::MAX_LEFT_OUT).map(|_| video(40, b"\x91hvc"));
    let taken = take(begun.into_iter().chain(many).chain([key_frame(80), key_frame(120)]));
    assert_eq!((taken.frames.len(), taken.video.len(), taken.unusable.len(), taken.warnings.len()), (4, 2, 1, 1));
}

#[test]
fn configurations_that_are_none_are_ignored() {
    let mut version_0 = AVCC.to_vec();
    version_0[0] = 0;
    for bad in [&[1][..], &[2, 3], &version_0] {
        let taken = take([
            video(0, &avc(true, 0, 0, bad)),
            video(0, &avc(true, 0, 0, AVCC)),
            key_frame(0),
            video(0, &avc(true, 0, 0, bad)),
            key_frame(40),
        ]);
        assert_eq!((taken.frames.len(), taken.video.len(), taken.warnings.len()), (2, 1, 1), "{bad:?}");
        assert!(taken.warnings[0].starts_with("malformed H.264 configuration"));
        // In its place parameter sets come with the pictures.
        let (sps, pps) = (&AVCC[8..31], &AVCC[34..]);
        let sets = [nal(sps), nal(pps), nal(&[0x65, 0x88])].concat();
        let taken = take([video(0, &avc(true, 0, 0, bad)), video(0, &avc(true, 1, 0, &sets)), key_frame(40)]);
        assert_eq!((taken.frames.len(), taken.video.len(), taken.unusable.len()), (2, 1, 0), "{bad:?}");
    }
    let taken = take([audio(0, &[0xaf, 0, 0, 0]), audio(0, &[0xaf, 0, 0x12, 0x10]), audio(0, &[0xaf, 1, 0x21])]);
    assert_eq!((taken.frames.len(), taken.audio.len(), taken.warnings.len()), (1, 1, 1));
    // Nothing else comes.
    let packets = (0..warnings::MAX_LEFT_OUT).map(|n| audio(n, &[0xaf, 1, 0x21]));
    let taken = take([audio(0, &[0xaf, 0, 0, 0])].into_iter().chain(packets));
    let [(Kind::Audio, text)] = &taken.unusable[..] else { panic!("{:?}", taken.unusable) };
    assert!(text.contains("their decoder configuration is malformed (object type 0 is invalid)"), "{text}");
}

#[test]
fn a_codec_of_0_in_metadata_is_none() {
    let none = [0.0.into(), "".into(), "0".into(), amf::Value::Boolean(false), f64::NAN.into(), amf::Value::Null];
    for none in none {
        let metadata = amf::object([("videocodecid", 7.0.into()), ("audiocodecid", none.clone())]);
        let body = amf::encode_all(&["onMetaData".into(), metadata]);
        let taken = take([(kind::DATA, 0, body.into())]);
        assert_eq!(taken.announced, Some(SourceTracks { video: true, audio: false }), "{none:?}");
    }
    let metadata = amf::object([("videocodecid", "avc1".into()), ("audiocodecid", "mp4a".into())]);
    let body = amf::encode_all(&["onMetaData".into(), metadata]);
    assert_eq!(take([(kind::DATA, 0, body.into())]).announced, Some(SourceTracks { video: true, audio: true }));
}

#[test]
fn opus_without_a_header_gets_one() {
    let taken = take([
        audio(0, b"\x90Opus"),
        audio(0, b"\x94Opus\x01\x01\x00\x00\x00\x04"),
        audio(0, b"\x91Opus\x01"),
        audio(20, b"\x91Opus\x02"),
    ]);
    assert_eq!(taken.audio.len(), 1);
    assert_eq!((taken.audio[0].channels, taken.frames.len()), (Some(1), 2));
}

#[test]
fn nanoseconds_are_added() {
    let taken = take([audio(7, b"\x97\x02\x01\x00\x00\x01Opus\x01")]);
    assert_eq!(taken.frames[0].pts.as_nanos(), 7_065_536);
}

#[test]
fn extreme_timestamps_saturate() {
    let mut clock = Timestamps(Some(i64::MAX - 5));
    assert_eq!(clock.unwrap((i64::MAX as u32).wrapping_add(100)), i64::MAX);
}

/// A configuration and pictures of H.264, each with its units, the type in its tag, and 40 ms after the one before.
fn h264(config: Option<&[u8]>, pictures: &[(bool, &[&[u8]])]) -> Taken {
    let config = config.map(|record| video(0, &avc(true, 0, 0, record)));
    let pictures = pictures.iter().enumerate().map(|(i, (key, units))| {
        let data = units.iter().flat_map(|unit| nal(unit)).collect::<Vec<_>>();
        video(i as u32 * 40, &avc(*key, 1, 0, &data))
    });
    take(config.into_iter().chain(pictures))
}

const IDR: &[u8] = &[0x65, 0x88, 1, 2];
const DELTA: &[u8] = &[0x41, 0x9a, 1, 2];
const RECOVERY: &[u8] = &[0x06, 6, 1, 0xc4, 0x80];

#[test]
fn nal_units_tell_key_frames() {
    // No tag says so; all do.
    for flag in [false, true] {
        let taken = h264(Some(AVCC), &[(flag, &[DELTA]), (flag, &[IDR]), (flag, &[DELTA]), (flag, &[RECOVERY, DELTA])]);
        assert_eq!(taken.frames.iter().map(|f| f.key).collect::<Vec<_>>(), [true, false, true], "{flag}");
        assert_eq!(taken.warnings, [] as [String; 0]);
    }
}

#[test]
fn without_key_frames_decoding_begins_after_a_second() {
    let pictures: Vec<(bool, &[&[u8]])> = vec![(false, &[DELTA]); 60];
    let taken = h264(Some(AVCC), &pictures);
    assert_eq!((taken.frames.len(), taken.frames[0].dts.as_millis()), (35, 1_000));
    assert_eq!(taken.frames.iter().filter(|f| f.key).count(), 1);
    assert!(taken.warnings[0].starts_with("the video has no key frame"), "{:?}", taken.warnings);
}

#[test]
fn annex_b_is_taken() {
    let (sps, pps) = (&AVCC[8..31], &AVCC[34..39]);
    let codes = |units: &[&[u8]]| units.iter().flat_map(|unit| [&[0, 0, 0, 1][..], unit].concat()).collect::<Vec<_>>();
    let expected: Vec<u8> = [IDR, DELTA].into_iter().flat_map(nal).collect();
    // Its configuration is a record, or parameter sets behind start codes, or missing.
    for config in [Some(AVCC.to_vec()), Some(codes(&[sps, pps])), None] {
        let bare = config.is_none();
        let config = config.map(|record| video(0, &avc(true, 0, 0, &record)));
        let first = if bare { codes(&[sps, pps, IDR]) } else { codes(&[IDR]) };
        let pictures = [video(0, &avc(true, 1, 0, &first)), video(40, &avc(false, 1, 0, &codes(&[DELTA])))];
        let taken = take(config.into_iter().chain(pictures));
        assert_eq!(taken.video.len(), 1);
        assert_eq!((taken.video[0].codec, taken.video[0].size), (VideoCodec::H264, Some((64, 48))));
        let data: Vec<u8> = taken.frames.iter().flat_map(|f| f.data.to_vec()).collect();
        assert!(data.ends_with(&expected), "{data:?}");
        assert_eq!(taken.warnings, [] as [String; 0]);
    }
}

#[test]
fn slices_in_messages_of_their_own_are_one_picture() {
    let next: &[u8] = &[0x65, 0x20, 1, 2];
    let message = |time, unit| video(time, &avc(true, 1, 0, &nal(unit)));
    let taken = take([
        video(0, &avc(true, 0, 0, AVCC)),
        message(0, IDR),
        message(0, next),
        message(0, &[]),
        message(40, DELTA),
        message(40, &[0x41, 0x20, 1, 2]),
    ]);
    let frames = taken.frames;
    assert_eq!(frames[0].data, [nal(IDR), nal(next)].concat());
    assert_eq!(frames[1].data, [nal(DELTA), nal(&[0x41, 0x20, 1, 2])].concat());
    assert_eq!((frames.len(), frames[1].dts.as_millis()), (2, 40));
}

#[test]
fn adts_headers_stand_for_a_configuration() {
    // AAC-LC, 48 kHz, stereo: header and two bytes.
    let adts = [0xff, 0xf1, 0x4c, 0x80, 0x01, 0x3f, 0xfc, 0x21, 0x22];
    let tag = |frames: usize| [&[0xaf, 1][..], &adts.repeat(frames)].concat();
    let taken = take([audio(0, &tag(1)), audio(40, &tag(2))]);
    let [config] = &taken.audio[..] else { panic!("{:?}", taken.audio) };
    assert_eq!((config.sample_rate, config.channels, &config.record[..]), (Some(48_000), Some(2), &[0x11, 0x90][..]));
    let times: Vec<_> = taken.frames.iter().map(|f| (f.pts.as_millis(), &f.data[..])).collect();
    assert_eq!(times, [(0, &[0x21, 0x22][..]), (40, &[0x21, 0x22]), (61, &[0x21, 0x22])]);
    // With a configuration only the headers go.
    let taken = take([audio(0, &[0xaf, 0, 0x12, 0x10]), audio(0, &tag(1))]);
    assert_eq!((taken.audio.len(), &taken.frames[0].data[..]), (1, &[0x21, 0x22][..]));
}

proptest! {
    #[test]
    fn frames_follow_a_configuration_and_a_key_frame(
        messages in proptest::collection::vec((8u8..10, any::<u32>(), proptest::collection::vec(any::<u8>(), 0..40)), 0..60),
    ) {
        let (mut tracks, mut events) = (Tracks::default(), VecDeque::new());
        for (kind, time, mut body) in messages {
            // Mostly tags that get somewhere.
            if let Some(first) = body.first_mut() {
                *first = [0x12, 0x22, 0x14, 0x17, 0x27, 0x2f, 0xaf, 0x90][usize::from(*first) % 8];
            }
            tracks.message(kind, time, body.into(), &mut events);
        }
        let (mut video, mut audio, mut started) = (false, false, false);
        for event in events {
            match event {
                Event::Media(Media::VideoConfig(_)) => (video, started) = (true, false),
                Event::Media(Media::AudioConfig(_)) => audio = true,
                Event::Media(Media::Frame(f)) if f.kind == Kind::Video => {
                    prop_assert!(video && (started || f.key));
                    started = true;
                }
                Event::Media(Media::Frame(_)) => prop_assert!(audio),
                _ => {}
            }
        }
    }
}
