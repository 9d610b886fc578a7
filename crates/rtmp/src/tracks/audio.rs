//! The audio track of one publish: its configuration, and which of its packets can be decoded.

use super::warnings::Warnings;
use crate::Event;
use crate::flv::TrackChoice;
use bytes::Bytes;
use media::codec_config::mpeg_audio::{self, AAC_FRAME_SAMPLES};
use media::codec_config::{self, AudioFormat};
use model::{AudioCodec, AudioConfig, Kind, Media, MediaTime};
use std::collections::VecDeque;

/// The audio track of one publish.
#[derive(Debug, Default)]
pub(super) struct Audio {
    pub(super) choice: TrackChoice,
    /// The newest configuration.
    config: Option<AudioConfig>,
    /// Channels of an Opus stream without a header.
    pub(super) channels: Option<u8>,
}

impl Audio {
    /// Takes a configuration record.
    pub(super) fn configure(
        &mut self,
        codec: AudioCodec,
        record: &Bytes,
        warnings: &mut Warnings,
        events: &mut VecDeque<Event>,
    ) {
        if record.is_empty() {
            return;
        }
        let parsed = match codec {
            AudioCodec::Aac => mpeg_audio::parse_aac(record).map(|format| (record.clone(), format)),
            AudioCodec::Opus => codec_config::opus::parse(record).map(|format| (record.clone(), format)),
            AudioCodec::Flac => codec_config::flac::parse(record),
            // The other codecs have none.
            _ => return,
        };
        match parsed {
            Ok((record, format)) => self.announce(codec, record, format, warnings, events),
            Err(error) => warnings.bad_config(Kind::Audio, error, events),
        }
    }

    /// Whether a configuration has gone on.
    pub(super) fn is_configured(&self) -> bool {
        self.config.is_some()
    }

    /// Hands on a configuration, if it is new, or new to a track that could not be used.
    fn announce(
        &mut self,
        codec: AudioCodec,
        record: Bytes,
        format: AudioFormat,
        warnings: &mut Warnings,
        events: &mut VecDeque<Event>,
    ) {
        let config = AudioConfig { codec, record, sample_rate: format.sample_rate, channels: format.channels };
        let again = warnings.usable(Kind::Audio);
        if again || self.config.as_ref() != Some(&config) {
            warnings.configured(Kind::Audio);
            self.config = Some(config.clone());
            events.push_back(Event::Media(Media::AudioConfig(config)));
        }
    }

    /// The packets of a message that can be decoded, each with how long it lasts where others follow; a new configuration goes before
    /// them. `tag` is the format in its tag.
    pub(super) fn packets(
        &mut self,
        codec: AudioCodec,
        tag: AudioFormat,
        data: Bytes,
        warnings: &mut Warnings,
        events: &mut VecDeque<Event>,
    ) -> Vec<(Bytes, MediaTime)> {
        // Some encoders leave out the configuration, and keep the headers that stand for it.
        if codec == AudioCodec::Aac
            && let Some(adts) = mpeg_audio::adts(&data)
            && let Ok(format) = mpeg_audio::parse_aac(&adts.record)
        {
            if self.config.as_ref().is_none_or(|config| config.codec != codec) {
                self.announce(codec, Bytes::copy_from_slice(&adts.record), format, warnings, events);
            }
            self.goes_on(warnings, events);
            let rate = i64::from(format.sample_rate.unwrap_or(48_000)).max(1);
            let duration = MediaTime::from_nanos(i64::from(AAC_FRAME_SAMPLES) * 1_000_000_000 / rate);
            return adts.frames.into_iter().map(|frame| (frame, duration)).collect();
        }
        let decodable = self.prepare(codec, tag, &data, warnings, events);
        if decodable {
            self.goes_on(warnings, events);
        }
        decodable.then_some((data, MediaTime::ZERO)).into_iter().collect()
    }

    /// Tells the configuration again, if the track counted as unusable until now.
    fn goes_on(&self, warnings: &mut Warnings, events: &mut VecDeque<Event>) {
        if warnings.usable(Kind::Audio)
            && let Some(config) = &self.config
        {
            events.push_back(Event::Media(Media::AudioConfig(config.clone())));
        }
    }

    /// Whether a packet can be decoded; a new configuration goes before it.
    fn prepare(
        &mut self,
        codec: AudioCodec,
        tag: AudioFormat,
        data: &[u8],
        warnings: &mut Warnings,
        events: &mut VecDeque<Event>,
    ) -> bool {
        let configured = self.config.as_ref().is_some_and(|c| c.codec == codec);
        match codec {
            AudioCodec::Aac | AudioCodec::Flac | AudioCodec::Opus if configured => {}
            AudioCodec::Opus => {
                let head = codec_config::opus::header(self.channels.unwrap_or(2));
                let format =
                    AudioFormat { sample_rate: Some(codec_config::opus::SAMPLE_RATE), channels: Some(head[9]) };
                self.announce(codec, head, format, warnings, events);
            }
            AudioCodec::Aac | AudioCodec::Flac => {
                warnings.unconfigured(Kind::Audio, if codec == AudioCodec::Aac { "AAC" } else { "FLAC" }, events);
                return false;
            }
            // The frame header goes before the tag; a packet without a header belongs to the frame before.
            AudioCodec::Mp3 | AudioCodec::Ac3 | AudioCodec::Eac3 => {
                let read = if codec == AudioCodec::Mp3 {
                    codec_config::mpeg_audio::mp3_format(data)
                } else {
                    codec_config::ac3::format(data)
                };
                match read {
                    Some(format) => self.announce(codec, Bytes::new(), format, warnings, events),
                    None if configured => {}
                    None => self.announce(codec, Bytes::new(), tag, warnings, events),
                }
            }
            _ => self.announce(codec, Bytes::new(), tag, warnings, events),
        }
        true
    }
}
