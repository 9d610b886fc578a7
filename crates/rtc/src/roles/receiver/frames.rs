//! Frames to be decoded: of a simulcast source the best layer, each in the form that the transcoder takes, and none that depends
//! on what was lost.

use crate::codec::{VIDEO_CLOCK_RATE, audio_clock_rate};
use crate::offer::Offer;
use bytes::Bytes;
use media::codec_config::{avc, hevc};
use media::nal::{annex_b, h264, h265, push_length_prefixed};
use media::{GateDecision, KeyframeGate, RaslFilter, picture};
use model::{AudioCodec, AudioConfig, Frame, Kind, Media, MediaTime, OpusFormat, Rotation, VideoCodec, VideoConfig};
use std::borrow::Cow;
use std::time::{Duration, Instant};
use str0m::format::{CodecExtra, Vp9CodecExtra};
use str0m::media::MediaData;
use str0m::rtp::VideoOrientation;
use timing::decode_order::DecodeOrder;

/// A layer without a frame for so long is paused: the next best one takes its place.
const LAYER_PAUSE: Duration = Duration::from_millis(700);
/// Bytes of a parameter set at most; real ones are below 200.
const MAX_PARAMETER_SET: usize = 4096;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Frames {
    codec: Option<VideoCodec>,
    origin: Instant,
    layers: Vec<LayerState>,
    /// The layer that is decoded.
    current: Option<usize>,
    /// The last frame of the current layer before the pause that was noticed.
    paused_since: Option<Instant>,
    gate: KeyframeGate,
    leading: RaslFilter,
    config: Option<VideoConfig>,
    /// RTP has presentation times alone.
    order: DecodeOrder<()>,
}

#[derive(Clone, Copy, Debug, Default)]
struct LayerState {
    area: u64,
    last: Option<Instant>,
}

/// What became of a video frame.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) media: Vec<Media>,
    /// Its layer needs a key frame.
    pub(super) key_wanted: bool,
}

impl Frames {
    pub(super) fn new(offer: &Offer, now: Instant) -> Self {
        let count = offer.video.as_ref().map_or(0, |v| v.rids.len().max(1));
        Self {
            codec: offer.video.as_ref().map(|v| v.format.codec),
            origin: now,
            layers: vec![LayerState::default(); count],
            current: None,
            paused_since: None,
            gate: KeyframeGate::closed(),
            leading: RaslFilter::default(),
            config: None,
            order: DecodeOrder::new(true, true),
        }
    }

    /// An audio packet, captured at `at`.
    pub(super) fn audio(&self, data: &MediaData, at: Instant) -> Frame {
        let at = self.time(at);
        Frame { kind: Kind::Audio, pts: at, dts: at, key: true, data: Bytes::copy_from_slice(&data.data) }
    }

    /// A frame of the layer at this place in the offer, captured at `at`.
    pub(super) fn video(&mut self, index: usize, data: &MediaData, at: Instant) -> Outcome {
        let mut outcome = Outcome::default();
        let (Some(codec), true) = (self.codec, index < self.layers.len()) else { return outcome };
        let key = data.is_keyframe();
        self.layers[index].last = Some(data.network_time);
        let unit = match data.codec_extra {
            CodecExtra::Vp9(extra) => Unit::new(codec, &superframe(&data.data, &extra)),
            _ => Unit::new(codec, &data.data),
        };
        if let (true, Some((w, h))) = (key, unit.size) {
            self.layers[index].area = u64::from(w) * u64::from(h);
        }
        if !self.takes(index, key, data.network_time) {
            // A better layer than the current one begins with its next key frame.
            outcome.key_wanted = !key && self.is_better(index);
            return outcome;
        }
        if !data.contiguous {
            self.gate.close();
        }
        match self.gate.pass(key) {
            GateDecision::Dropped => {
                outcome.key_wanted = true;
                return outcome;
            }
            GateDecision::Resumes => self.leading.missed(),
            GateDecision::Continues => {}
        }
        let pts = self.time(at);
        let dts = pts - self.reordered(data.time.numer());
        if !self.leading.admits(key, pts) {
            return outcome;
        }
        if key
            && let Some(config) = unit.config(rotation(data.ext_vals.video_orientation))
            && self.config.as_ref() != Some(&config)
        {
            self.config = Some(config.clone());
            outcome.media.push(Media::VideoConfig(config));
        }
        outcome.media.push(Media::Frame(Frame { kind: Kind::Video, pts, dts, key, data: unit.data }));
        outcome
    }

