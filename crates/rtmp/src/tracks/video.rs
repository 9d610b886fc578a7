//! The video track of one publish: its configuration, and which of its frames can be decoded.

use super::warnings::Warnings;
use crate::flv::TrackChoice;
use crate::{Error, Event};
use bytes::Bytes;
use media::codec_config::{self, NalConfig};
use media::{KeyframeGate, nal, picture};
use model::{Kind, Media, VideoCodec, VideoConfig};
use std::collections::VecDeque;

/// The video track of one publish.
#[derive(Debug, Default)]
pub(super) struct Video {
    pub(super) choice: TrackChoice,
    /// The newest configuration.
    config: Option<VideoConfig>,
    /// Bytes of the length before each NAL unit, by `config`.
    length_size: usize,
    /// The record of a codec whose size is in key frames only.
    record: Option<(VideoCodec, Bytes)>,
    /// Drops frames from a new configuration to the next key frame.
    gate: KeyframeGate,
    /// The size in onMetaData, for codecs without one in the stream.
    pub(super) size_hint: Option<(u32, u32)>,
}

impl Video {
    /// Takes a configuration record.
    pub(super) fn configure(
        &mut self,
        codec: VideoCodec,
        record: Bytes,
        events: &mut VecDeque<Event>,
    ) -> Result<(), Error> {
        // Some encoders send an empty record before the real one.
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
        self.announce(VideoConfig::new(codec, record, size.or(self.size_hint)), events);
        Ok(())
    }

    /// Hands on a configuration, if it is new.
    fn announce(&mut self, config: VideoConfig, events: &mut VecDeque<Event>) {
        if self.config.as_ref() != Some(&config) {
            self.gate.close();
            self.config = Some(config.clone());
            events.push_back(Event::Media(Media::VideoConfig(config)));
        }
    }

    /// The bytes of a frame to hand on, after a configuration if that is new; `None` if the frame can't be decoded.
    pub(super) fn prepare(
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
        let whole = nal::whole_units(&data, self.length_size);
        if whole < data.len() {
            let text = "video frames are damaged: their NAL units do not have the lengths they say";
            warnings.warn("NAL units", || text.into(), events);
        }
        (whole > 0).then(|| data.slice(..whole))
    }

    /// Takes the configuration from a key frame, for codecs without a record.
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
            // The crop of the picture (FLV §E.4.3.1, VP6FLVVIDEOPACKET): decoders take it as their configuration.
            record = data.split_to(1);
        }
        if key {
            let size = match codec {
                VideoCodec::Vp8 => picture::vp8_size(&data),
                VideoCodec::Vp9 => picture::vp9_size(&data),
                VideoCodec::Flv1 => codec_config::flv1::size(&data),
                _ => None,
            };
            self.announce(VideoConfig::new(codec, record, size.or(self.size_hint)), events);
        } else if self.config.as_ref().is_none_or(|c| c.codec != codec) {
            return None;
        }
        (!data.is_empty()).then_some(data)
    }
}
