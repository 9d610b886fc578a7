//! Turns audio and video messages into media: a configuration whenever it changes, frames from the first key frame on, unwrapped
//! timestamps. Used by [`Connection`](crate::Connection).

mod access_units;
mod audio;
mod video;
mod warnings;

use crate::chunk::kind;
use crate::flv::{AudioBody, AudioTag, Codec, TagError, VideoBody, VideoTag, parse_audio, parse_video};
use crate::{Event, amf};
use access_units::Part;
use audio::Audio;
use bytes::{Buf, Bytes};
use media::codec_config::AudioFormat;
use media::picture::MAX_SIDE;
use model::{Frame, Kind, Media, MediaTime, SourceTracks};
use std::collections::VecDeque;
use video::Video;
use warnings::Warnings;

/// The tracks of one publish.
#[derive(Debug, Default)]
pub(crate) struct Tracks {
    timestamps: Timestamps,
    video: Video,
    audio: Audio,
    warnings: Warnings,
}

/// Unwraps 32-bit timestamps in milliseconds. One for both tracks, so that they wrap (after 49.7 days) together.
#[derive(Debug, Default)]
struct Timestamps(Option<i64>);

impl Timestamps {
    /// The unwrapped timestamp nearest to the last one: up to half the range ahead or behind.
    fn unwrap(&mut self, timestamp: u32) -> i64 {
        let unwrapped = match self.0 {
            None => i64::from(timestamp),
            Some(last) => last.saturating_add(i64::from(timestamp.wrapping_sub(last as u32) as i32)),
        };
        self.0 = Some(unwrapped);
        unwrapped
    }
}

/// The most tags in one aggregate message. Each becomes an event, which is far larger than the 15 bytes that a tag takes at least.
const MAX_AGGREGATED: usize = 1_200;

impl Tracks {
    /// Takes an audio, video or aggregate message. What can't be used is left out in words.
    pub(crate) fn message(&mut self, kind: u8, timestamp: u32, body: Bytes, events: &mut VecDeque<Event>) {
        match kind {
            kind::VIDEO => match parse_video(body, &mut self.video.choice) {
                Ok(Some(tag)) => self.video_tag(timestamp, tag, events),
                Ok(None) => {}
                Err(error) => self.bad_tag(Kind::Video, error, events),
            },
            kind::AUDIO => match parse_audio(body, &mut self.audio.choice) {
                Ok(Some(tag)) => self.audio_tag(timestamp, tag, events),
                Ok(None) => {}
                Err(error) => self.bad_tag(Kind::Audio, error, events),
            },
            _ => self.aggregate(timestamp, body, events),
        }
    }

    /// Warns of something beside the tracks, once for each `what`.
    pub(crate) fn warn(&mut self, what: &'static str, text: &str, events: &mut VecDeque<Event>) {
        self.warnings.warn(what, || text.to_owned(), events);
    }

    fn bad_tag(&mut self, kind: Kind, error: TagError, events: &mut VecDeque<Event>) {
        match error {
            TagError::Malformed => self.warnings.malformed(kind, events),
            TagError::UnknownCodec(name) => {
                let codec = if kind == Kind::Video { "unknown video codec" } else { "unknown audio codec" };
                self.warnings.undecodable(kind, codec, &format!("unknown {name}"), self.plays(kind), events);
            }
        }
    }

    /// Whether a configuration of this track has gone on.
    fn plays(&self, kind: Kind) -> bool {
        match kind {
            Kind::Video => self.video.is_configured(),
            Kind::Audio => self.audio.is_configured(),
        }
    }