    /// Whether this layer is, or becomes, the one to decode.
    fn takes(&mut self, index: usize, key: bool, now: Instant) -> bool {
        if self.current == Some(index) {
            return true;
        }
        let take = match self.current {
            None => key,
            Some(current) => {
                key && (self.layers[index].area > self.layers[current].area || self.is_paused(current, now))
            }
        };
        if take {
            self.current = Some(index);
            self.gate.close();
        }
        take
    }

    fn is_better(&self, index: usize) -> bool {
        self.current.is_none_or(|c| self.layers[index].area == 0 || self.layers[index].area > self.layers[c].area)
    }

    fn is_paused(&self, index: usize, now: Instant) -> bool {
        self.layers[index].last.is_none_or(|at| now >= at + LAYER_PAUSE)
    }

    /// The layer that is to send a key frame because the current one is paused.
    pub(super) fn layer_to_switch_to(&mut self, now: Instant) -> Option<usize> {
        let current = self.current.filter(|&c| self.is_paused(c, now))?;
        self.paused_since = self.layers[current].last;
        let others = (0..self.layers.len()).filter(|&i| i != current && !self.is_paused(i, now));
        others.max_by_key(|&i| self.layers[i].area)
    }

    /// When the current layer counts as paused; `None` once [`Frames::layer_to_switch_to`] has noticed it.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let current = self.current.filter(|_| self.layers.len() > 1)?;
        // Once it is, the other layers' frames wake us.
        let last = self.layers[current].last.filter(|last| self.paused_since != Some(*last))?;
        Some(last + LAYER_PAUSE)
    }

    /// How long before it is shown a frame of this RTP timestamp is decoded: zero, unless there are B-frames.
    fn reordered(&mut self, timestamp: u64) -> MediaTime {
        let nanos = |ticks: u64| i64::try_from(u128::from(ticks) * 1_000_000_000 / u128::from(VIDEO_CLOCK_RATE));
        let pts = nanos(timestamp).unwrap_or(i64::MAX);
        let dts = self.order.push(pts, None, ()).first().map_or(pts, |(dts, ())| *dts);
        MediaTime::from_nanos(pts.saturating_sub(dts))
    }

    /// What was captured before the connection stood has times of its own below zero: they must not all be one.
    fn time(&self, at: Instant) -> MediaTime {
        let before = self.origin.saturating_duration_since(at);
        MediaTime::from(at.saturating_duration_since(self.origin)) - MediaTime::from(before)
    }
}

/// The configuration of a codec over RTP, whose sample rate is that of its RTP clock; `format` is for Opus.
pub(super) fn audio_config(codec: AudioCodec, format: OpusFormat) -> AudioConfig {
    let channels = if format.stereo { 2 } else { 1 };
    AudioConfig { codec, record: Bytes::new(), sample_rate: Some(audio_clock_rate(codec)), channels: Some(channels) }
}

/// A VP9 frame with the superframe index that separates its spatial layers (VP9 bitstream specification 0.7, annex B.3), if it has
/// several. Without it decoders take all that follows the lowest layer for the end of that.
fn superframe<'a>(frame: &'a [u8], extra: &Vp9CodecExtra) -> Cow<'a, [u8]> {
    /// Marks an index (110), with each size in four bytes (11), see annex B.2; the number of layers goes below.
    const MARKER: u8 = 0b1101_1000;
    let mut start = 0;
    let mut sizes = Vec::new();
    for stop in extra.layers_scheme.iter().flatten() {
        let Some(size) = stop.checked_sub(start).and_then(|size| u32::try_from(size).ok()) else {
            return frame.into();
        };
        sizes.extend_from_slice(&size.to_le_bytes());
        start = *stop;
    }
    let layers = sizes.len() / 4;
    if layers < 2 || start != frame.len() {
        return frame.into();
    }
    // At most three: the engine separates no more.
    let marker = MARKER | (layers - 1) as u8;
    [frame, &[marker], &sizes, &[marker]].concat().into()
}

/// How a picture of this orientation (3GPP TS 26.114 §7.4.5) is to be turned.
fn rotation(orientation: Option<VideoOrientation>) -> Rotation {
    match orientation {
        Some(VideoOrientation::Deg90) => Rotation::Clockwise90,
        Some(VideoOrientation::Deg180) => Rotation::Clockwise180,
        Some(VideoOrientation::Deg270) => Rotation::Clockwise270,
        _ => Rotation::None,
    }
}

