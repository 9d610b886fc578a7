//! The video track of one publish: its configuration, and which of its frames can be decoded.

use super::access_units::{AccessUnits, Part};
use super::warnings::Warnings;
use crate::Event;
use crate::flv::TrackChoice;
use bytes::Bytes;
use media::au_detector::SliceSyntax;
use media::codec_config::{self, NalConfig};
use media::{KeyframeGate, nal, picture};
use model::{Frame, Kind, Media, MediaTime, VideoCodec, VideoConfig};
use std::collections::VecDeque;

/// How long a key frame is waited for, by the stream's timestamps. Encoders begin with one; after this the stream is taken for one of
/// intra refresh that does not mark where decoding can begin.
const MAX_WAIT_FOR_KEY_FRAME: MediaTime = MediaTime::from_millis(1000);

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
    /// Of codecs with NAL units.
    access_units: AccessUnits,
    /// Drops frames from a new configuration to the next key frame.
    gate: KeyframeGate,
    /// Since when the gate has dropped frames.
    waiting_since: Option<MediaTime>,
    /// The size in onMetaData, for codecs without one in the stream.
    pub(super) size_hint: Option<(u32, u32)>,
}

impl Video {
    /// Takes a configuration record.
    pub(super) fn configure(
        &mut self,
        codec: VideoCodec,
        record: Bytes,
        warnings: &mut Warnings,
        events: &mut VecDeque<Event>,
    ) {
        // Some encoders put the parameter sets behind start codes, in place of a record.
        let by_nal_units = matches!(codec, VideoCodec::H264 | VideoCodec::H265);
        let record = if by_nal_units && nal::begins_with_start_code(&record) {
            record_of(codec, nal::annex_b(&record)).unwrap_or_default()
        } else {
            record
        };
        // Some encoders send an empty record before the real one.
        let same = self.config.as_ref().is_some_and(|c| c.codec == codec && c.record == record);
        if same || record.is_empty() {
            return;
        }
        let parsed = match codec {
            VideoCodec::H264 => codec_config::avc::parse(&record),
            VideoCodec::H265 => codec_config::hevc::parse(&record),
            // Access units of these have no lengths inside.
            VideoCodec::Av1 => codec_config::av1::parse(&record).map(|size| NalConfig { length_size: 0, size }),
            VideoCodec::Vp8 | VideoCodec::Vp9 => {
                self.record = Some((codec, record));
                return;
            }
            _ => return,
        };
        match parsed {
            Ok(NalConfig { length_size, size }) => {
                self.flush(warnings, events);
                self.length_size = length_size;
                self.announce(VideoConfig::new(codec, record, size.or(self.size_hint)), warnings, events);
            }
            Err(error) => warnings.bad_config(Kind::Video, error, events),
        }
    }

    /// Whether a configuration has gone on.
    pub(super) fn is_configured(&self) -> bool {
        self.config.is_some()
    }

    /// Hands on a configuration, if it is new.
    fn announce(&mut self, config: VideoConfig, warnings: &mut Warnings, events: &mut VecDeque<Event>) {
        if self.config.as_ref() != Some(&config) {
            self.gate.close();
            warnings.configured(Kind::Video);
            self.config = Some(config.clone());
            events.push_back(Event::Media(Media::VideoConfig(config)));
        }
    }

    /// Takes a message with a frame, or with a part of one; `key` is what its tag says.
    pub(super) fn message(
        &mut self,
        codec: VideoCodec,
        key: bool,
        part: Part,
        warnings: &mut Warnings,
        events: &mut VecDeque<Event>,
    ) {
        match codec {
            VideoCodec::H264 => self.nal_units(codec, SliceSyntax::H264, part, warnings, events),
            VideoCodec::H265 => self.nal_units(codec, SliceSyntax::H265, part, warnings, events),
            VideoCodec::Av1 if !self.is_configured_for(codec) => warnings.unconfigured(Kind::Video, "AV1", events),
            VideoCodec::Av1 => self.hand_on(key, part, warnings, events),
            _ => {
                if let Some(data) = self.self_described(codec, key, part.data, warnings, events) {
                    self.hand_on(key, Part { data, ..part }, warnings, events);
                }
            }
        }
    }

    fn is_configured_for(&self, codec: VideoCodec) -> bool {
        self.config.as_ref().is_some_and(|config| config.codec == codec)
    }