    /// Takes an aggregate message, which is a row of FLV tags (RTMP §7.1.6) with timestamps relative to that of the first. Servers
    /// that relay streams pack a second or less into one; [`MAX_AGGREGATED`] is more than ten seconds of audio and 60 frames a
    /// second. From a tag on that can't be right the rest is left out.
    fn aggregate(&mut self, timestamp: u32, mut body: Bytes, events: &mut VecDeque<Event>) {
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
                let text = "part of an aggregate message is left out: it ends too early or holds too many tags";
                self.warnings.warn("aggregate", || text.into(), events);
                return;
            }
            body.advance(HEADER);
            let tag = body.split_to(size);
            body.advance(BACK_POINTER.min(body.len()));
            if matches!(kind, kind::AUDIO | kind::VIDEO) {
                self.message(kind, timestamp.wrapping_add(offset), tag, events);
            }
        }
    }

    /// Takes the object of onMetaData (FLV §E.5).
    pub(crate) fn metadata(&mut self, object: &amf::Value, events: &mut VecDeque<Event>) {
        let announced =
            |codec, has| names_a_codec(object.get(codec)) && object.get(has) != Some(&amf::Value::Boolean(false));
        let tracks =
            SourceTracks { video: announced("videocodecid", "hasVideo"), audio: announced("audiocodecid", "hasAudio") };
        let side = |name| object.get(name).and_then(amf::Value::as_number).unwrap_or(0.0) as u32;
        let plausible = |side: u32| (1..=MAX_SIDE).contains(&side).then_some(side);
        self.video.size_hint = plausible(side("width")).zip(plausible(side("height"))).or(self.video.size_hint);
        if tracks.video || tracks.audio {
            events.push_back(Event::Media(Media::Announced(tracks)));
        }
    }

    /// Nothing more comes: hands on what is held.
    pub(crate) fn finish(&mut self, events: &mut VecDeque<Event>) {
        self.video.flush(&mut self.warnings, events);
    }

    fn video_tag(&mut self, timestamp: u32, tag: VideoTag, events: &mut VecDeque<Event>) {
        if tag.others {
            self.warnings.warn("video tracks", || "of several video tracks only the first is taken".into(), events);
        }
        let codec = match tag.codec {
            Codec::Known(codec) => codec,
            Codec::Unusable(name) => {
                if tag.body != VideoBody::Nothing {
                    self.warnings.undecodable(Kind::Video, name, name, self.plays(Kind::Video), events);
                }
                return;
            }
        };
        match tag.body {
            VideoBody::Config(record) => self.video.configure(codec, record, &mut self.warnings, events),
            VideoBody::Frame { composition, data } => {
                let millis = self.timestamps.unwrap(timestamp);
                let dts = MediaTime::from_millis(millis) + MediaTime::from_nanos(i64::from(tag.nanos));
                let pts = dts + MediaTime::from_millis(i64::from(composition));
                self.video.message(codec, tag.key, Part { dts, pts, data }, &mut self.warnings, events);
            }
            VideoBody::Nothing => {}
        }
    }

    fn audio_tag(&mut self, timestamp: u32, tag: AudioTag, events: &mut VecDeque<Event>) {
        if tag.others {
            self.warnings.warn("audio tracks", || "of several audio tracks only the first is taken".into(), events);
        }
        let codec = match tag.codec {
            Codec::Known(codec) => codec,
            Codec::Unusable(name) => {
                if tag.body != AudioBody::Nothing {
                    self.warnings.undecodable(Kind::Audio, name, name, self.plays(Kind::Audio), events);
                }
                return;
            }
        };
        match tag.body {
            AudioBody::Config(record) => self.audio.configure(codec, &record, &mut self.warnings, events),
            AudioBody::Channels(count) => {
                self.audio.channels = Some(count);
            }
            AudioBody::Packet(data) => {
                let millis = self.timestamps.unwrap(timestamp);
                let format = AudioFormat { sample_rate: tag.sample_rate, channels: tag.channels };
                let mut pts = MediaTime::from_millis(millis) + MediaTime::from_nanos(i64::from(tag.nanos));
                self.video.audio(pts, &mut self.warnings, events);
                for (data, duration) in self.audio.packets(codec, format, data, &mut self.warnings, events) {
                    let frame = Frame { kind: Kind::Audio, pts, dts: pts, key: true, data };
                    events.push_back(Event::Media(Media::Frame(frame)));
                    pts = pts + duration;
                }
            }
            AudioBody::Nothing => {}
        }
    }
}

/// Whether a codec in onMetaData is one. Relays write 0 or an empty name for a track that there is none of (0 is also uncompressed
/// sound, which then comes unannounced).
fn names_a_codec(codec: Option<&amf::Value>) -> bool {
    match codec {
        None | Some(amf::Value::Null | amf::Value::Undefined) => false,
        Some(amf::Value::Number(number)) => *number > 0.0,
        Some(amf::Value::Boolean(known)) => *known,
        Some(amf::Value::String(name)) => !matches!(name.trim(), "" | "0"),
        Some(_) => true,
    }
}

#[cfg(test)]
mod tests;
