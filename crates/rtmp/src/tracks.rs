//! From audio and video messages to media: configurations once per change, frames from the first key frame on, time unwrapped.

use crate::chunk::kind;
use crate::flv::{AudioBody, AudioTag, Codec, TrackChoice, VideoBody, VideoTag, parse_audio, parse_video};
use crate::{Error, Event, amf};
use bytes::{Buf, Bytes};
use media::KeyframeGate;
use media::codec_config::mpeg_audio::Sound;
use media::codec_config::{self, NalConfig};
use model::{AudioCodec, AudioConfig, Frame, Kind, Media, MediaTime, SourceTracks, VideoCodec, VideoConfig};
use std::collections::VecDeque;

/// The tracks of one publish.
#[derive(Debug, Default)]
pub(crate) struct Tracks {
    clock: Clock,
    video: Video,
    audio: Audio,
    warnings: Warnings,
}

/// Frames without a decoder configuration before their track is called unusable: relays that join a stream in its middle send
/// some before the first configuration. Two seconds of 30 pictures.
const UNCONFIGURED: u32 = 60;

/// What was warned of, so that each is told once. Bounded, as all are words of this crate. Then how many frames of pictures
/// and of sound came without a configuration.
#[derive(Debug, Default)]
struct Warnings(Vec<&'static str>, u32, u32);

impl Warnings {
    fn tell(&mut self, what: &'static str, text: impl FnOnce() -> String, events: &mut VecDeque<Event>) {
        if !self.0.contains(&what) {
            self.0.push(what);
            events.push_back(Event::Warning(text()));
        }
    }

    /// Tells once that no decoder knows this, and the session, too.
    fn undecodable(&mut self, kind: Kind, name: &'static str, events: &mut VecDeque<Event>) {
        if !self.0.contains(&name) {
            let text = format!("{name} is left out: it cannot be decoded here; use H.264 with AAC");
            self.tell(name, || text.clone(), events);
            events.push_back(Event::Media(Media::Unusable(kind, text)));
        }
    }

    fn unconfigured(&mut self, kind: Kind, name: &'static str, events: &mut VecDeque<Event>) {
        let text = format!(
            "{name} frames are left out: their decoder configuration did not come; start the encoder's stream again"
        );
        self.tell(name, || text.clone(), events);
        let before = match kind {
            Kind::Video => &mut self.1,
            Kind::Audio => &mut self.2,
        };
        *before = before.saturating_add(1);
        if *before == UNCONFIGURED {
            events.push_back(Event::Media(Media::Unusable(kind, text)));
        }
    }
}

/// Unwraps timestamps. One for both tracks, so that they cross the 49.7 days of 32 bits together.
#[derive(Debug, Default)]
struct Clock(Option<i64>);

impl Clock {
    /// The timestamp as the nearest to the last one: half the range ahead or behind.
    fn unwrap(&mut self, timestamp: u32) -> i64 {
        let unwrapped = match self.0 {
            None => i64::from(timestamp),
            Some(last) => last.saturating_add(i64::from(timestamp.wrapping_sub(last as u32) as i32)),
        };
        self.0 = Some(unwrapped);
        unwrapped
    }
}

#[derive(Debug, Default)]
struct Video {
    choice: TrackChoice,
    /// What was sent down last.
    config: Option<VideoConfig>,
    /// Of `config`, where that has NAL units.
    length_size: usize,
    /// A record of a codec that tells its size in key frames only.
    record: Option<(VideoCodec, Bytes)>,
    gate: KeyframeGate,
    /// What onMetaData says, for codecs that tell no size at all.
    size_hint: Option<(u32, u32)>,
}

#[derive(Debug, Default)]
struct Audio {
    choice: TrackChoice,
    config: Option<AudioConfig>,
    /// Channels of an Opus stream without a header.
    channels: Option<u8>,
}

/// Tags in one aggregate message: each becomes an event, which is far larger than the 15 bytes that a tag takes at least.
const MAX_AGGREGATED: usize = 1_200;

impl Tracks {
    /// Takes an audio, video or aggregate message.
    pub(crate) fn message(
        &mut self,
        kind: u8,
        timestamp: u32,
        body: Bytes,
        events: &mut VecDeque<Event>,
    ) -> Result<(), Error> {
        match kind {
            kind::VIDEO => match parse_video(body, &mut self.video.choice)? {
                Some(tag) => self.video_tag(timestamp, tag, events),
                None => Ok(()),
            },
            kind::AUDIO => match parse_audio(body, &mut self.audio.choice)? {
                Some(tag) => self.audio_tag(timestamp, tag, events),
                None => Ok(()),
            },
            _ => self.aggregate(timestamp, body, events),
        }
    }

    /// An aggregate message is FLV tags in a row (RTMP §7.1.6). Their times are relative to the first one's. Servers that
    /// relay streams pack a second or less into one; [`MAX_AGGREGATED`] is more than ten seconds of 60 pictures and sound.
    fn aggregate(&mut self, timestamp: u32, mut body: Bytes, events: &mut VecDeque<Event>) -> Result<(), Error> {
        const HEADER: usize = 11;
        const BACK_POINTER: usize = 4;
        let mut first = None;
        let mut tags = 0;
        while let Some(&[kind, s0, s1, s2, t0, t1, t2, t3, ..]) = body.first_chunk::<HEADER>() {
            let size = u32::from_be_bytes([0, s0, s1, s2]) as usize;
            let time = u32::from_be_bytes([t3, t0, t1, t2]);
            let offset = time.wrapping_sub(*first.get_or_insert(time));
            tags += 1;
            if size > body.len() - HEADER || tags > MAX_AGGREGATED {
                return Err(Error::Tag("aggregate"));
            }
            body.advance(HEADER);
            let tag = body.split_to(size);
            body.advance(BACK_POINTER.min(body.len()));
            if matches!(kind, kind::AUDIO | kind::VIDEO) {
                self.message(kind, timestamp.wrapping_add(offset), tag, events)?;
            }
        }
        Ok(())
    }

    /// Takes the object of onMetaData (FLV §E.5).
    pub(crate) fn metadata(&mut self, object: &amf::Value, events: &mut VecDeque<Event>) {
        let told = |codec, has| match object.get(codec) {
            None | Some(amf::Value::Null | amf::Value::Undefined) => false,
            Some(_) => object.get(has) != Some(&amf::Value::Boolean(false)),
        };
        let tracks = SourceTracks { video: told("videocodecid", "hasVideo"), audio: told("audiocodecid", "hasAudio") };
        let side = |name| object.get(name).and_then(amf::Value::as_number).unwrap_or(0.0) as u32;
        let believed = |side: u32| (1..=16_384).contains(&side).then_some(side);
        self.video.size_hint = believed(side("width")).zip(believed(side("height"))).or(self.video.size_hint);
        if tracks.video || tracks.audio {
            events.push_back(Event::Media(Media::Announced(tracks)));
        }
    }

    fn video_tag(&mut self, timestamp: u32, tag: VideoTag, events: &mut VecDeque<Event>) -> Result<(), Error> {
        if tag.others {
            self.warnings.tell("video tracks", || "of several video tracks only the first is taken".into(), events);
        }
        let codec = match tag.codec {
            Codec::Known(codec) => codec,
            Codec::Unusable(name) => {
                if tag.body != VideoBody::Nothing {
                    self.warnings.undecodable(Kind::Video, name, events);
                }
                return Ok(());
            }
        };
        match tag.body {
            VideoBody::Config(record) => self.video.configure(codec, record, events),
            VideoBody::Frame { composition, data } => {
                let millis = self.clock.unwrap(timestamp);
                let (data, key) = match self.video.prepare(codec, tag.key, data, &mut self.warnings, events) {
                    Some(data) => (data, tag.key),
                    None => return Ok(()),
                };
                let dts = MediaTime::from_millis(millis) + MediaTime::from_nanos(i64::from(tag.nanos));
                let pts = dts + MediaTime::from_millis(i64::from(composition));
                events.push_back(Event::Media(Media::Frame(Frame { kind: Kind::Video, pts, dts, key, data })));
                Ok(())
            }
            VideoBody::Nothing => Ok(()),
        }
    }

    fn audio_tag(&mut self, timestamp: u32, tag: AudioTag, events: &mut VecDeque<Event>) -> Result<(), Error> {
        if tag.others {
            self.warnings.tell("audio tracks", || "of several audio tracks only the first is taken".into(), events);
        }
        let codec = match tag.codec {
            Codec::Known(codec) => codec,
            Codec::Unusable(name) => {
                if tag.body != AudioBody::Nothing {
                    self.warnings.undecodable(Kind::Audio, name, events);
                }
                return Ok(());
            }
        };
        match tag.body {
            AudioBody::Config(record) => self.audio.configure(codec, &record, events),
            AudioBody::Channels(count) => {
                self.audio.channels = Some(count);
                Ok(())
            }
            AudioBody::Packet(data) => {
                let millis = self.clock.unwrap(timestamp);
                let told = Sound { sample_rate: tag.sample_rate, channels: tag.channels };
                if self.audio.prepare(codec, told, &data, &mut self.warnings, events) {
                    let pts = MediaTime::from_millis(millis) + MediaTime::from_nanos(i64::from(tag.nanos));
                    events.push_back(Event::Media(Media::Frame(Frame {
                        kind: Kind::Audio,
                        pts,
                        dts: pts,
                        key: true,
                        data,
                    })));
                }
                Ok(())
            }
            AudioBody::Nothing => Ok(()),
        }
    }
}

impl Video {
    fn configure(&mut self, codec: VideoCodec, record: Bytes, events: &mut VecDeque<Event>) -> Result<(), Error> {
        // An empty one says nothing: some encoders send it before the real one.
        let same = self.config.as_ref().is_some_and(|c| c.codec == codec && c.record == record);
        if same || record.is_empty() {
            return Ok(());
        }
        let size = match codec {
            VideoCodec::H264 | VideoCodec::H265 => {
                let parse =
                    if codec == VideoCodec::H264 { codec_config::avc::parse } else { codec_config::hevc::parse };
                let NalConfig { length_size, size } = parse(&record)?;
                self.length_size = length_size;
                size
            }
            VideoCodec::Av1 => codec_config::av1::parse(&record)?,
            VideoCodec::Vp8 | VideoCodec::Vp9 => {
                self.record = Some((codec, record));
                return Ok(());
            }
            _ => return Ok(()),
        };
        self.tell(VideoConfig::new(codec, record, size.or(self.size_hint)), events);
        Ok(())
    }

    fn tell(&mut self, config: VideoConfig, events: &mut VecDeque<Event>) {
        if self.config.as_ref() != Some(&config) {
            self.gate.close();
            self.config = Some(config.clone());
            events.push_back(Event::Media(Media::VideoConfig(config)));
        }
    }

    /// What of a frame goes on, behind a configuration if that is new; `None` if it cannot be decoded.
    fn prepare(
        &mut self,
        codec: VideoCodec,
        key: bool,
        data: Bytes,
        warnings: &mut Warnings,
        events: &mut VecDeque<Event>,
    ) -> Option<Bytes> {
        let configured = self.config.as_ref().is_some_and(|c| c.codec == codec);
        let data = match codec {
            VideoCodec::H264 | VideoCodec::H265 | VideoCodec::Av1 if !configured => {
                let name = match codec {
                    VideoCodec::H264 => "H.264",
                    VideoCodec::H265 => "H.265",
                    _ => "AV1",
                };
                warnings.unconfigured(Kind::Video, name, events);
                return None;
            }
            VideoCodec::H264 | VideoCodec::H265 => self.nal_units(data, warnings, events)?,
            VideoCodec::Av1 => data,
            _ => self.self_described(codec, key, data, events)?,
        };
        self.gate.admits(key).then_some(data)
    }

    /// The whole NAL units of a frame.
    fn nal_units(&self, data: Bytes, warnings: &mut Warnings, events: &mut VecDeque<Event>) -> Option<Bytes> {
        let whole = codec_config::whole_nals(&data, self.length_size);
        if whole < data.len() {
            let text = "video frames are damaged: their NAL units do not have the lengths they say";
            warnings.tell("NAL units", || text.into(), events);
        }
        (whole > 0).then(|| data.slice(..whole))
    }

    /// Configures from a key frame, for codecs that are told by frames.
    fn self_described(
        &mut self,
        codec: VideoCodec,
        key: bool,
        mut data: Bytes,
        events: &mut VecDeque<Event>,
    ) -> Option<Bytes> {
        let mut record = match &self.record {
            Some((of, record)) if *of == codec => record.clone(),
            _ => Bytes::new(),
        };
        if matches!(codec, VideoCodec::Vp6 | VideoCodec::Vp6Alpha) {
            // How far the picture is cropped (FLV §E.4.3.1, VP6FLVVIDEOPACKET): decoders take it as their configuration.
            record = data.split_to(1);
        }
        if key {
            let size = match codec {
                VideoCodec::Vp8 => media::picture::vp8_size(&data),
                VideoCodec::Vp9 => media::picture::vp9_size(&data),
                VideoCodec::Flv1 => codec_config::flv1::size(&data),
                _ => None,
            };
            self.tell(VideoConfig::new(codec, record, size.or(self.size_hint)), events);
        } else if self.config.as_ref().is_none_or(|c| c.codec != codec) {
            return None;
        }
        (!data.is_empty()).then_some(data)
    }
}

impl Audio {
    fn configure(&mut self, codec: AudioCodec, record: &Bytes, events: &mut VecDeque<Event>) -> Result<(), Error> {
        if record.is_empty() {
            return Ok(());
        }
        let (record, sound) = match codec {
            AudioCodec::Aac => (record.clone(), codec_config::mpeg_audio::parse_aac(record)?),
            AudioCodec::Opus => (record.clone(), codec_config::opus::parse(record)?),
            AudioCodec::Flac => codec_config::flac::parse(record)?,
            // The others have none.
            _ => return Ok(()),
        };
        self.tell(codec, record, sound, events);
        Ok(())
    }

    fn tell(&mut self, codec: AudioCodec, record: Bytes, sound: Sound, events: &mut VecDeque<Event>) {
        let config = AudioConfig { codec, record, sample_rate: sound.sample_rate, channels: sound.channels };
        if self.config.as_ref() != Some(&config) {
            self.config = Some(config.clone());
            events.push_back(Event::Media(Media::AudioConfig(config)));
        }
    }

    /// Whether a packet can go on, behind a configuration if that is new. `told` is what its tag says.
    fn prepare(
        &mut self,
        codec: AudioCodec,
        told: Sound,
        data: &[u8],
        warnings: &mut Warnings,
        events: &mut VecDeque<Event>,
    ) -> bool {
        let configured = self.config.as_ref().is_some_and(|c| c.codec == codec);
        match codec {
            AudioCodec::Aac | AudioCodec::Flac | AudioCodec::Opus if configured => {}
            AudioCodec::Opus => {
                let head = codec_config::opus::header(self.channels.unwrap_or(2));
                let sound = Sound { sample_rate: Some(codec_config::opus::SAMPLE_RATE), channels: Some(head[9]) };
                self.tell(codec, head, sound, events);
            }
            AudioCodec::Aac | AudioCodec::Flac => {
                warnings.unconfigured(Kind::Audio, if codec == AudioCodec::Aac { "AAC" } else { "FLAC" }, events);
                return false;
            }
            // Frame headers know better than the tag; a packet without one belongs to the frame before.
            AudioCodec::Mp3 | AudioCodec::Ac3 | AudioCodec::Eac3 => {
                let read = if codec == AudioCodec::Mp3 {
                    codec_config::mpeg_audio::mp3_sound(data)
                } else {
                    codec_config::ac3::sound(data)
                };
                match read {
                    Some(sound) => self.tell(codec, Bytes::new(), sound, events),
                    None if configured => {}
                    None => self.tell(codec, Bytes::new(), told, events),
                }
            }
            _ => self.tell(codec, Bytes::new(), told, events),
        }
        true
    }
}

#[cfg(test)]
mod tests;
