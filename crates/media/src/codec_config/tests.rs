//! Configuration records and headers from real encoders (x264, x265, libvpx, SVT-AV1, libaom, FFmpeg's own), and malformed ones.

use super::*;
use crate::ConfigError;
use crate::picture;
use bytes::Bytes;
use proptest::prelude::*;

#[test]
fn sizes_of_h264() {
    let size = |sps| picture::h264_size(&hex(sps));
    assert_eq!(size("6742c00ad9047b011000000300100000030320f1226480"), Some((64, 48)));
    // Interlaced and cropped by 8 lines.
    assert_eq!(size("67640028acd94078044fde0220000003002000000643e2c5b2c0"), Some((1920, 1080)));
    assert_eq!(size("6764001eacd940a020fc460220000003002000000643e28532c0"), Some((640, 484)));
    // 4:2:2 with 10 bits, 4:4:4, and grey, each with other cropping units.
    assert_eq!(size("677a000db6cd941519e222f011000003000100000300320f142996"), Some((322, 182)));
    assert_eq!(size("67f4000c919b282833f1b808800000030080000019078a14cb"), Some((320, 180)));
    assert_eq!(size("6764000af3651c9e365c05b2000003000200000300641e244b2c"), Some((100, 60)));
    assert_eq!(size("67"), None);
    assert_eq!(size(""), None);
}

#[test]
fn sizes_of_h265() {
    let size = |sps| picture::h265_size(&hex(sps));
    assert_eq!(
        size("42010101600000030090000003000003003ca00a480b9c9596566924caf0168080000003008000000c84"),
        Some((322, 182))
    );
    assert_eq!(
        size("4201010408000003009d0800000300001eb0152061c93b65959a4932bc05a02000000300200000030321"),
        Some((162, 90))
    );
    assert_eq!(
        size("4201010408000003009e0800000300001e9002840c3e7cb2b349265780b4040000030004000003006420"),
        Some((160, 90))
    );
    // With temporal layers.
    let layered = "4201040160000003009000000300000300780000a003c08010e5965652b295964932bc05a02000000300200000030321";
    assert_eq!(size(layered), Some((1920, 1080)));
    assert_eq!(size("4201"), None);
}

#[test]
fn avc_records_are_checked() {
    assert_eq!(avc::parse(AVCC), Ok(NalConfig { length_size: 4, size: Some((64, 48)) }));
    let changed = |at: usize, value: u8| {
        let mut record = AVCC.to_vec();
        record[at] = value;
        avc::parse(&record)
    };
    for (at, value) in [(0, 0), (4, 0xfe), (5, 0xe2), (6, 1), (8, 0x68), (31, 2)] {
        assert!(matches!(changed(at, value), Err(ConfigError { codec: "H.264", .. })), "{at} {value}");
    }
    for end in 0..AVCC.len() {
        assert!(avc::parse(&AVCC[..end]).is_err(), "{end}");
    }
    // A parameter set that does not parse is for the decoder to judge.
    assert_eq!(changed(9, 0xff).map(|c| c.length_size), Ok(4));
}

#[test]
fn records_are_made_of_parameter_sets() {
    let sets = [hex("6742c00ad9047b011000000300100000030320f1226480"), hex("68cb83cb20")];
    let record = avc::record(&sets).unwrap();
    assert_eq!(record, AVCC);
    assert_eq!((avc::length_size(&record), avc::length_size(&[])), (4, 4));
    assert_eq!((avc::record(&sets[..1]), avc::record(&sets[1..]), avc::record(&[Vec::new()])), (None, None, None));
    let sps = hex("4201010408000003009e0800000300001e9002840c3e7cb2b349265780b4040000030004000003006420");
    let record = hevc::record(&[vec![0x40, 1, 2], sps, vec![0x44, 1, 2]]).unwrap();
    assert_eq!(hevc::parse(&record), Ok(NalConfig { length_size: 4, size: Some((160, 90)) }));
    assert_eq!(hevc::record(&[vec![0x40, 1, 2]]), None);
}

