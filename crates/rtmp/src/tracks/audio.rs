//! The audio track of one publish: its configuration, and which of its packets can be decoded.

use super::warnings::Warnings;
use crate::flv::TrackChoice;
use crate::{Error, Event};
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
        events: &mut VecDeque<Event>,
    ) -> Result<(), Error> {
        if record.is_empty() {
            return Ok(());
        }
        let (record, format) = match codec {
            AudioCodec::Aac => (record.clone(), codec_config::mpeg_audio::parse_aac(record)?),
            AudioCodec::Opus => (record.clone(), codec_config::opus::parse(record)?),
            AudioCodec::Flac => codec_config::flac::parse(record)?,
            // The other codecs have none.
            _ => return Ok(()),
        };
        self.announce(codec, record, format, events);
        Ok(())
    }

    /// Hands on a configuration, if it is new.
    fn announce(&mut self, codec: AudioCodec, record: Bytes, format: AudioFormat, events: &mut VecDeque<Event>) {
        let config = AudioConfig { codec, record, sample_rate: format.sample_rate, channels: format.channels };
        if self.config.as_ref() != Some(&config) {
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
                self.announce(codec, Bytes::copy_from_slice(&adts.record), format, events);
            }
            let rate = i64::from(format.sample_rate.unwrap_or(48_000)).max(1);
            let duration = MediaTime::from_nanos(i64::from(AAC_FRAME_SAMPLES) * 1_000_000_000 / rate);
            return adts.frames.into_iter().map(|frame| (frame, duration)).collect();
        }
        let decodable = self.prepare(codec, tag, &data, warnings, events);
        decodable.then_some((data, MediaTime::ZERO)).into_iter().collect()
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
                self.announce(codec, head, format, events);
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
                    Some(format) => self.announce(codec, Bytes::new(), format, events),
                    None if configured => {}
                    None => self.announce(codec, Bytes::new(), tag, events),
                }
            }
            _ => self.announce(codec, Bytes::new(), tag, events),
        }
        true
    }
}