    fn nal_units(
        &mut self,
        codec: VideoCodec,
        syntax: SliceSyntax,
        part: Part,
        warnings: &mut Warnings,
        events: &mut VecDeque<Event>,
    ) {
        let configured = self.is_configured_for(codec);
        let (data, cut) = nal::normalized(part.data, if configured { self.length_size } else { 4 });
        if cut {
            let text = "video frames are damaged: their NAL units do not have the lengths they say";
            warnings.warn("NAL units", || text.into(), events);
        }
        if !configured {
            // Without a configuration of its own a stream may still have parameter sets before its key frames.
            if let Some(record) = record_of(codec, nal::length_prefixed(&data, 4).flatten()) {
                self.configure(codec, record, warnings, events);
            }
        }
        if !self.is_configured_for(codec) {
            warnings.unconfigured(Kind::Video, if codec == VideoCodec::H264 { "H.264" } else { "H.265" }, events);
            return;
        }
        if data.is_empty() {
            return;
        }
        let mut ready = Vec::new();
        if !self.access_units.push(Part { data, ..part }, syntax, self.length_size, &mut ready) {
            self.gate.close();
        }
        self.access_units_ready(ready, warnings, events);
    }

    /// Audio of this time has come.
    pub(super) fn audio(&mut self, at: MediaTime, warnings: &mut Warnings, events: &mut VecDeque<Event>) {
        let mut ready = Vec::new();
        self.access_units.audio(at, &mut ready);
        self.access_units_ready(ready, warnings, events);
    }

    /// No part of what came before follows.
    pub(super) fn flush(&mut self, warnings: &mut Warnings, events: &mut VecDeque<Event>) {
        let mut ready = Vec::new();
        self.access_units.flush(&mut ready);
        self.access_units_ready(ready, warnings, events);
    }

    fn access_units_ready(&mut self, ready: Vec<Part>, warnings: &mut Warnings, events: &mut VecDeque<Event>) {
        for unit in ready {
            // What a tag says of key frames is wrong with some encoders; its NAL units are what a decoder goes by.
            let key = match self.config.as_ref().map(|config| config.codec) {
                Some(VideoCodec::H264) => picture::h264_is_random_access(&unit.data, self.length_size),
                Some(VideoCodec::H265) => picture::h265_is_random_access(&unit.data, self.length_size),
                _ => false,
            };
            self.hand_on(key, unit, warnings, events);
        }
    }

    /// Hands on an access unit, if a decoder can make something of it.
    fn hand_on(&mut self, key: bool, unit: Part, warnings: &mut Warnings, events: &mut VecDeque<Event>) {
        let Part { dts, pts, data } = unit;
        if warnings.usable(Kind::Video)
            && let Some(config) = &self.config
        {
            self.gate.close();
            events.push_back(Event::Media(Media::VideoConfig(config.clone())));
        }
        let key = key || (self.gate.is_closed() && self.gives_up_waiting(dts, warnings, events));
        if self.gate.admits(key) {
            self.waiting_since = None;
            events.push_back(Event::Media(Media::Frame(Frame { kind: Kind::Video, pts, dts, key, data })));
        }
    }

    /// Whether no key frame came for so long that decoding begins without one.
    fn gives_up_waiting(&mut self, at: MediaTime, warnings: &mut Warnings, events: &mut VecDeque<Event>) -> bool {
        let since = *self.waiting_since.get_or_insert(at);
        if at - since < MAX_WAIT_FOR_KEY_FRAME {
            return false;
        }
        let text = "the video has no key frame: decoding begins without one, and pictures are damaged until \
                    they are refreshed; set a key frame interval in the encoder";
        warnings.warn("key frames", || text.into(), events);
        true
    }

    /// Takes the configuration from a key frame, for codecs without a record.
    fn self_described(
        &mut self,
        codec: VideoCodec,
        key: bool,
        mut data: Bytes,
        warnings: &mut Warnings,
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
            self.announce(VideoConfig::new(codec, record, size.or(self.size_hint)), warnings, events);
        } else if self.config.as_ref().is_none_or(|c| c.codec != codec) {
            return None;
        }
        (!data.is_empty()).then_some(data)
    }
}

/// The configuration record that parameter sets among these NAL units make; `None` if they are not enough for one.
fn record_of<'a>(codec: VideoCodec, units: impl Iterator<Item = &'a [u8]>) -> Option<Bytes> {
    let units: Vec<_> = units.map(<[u8]>::to_vec).collect();
    let record = match codec {
        VideoCodec::H264 => codec_config::avc::record(&units),
        VideoCodec::H265 => codec_config::hevc::record(&units),
        _ => None,
    };
    record.map(Bytes::from)
}