/// A frame in the form that the transcoder takes, with what it says of its coding.
struct Unit {
    codec: VideoCodec,
    data: Bytes,
    size: Option<(u32, u32)>,
    parameter_sets: Vec<Vec<u8>>,
}

impl Unit {
    fn new(codec: VideoCodec, data: &[u8]) -> Self {
        let plain = |size| Self { codec, data: Bytes::copy_from_slice(data), size, parameter_sets: Vec::new() };
        match codec {
            VideoCodec::H264 => {
                use h264::{AUD, PPS, SPS, kind};
                Self::of_nals(codec, data, |n| matches!(kind(n[0]), SPS | PPS), |n| kind(n[0]) == AUD)
            }
            VideoCodec::H265 => {
                use h265::{AUD, PPS, VPS, kind};
                Self::of_nals(codec, data, |n| matches!(kind(n[0]), VPS..=PPS), |n| kind(n[0]) == AUD)
            }
            VideoCodec::Vp8 => plain(picture::vp8_size(data)),
            VideoCodec::Vp9 => plain(picture::vp9_size(data)),
            // A temporal delimiter may stand before the sequence header.
            _ => plain(picture::av1_size(data.strip_prefix(&[0x12, 0]).unwrap_or(data))),
        }
    }

    /// Annex B becomes length-prefixed NAL units (AVCC); access unit delimiters are left out.
    fn of_nals(codec: VideoCodec, data: &[u8], is_set: fn(&[u8]) -> bool, is_delimiter: fn(&[u8]) -> bool) -> Self {
        let mut out = Vec::with_capacity(data.len() + 16);
        let (mut sets, mut size) = (Vec::new(), None);
        for nal in annex_b(data).filter(|n| !is_delimiter(n)) {
            push_length_prefixed(&mut out, nal);
            if is_set(nal) && nal.len() <= MAX_PARAMETER_SET && sets.len() < 8 {
                sets.push(nal.to_vec());
                size = size.or_else(|| match codec {
                    VideoCodec::H264 if h264::kind(nal[0]) == h264::SPS => picture::h264_size(nal),
                    VideoCodec::H265 if h265::kind(nal[0]) == h265::SPS => picture::h265_size(nal),
                    _ => None,
                });
            }
        }
        Self { codec, data: out.into(), size, parameter_sets: sets }
    }

    /// The configuration that a key frame brings; `None` if it lacks its parameter sets.
    fn config(&self, rotation: Rotation) -> Option<VideoConfig> {
        let record = match self.codec {
            VideoCodec::H264 => avc::record(&self.parameter_sets)?,
            VideoCodec::H265 => hevc::record(&self.parameter_sets)?,
            _ => Vec::new(),
        };
        Some(VideoConfig { rotation, ..VideoConfig::new(self.codec, record.into(), self.size) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noticed_pause_has_no_deadline() {
        let now = Instant::now();
        let layers = vec![LayerState { area: 1, last: Some(now) }, LayerState { area: 2, last: Some(now) }];
        let mut frames = Frames {
            codec: Some(VideoCodec::Vp8),
            origin: now,
            layers,
            current: Some(1),
            paused_since: None,
            gate: KeyframeGate::closed(),
            leading: RaslFilter::default(),
            config: None,
            order: DecodeOrder::new(true, true),
        };
        let paused = now + LAYER_PAUSE;
        assert_eq!(frames.deadline(), Some(paused));
        // All layers are silent: a deadline that stays in the past would keep its task busy for nothing.
        assert_eq!((frames.layer_to_switch_to(paused), frames.deadline()), (None, None));
        frames.layers[0].last = Some(paused);
        assert_eq!((frames.layer_to_switch_to(paused), frames.deadline()), (Some(0), None));
        frames.layers[1].last = Some(paused);
        assert_eq!(frames.deadline(), Some(paused + LAYER_PAUSE));
    }

    #[test]
    fn vp9_layers_get_a_superframe_index() {
        let of = |layers_scheme| Vp9CodecExtra { layers_scheme, ..Default::default() };
        let two = superframe(&[1, 2, 3, 4, 5], &of([Some(2), Some(5), None]));
        assert_eq!(*two, [1, 2, 3, 4, 5, 0xd9, 2, 0, 0, 0, 3, 0, 0, 0, 0xd9]);
        for alone in [[None; 3], [Some(5), None, None], [Some(2), Some(4), None], [Some(4), Some(2), Some(5)]] {
            assert_eq!(*superframe(&[1, 2, 3, 4, 5], &of(alone)), [1, 2, 3, 4, 5], "{alone:?}");
        }
    }
}
