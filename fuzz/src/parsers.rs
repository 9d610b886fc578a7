//! Parsers of one value: AMF, tags, codec configurations, messages between parent and child.

use bytes::Bytes;
use ipc::{Decoder, ToChild, ToParent};
use media::codec_config::{ac3, av1, avc, flac, flv1, hevc, mpeg_audio, opus, whole_nals};
use media::picture;
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
        assert!(whole_nals(data, config.length_size) <= data.len());
    }
    believable(picture::h264_size(data));
}

/// An hvcC record, and a sequence parameter set.
pub fn hevc_config(data: &[u8]) {
    if let Ok(config) = hevc::parse(data) {
        assert!(matches!(config.length_size, 1 | 2 | 4));
        assert!(whole_nals(data, config.length_size) <= data.len());
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

/// Configurations and headers of sound.
pub fn sound_configs(data: &[u8]) {
    let sounds = [
        mpeg_audio::parse_aac(data).ok(),
        opus::parse(data).ok(),
        flac::parse(&Bytes::copy_from_slice(data)).ok().map(|(_, sound)| sound),
        mpeg_audio::mp3_sound(data),
        ac3::sound(data),
    ];
    for sound in sounds.into_iter().flatten() {
        assert!(sound.sample_rate != Some(0) && sound.channels != Some(0));
    }
}

/// Messages of both directions. Promise: what is read comes back the same when it is written and read again.
pub fn ipc_messages(data: &[u8]) {
    let Some((&cut, data)) = data.split_first() else { return };
    let (mut to_child, mut to_parent) = (Decoder::<ToChild>::default(), Decoder::<ToParent>::default());
    for piece in data.chunks(usize::from(cut).max(1)) {
        to_child.push(piece);
        to_parent.push(piece);
        while let Ok(Some(message)) = to_child.next_message() {
            let mut bytes = Vec::new();
            ipc::encode(&message, &mut bytes).expect("what was read is not too long");
            let mut again = Decoder::default();
            again.push(&bytes);
            assert_eq!(
                format!("{:?}", again.next_message().map(|m: Option<ToChild>| m)),
                format!("Ok({:?})", Some(message))
            );
        }
        while let Ok(Some(message)) = to_parent.next_message() {
            let mut bytes = Vec::new();
            ipc::encode(&message, &mut bytes).expect("what was read is not too long");
            let mut again = Decoder::default();
            again.push(&bytes);
            assert_eq!(
                format!("{:?}", again.next_message().map(|m: Option<ToParent>| m)),
                format!("Ok({:?})", Some(message))
            );
        }
    }
}
