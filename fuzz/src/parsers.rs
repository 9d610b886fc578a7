//! Parsers of one value: AMF, tags, codec configurations, messages between parent and child.

use bytes::{Buf, Bytes};
use ipc::{Assignment, Batch, Decoder, Message, demux, transcode};
use media::codec_config::{ac3, av1, avc, flac, flv1, hevc, mpeg_audio, opus};
use media::{nal, picture};
use rtmp::flv::{TrackChoice, parse_audio, parse_video};

/// Promise: what is read comes back the same when it is written and read again.
pub fn amf(data: &[u8]) {
    if let Ok(values) = rtmp::amf::decode(data) {
        let again = rtmp::amf::decode(&rtmp::amf::encode_all(&values));
        // As text: NaN is not equal to itself.
        assert_eq!(format!("{:?}", Ok::<_, rtmp::amf::Error>(values)), format!("{again:?}"));
    }
}

/// Splits into bodies with a length of 16 bits each, as one connection's tags.
fn bodies(mut data: &[u8]) -> Vec<Vec<u8>> {
    let mut bodies = Vec::new();
    while let Some((length, rest)) = data.split_first_chunk::<2>() {
        let (body, after) = rest.split_at(usize::from(u16::from_be_bytes(*length)).min(rest.len()));
        bodies.push(body.to_vec());
        data = after;
    }
    bodies
}

fn tags(data: &[u8], mark: impl Fn(u8) -> [u8; 2]) {
    let (mut video, mut audio) = (TrackChoice::default(), TrackChoice::default());
    for body in bodies(data) {
        let with = |first: u8| Bytes::from([&[first], body.get(1..).unwrap_or_default()].concat());
        let [for_video, for_audio] = mark(body.first().copied().unwrap_or_default());
        let _ = parse_video(with(for_video), &mut video);
        let _ = parse_audio(with(for_audio), &mut audio);
    }
}

/// Tags of the old kind.
pub fn flv_tags(data: &[u8]) {
    tags(data, |first| [first & 0x7f, if first >> 4 == 9 { first & 0x7f } else { first }]);
}

/// Tags with a FourCC.
pub fn enhanced_tags(data: &[u8]) {
    tags(data, |first| [first | 0x80, first & 0xf | 0x90]);
}

/// An avcC record, the parameter sets inside, and the same bytes as a frame.
pub fn avc_config(data: &[u8]) {
    if let Ok(config) = avc::parse(data) {
        assert!(matches!(config.length_size, 1 | 2 | 4));
        normal_units(data, config.length_size);
        picture::h264_is_random_access(data, config.length_size);
    }
    believable(picture::h264_size(data));
    let rates = [avc::frame_rate(data), picture::h264_frame_rate(data)];
    assert!(rates.into_iter().flatten().all(|rate| rate.is_finite() && rate > 0.0));
}

/// Promise: what a decoder gets are whole units, none of them empty, and nothing changes them again.
fn normal_units(data: &[u8], length_size: usize) {
    let (normal, _) = nal::normalized(Bytes::copy_from_slice(data), length_size);
    assert!(nal::length_prefixed(&normal, length_size).all(|unit| unit.is_some_and(|unit| !unit.is_empty())));
    assert_eq!(nal::normalized(normal.clone(), length_size), (normal, false));
}

/// An hvcC record, and a sequence parameter set.
pub fn hevc_config(data: &[u8]) {
    if let Ok(config) = hevc::parse(data) {
        assert!(matches!(config.length_size, 1 | 2 | 4));
        normal_units(data, config.length_size);
        picture::h265_is_random_access(data, config.length_size);
    }
    believable(picture::h265_size(data));
}

/// An av1C record, and the headers of frames that tell a size.
pub fn av1_config(data: &[u8]) {
    if let Ok(size) = av1::parse(data) {
        believable(size);
    }
    believable(picture::vp8_size(data));
    believable(picture::vp9_size(data));
    believable(flv1::size(data));
}

fn believable(size: Option<(u32, u32)>) {
    if let Some((width, height)) = size {
        assert!((1..=16_384).contains(&width) && (1..=16_384).contains(&height));
    }
}

/// Configurations and headers of audio.
pub fn audio_configs(data: &[u8]) {
    let configs = [
        mpeg_audio::parse_aac(data).ok(),
        opus::parse(data).ok(),
        flac::parse(&Bytes::copy_from_slice(data)).ok().map(|(_, config)| config),
        mpeg_audio::mp3_format(data),
        ac3::format(data),
    ];
    if let Some(adts) = mpeg_audio::adts(&Bytes::copy_from_slice(data)) {
        assert!(adts.frames.iter().all(|frame| !frame.is_empty() && frame.len() < data.len()));
    }
    for config in configs.into_iter().flatten() {
        assert!(config.sample_rate != Some(0) && config.channels != Some(0));
    }
}

/// Messages of both directions and all roles. Promise: what is read comes back the same when it is written and read again.
pub fn ipc_messages(data: &[u8]) {
    let Some((&cut, data)) = data.split_first() else { return };
    let cut = usize::from(cut).max(1);
    messages::<Assignment>(data, cut);
    messages::<transcode::Command>(data, cut);
    messages::<transcode::Event>(data, cut);
    messages::<demux::Command>(data, cut);
    messages::<demux::Event>(data, cut);
}

fn messages<M: Message>(data: &[u8], cut: usize) {
    let mut decoder = Decoder::default();
    for mut piece in data.chunks(cut) {
        while !piece.is_empty() {
            piece = &piece[decoder.fill(piece)..];
            loop {
                match decoder.next_message::<M>() {
                    Ok(Some(message)) => assert_eq!(again(&message), format!("{message:?}")),
                    Ok(None) => break,
                    Err(_) => return,
                }
            }
        }
    }
}

/// The message once it was written and read.
fn again<M: Message>(message: &M) -> String {
    let mut batch = Batch::default();
    batch.push(message).expect("what was read is not too long");
    let bytes = batch.copy_to_bytes(batch.remaining());
    let (mut decoder, mut rest) = (Decoder::default(), &bytes[..]);
    loop {
        rest = &rest[decoder.fill(rest)..];
        if let Some(message) = decoder.next_message::<M>().expect("what was written is a message") {
            return format!("{message:?}");
        }
        assert!(!rest.is_empty(), "what was written is whole");
    }
}
