//! A reader of FLV files as ffmpeg writes them: enough for tests to get at access units, and no more.

use bytes::Bytes;
use model::{AudioCodec, AudioConfig, Frame, Kind, Media, MediaTime, VideoCodec, VideoConfig};

/// All configurations and frames of an FLV file, in its order.
pub fn read(file: &[u8]) -> Vec<Media> {
    let mut media = Vec::new();
    let mut rest = &file[9 + 4..];
    while rest.len() > 11 {
        let size = u32::from_be_bytes([0, rest[1], rest[2], rest[3]]) as usize;
        let time = u32::from_be_bytes([rest[7], rest[4], rest[5], rest[6]]);
        let body = &rest[11..11 + size];
        match rest[0] {
            8 if size > 2 => audio(&mut media, body, i64::from(time)),
            9 if size > 5 => video(&mut media, body, i64::from(time)),
            _ => {}
        }
        rest = &rest[11 + size + 4..];
    }
    media
}

fn video(media: &mut Vec<Media>, body: &[u8], dts: i64) {
    let key = body[0] >> 4 == 1;
    let config = |codec| Media::VideoConfig(VideoConfig::new(codec, Bytes::new(), None));
    let codec = match body[0] & 15 {
        2 => VideoCodec::Flv1,
        3 => VideoCodec::ScreenVideo,
        6 => VideoCodec::ScreenVideo2,
        7 => {
            let record = Bytes::copy_from_slice(&body[5..]);
            match body[1] {
                0 => media.push(Media::VideoConfig(VideoConfig::new(VideoCodec::H264, record, None))),
                1 => {
                    let cts = i64::from(i32::from_be_bytes([body[2], body[3], body[4], 0]) >> 8);
                    media.push(frame(Kind::Video, dts + cts, dts, key, &body[5..]));
                }
                _ => {}
            }
            return;
        }
        other => panic!("FLV video codec {other}"),
    };
    if !media.iter().any(|m| matches!(m, Media::VideoConfig(_))) {
        media.push(config(codec));
    }
    media.push(frame(Kind::Video, dts, dts, key, &body[1..]));
}

fn audio(media: &mut Vec<Media>, body: &[u8], time: i64) {
    let rate = [5512, 11025, 22050, 44100][usize::from(body[0] >> 2 & 3)];
    let channels = 1 + (body[0] & 1);
    let (codec, rate, channels, skip) = match body[0] >> 4 {
        1 => (AudioCodec::AdpcmSwf, rate, channels, 1),
        2 => (AudioCodec::Mp3, rate, channels, 1),
        3 => (AudioCodec::PcmS16Le, rate, channels, 1),
        4 => (AudioCodec::Nellymoser, 16_000, 1, 1),
        5 => (AudioCodec::Nellymoser, 8_000, 1, 1),
        6 => (AudioCodec::Nellymoser, rate, channels, 1),
        7 => (AudioCodec::PcmAlaw, 8_000, 1, 1),
        8 => (AudioCodec::PcmMulaw, 8_000, 1, 1),
        10 => (AudioCodec::Aac, rate, channels, 2),
        11 => (AudioCodec::Speex, 16_000, 1, 1),
        other => panic!("FLV audio codec {other}"),
    };
    let aac = codec == AudioCodec::Aac;
    if aac && body[1] == 0 {
        let record = Bytes::copy_from_slice(&body[2..]);
        media.push(Media::AudioConfig(AudioConfig { codec, record, sample_rate: None, channels: None }));
        return;
    }
    if !aac && !media.iter().any(|m| matches!(m, Media::AudioConfig(_))) {
        let (record, sample_rate, channels) = (Bytes::new(), Some(rate), Some(channels));
        media.push(Media::AudioConfig(AudioConfig { codec, record, sample_rate, channels }));
    }
    media.push(frame(Kind::Audio, time, time, true, &body[skip..]));
}

fn frame(kind: Kind, pts: i64, dts: i64, key: bool, data: &[u8]) -> Media {
    let data = Bytes::copy_from_slice(data);
    Media::Frame(Frame { kind, pts: MediaTime::from_millis(pts), dts: MediaTime::from_millis(dts), key, data })
}