#[test]
fn sizes_of_vp8_and_vp9() {
    assert_eq!(picture::vp8_size(&hex("9044009d012aa2005a00004708858588")), Some((162, 90)));
    assert_eq!(picture::vp8_size(&hex("9144009d012aa2005a00004708858588")), None);
    for frame in [
        "82498342000a1005960438241c184200", // 4:2:0
        "a249834200014200b2c0c70483830940", // 4:4:4
        "a2498342e00a1005960638241c184a00", // RGB
        "9249834200050802cb031c120e0c2c00", // 10 bits
    ] {
        assert_eq!(picture::vp9_size(&hex(frame)), Some((162, 90)), "{frame}");
    }
    assert_eq!(picture::vp9_size(&hex("8649")), None);
}

#[test]
fn sizes_of_sorenson_spark() {
    for (frame, size) in [
        ("00008400512d119e72aa0300", (162, 90)),
        ("00008401121e73e80c0070f8", (352, 288)),
        ("0000840080a10079121e73e8", (322, 242)),
        ("00008403119e72aa03002624", (160, 120)),
    ] {
        assert_eq!(flv1::size(&hex(frame)), Some(size), "{frame}");
    }
    assert_eq!(flv1::size(&hex("0001840311")), None);
}

#[test]
fn av1_records_are_checked() {
    assert_eq!(av1::parse(&hex("81000c000a0b020000051da86c805f0008")).unwrap(), Some((162, 90)));
    // libaom, reduced to what one operating point needs.
    assert_eq!(av1::parse(&hex("81000c000a0a00000003b50d936be401")).unwrap(), Some((162, 90)));
    assert_eq!(av1::parse(&hex("810c000a")), Ok(None));
    assert_eq!(av1::parse(&hex("81000c00")), Ok(None));
    assert!(av1::parse(&hex("01000c00")).is_err());
    assert!(av1::parse(&hex("8100")).is_err());
}

#[test]
fn audio_formats_are_read_from_headers() {
    let sound = |rate, channels| Some(AudioFormat { sample_rate: Some(rate), channels: Some(channels) });
    assert_eq!(ac3::format(&hex("0b77b7920840ebf8403efe00")), sound(48_000, 6));
    assert_eq!(ac3::format(&hex("0b77fc8a084043e106f0010c")), sound(48_000, 2));
    assert_eq!(ac3::format(&hex("0b772c9688402f842ba1cefa")), sound(32_000, 1));
    assert_eq!(ac3::format(&hex("0b77008a7f87c00020b82000")), sound(44_100, 6));
    assert_eq!(ac3::format(&hex("0b78008a7f87c00020b82000")), None);
    assert_eq!(mpeg_audio::mp3_format(&hex("fff380c4001c888a")), sound(22_050, 1));
    assert_eq!(mpeg_audio::mp3_format(&hex("fffb546400001711")), sound(48_000, 2));
    assert_eq!(mpeg_audio::mp3_format(&hex("ffe38864000bb449")), sound(8_000, 2));
    assert_eq!(mpeg_audio::mp3_format(&hex("fffffc64")), None);
}

#[test]
fn audio_specific_configs_are_checked() {
    let sound = |rate, channels| Ok(AudioFormat { sample_rate: Some(rate), channels });
    assert_eq!(mpeg_audio::parse_aac(&hex("1210")), sound(44_100, Some(2)));
    assert_eq!(mpeg_audio::parse_aac(&hex("11b0")), sound(48_000, Some(6)));
    assert_eq!(mpeg_audio::parse_aac(&hex("1188")), sound(48_000, Some(1)));
    assert_eq!(mpeg_audio::parse_aac(&hex("1180")), sound(48_000, None), "in a program config element");
    // The rate in full: 2, 15, 24 bits of 44 100, 2.
    assert_eq!(mpeg_audio::parse_aac(&hex("1780562210")), sound(44_100, Some(2)));
    for wrong in ["", "12", "0210", "1690", "1710", "1248", "f8"] {
        assert!(mpeg_audio::parse_aac(&hex(wrong)).is_err(), "{wrong}");
    }
}

#[test]
fn opus_heads_are_checked_and_made() {
    let head = b"OpusHead\x01\x02\x38\x01\x80\xbb\x00\x00\x00\x00\x00";
    assert_eq!(opus::parse(head).unwrap().channels, Some(2));
    assert_eq!(opus::parse(&opus::header(1)).unwrap().channels, Some(1));
    assert_eq!(opus::header(9)[9], 2);
    let changed = |at: usize, value: u8| {
        let mut head = head.to_vec();
        head[at] = value;
        opus::parse(&head)
    };
    for (at, value) in [(0, b'o'), (8, 0x10), (9, 0), (9, 3), (18, 1)] {
        assert!(changed(at, value).is_err(), "{at} {value}");
    }
    assert!(opus::parse(&head[..18]).is_err());
    let surround = [&head[..9], &[6, 0, 0, 0x80, 0xbb, 0, 0, 0, 0, 1, 4, 2, 0, 4, 1, 2, 3, 5]].concat();
    assert_eq!(opus::parse(&surround).unwrap().channels, Some(6));
}

#[test]
fn flac_headers_come_in_three_lengths() {
    let mut info = vec![0; 34];
    info[10..14].copy_from_slice(&[0x0b, 0xb8, 0x02, 0xf0]);
    let at_the_end = [&info[..4], &[1; 6], &info[10..13], &[0xf1], &[7; 20]].concat();
    assert_eq!(flac::parse(&Bytes::from(at_the_end)).unwrap().0, info);
    let wanted = AudioFormat { sample_rate: Some(48_000), channels: Some(2) };
    for front in [&b""[..], &[0x80, 0, 0, 34], b"fLaC\x80\x00\x00\x22"] {
        let (record, sound) = flac::parse(&Bytes::from([front, &info].concat())).unwrap();
        assert_eq!((&record[..], sound), (&info[..], wanted));
    }
    assert!(flac::parse(&Bytes::from(info[1..].to_vec())).is_err());
    assert!(flac::parse(&Bytes::from(vec![0; 34])).is_err());
}

proptest! {
    #[test]
    fn noise_is_parsed_or_refused(noise in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = (avc::parse(&noise), hevc::parse(&noise), av1::parse(&noise));
        let _ = (picture::h264_size(&noise), picture::h265_size(&noise));
        let _ = (mpeg_audio::parse_aac(&noise), opus::parse(&noise), flac::parse(&Bytes::from(noise.clone())));
        let _ = (picture::vp8_size(&noise), picture::vp9_size(&noise), flv1::size(&noise));
        let _ = (mpeg_audio::mp3_format(&noise), ac3::format(&noise));
    }

    #[test]
    fn damaged_parameter_sets_give_a_plausible_size(at in 1usize..23, value in any::<u8>()) {
        let mut sps = hex("6742c00ad9047b011000000300100000030320f1226480");
        sps[at] = value;
        if let Some((width, height)) = picture::h264_size(&sps) {
            prop_assert!((1..=picture::MAX_SIDE).contains(&width) && (1..=picture::MAX_SIDE).contains(&height));
        }
    }
}

/// The avcC that x264 writes for 64×48 in constrained baseline profile.
const AVCC: &[u8] = &[
    0x01, 0x42, 0xc0, 0x0a, 0xff, 0xe1, 0x00, 0x17, 0x67, 0x42, 0xc0, 0x0a, 0xd9, 0x04, 0x7b, 0x01, 0x10, 0x00, 0x00,
    0x03, 0x00, 0x10, 0x00, 0x00, 0x03, 0x03, 0x20, 0xf1, 0x22, 0x64, 0x80, 0x01, 0x00, 0x05, 0x68, 0xcb, 0x83, 0xcb,
    0x20,
];

/// Bytes from hexadecimal digits.
fn hex(digits: &str) -> Vec<u8> {
    let nibble = |d: u8| (d as char).to_digit(16).unwrap() as u8;
    digits.as_bytes().chunks(2).map(|d| nibble(d[0]) << 4 | nibble(d[1])).collect()
}
