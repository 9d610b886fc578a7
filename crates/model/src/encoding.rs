//! What to encode: presets, custom options, and how layers are fitted to the source.
//!
//! All figures are those of the Go ingress (measured from its presets and its published tracks), so that a room looks the same
//! after the binary was replaced.

use serde::{Deserialize, Serialize};

/// A video codec that is encoded for the room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum EncodedVideo {
    /// H.264 constrained baseline.
    H264,
    Vp8,
}

impl EncodedVideo {
    /// The MIME type that LiveKit uses in `AddTrackRequest.simulcast_codecs`.
    pub fn mime(self) -> &'static str {
        match self {
            Self::H264 => "video/H264",
            Self::Vp8 => "video/VP8",
        }
    }
}

/// The quality of a layer, as viewers ask for it (`livekit.VideoQuality`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Quality {
    Low,
    Medium,
    High,
}

impl Quality {
    /// The RTP stream id (RFC 8852) that LiveKit expects for this quality: "q", "h" or "f".
    pub fn rid(self) -> &'static str {
        match self {
            Self::Low => "q",
            Self::Medium => "h",
            Self::High => "f",
        }
    }
}

/// One simulcast layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// Its quality.
    pub quality: Quality,
    /// Width in pixels; even.
    pub width: u32,
    /// Height in pixels; even.
    pub height: u32,
    /// Bits a second.
    pub bitrate: u32,
}

/// How to encode video.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VideoEncoding {
    /// The codec.
    pub codec: EncodedVideo,
    /// The maximum frame rate, in frames a second; sources below it keep theirs.
    pub max_frame_rate: f64,
    /// The layers from the lowest quality to the highest; one to three.
    pub layers: Vec<Layer>,
}

/// How to encode audio (always Opus at 48 kHz).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AudioEncoding {
    /// 1 or 2.
    pub channels: u8,
    /// Bits a second.
    pub bitrate: u32,
    /// Discontinuous transmission: silence is sent as next to nothing.
    pub dtx: bool,
}

/// The video presets of the API, in the order of `IngressVideoEncodingPreset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum VideoPreset {
    H264_720p30Layers3,
    H264_1080p30Layers3,
    H264_540p25Layers2,
    H264_720p30Layers1,
    H264_1080p30Layers1,
    H264_720p30Layers3HighMotion,
    H264_1080p30Layers3HighMotion,
    H264_540p25Layers2HighMotion,
    H264_720p30Layers1HighMotion,
    H264_1080p30Layers1HighMotion,
}

impl VideoPreset {
    /// The preset with this number in `livekit.IngressVideoEncodingPreset`.
    pub fn from_number(n: i32) -> Option<Self> {
        use VideoPreset::*;
        [
            H264_720p30Layers3,
            H264_1080p30Layers3,
            H264_540p25Layers2,
            H264_720p30Layers1,
            H264_1080p30Layers1,
            H264_720p30Layers3HighMotion,
            H264_1080p30Layers3HighMotion,
            H264_540p25Layers2HighMotion,
            H264_720p30Layers1HighMotion,
            H264_1080p30Layers1HighMotion,
        ]
        .get(usize::try_from(n).ok()?)
        .copied()
    }

    /// The encoding of this preset.
    pub fn encoding(self) -> VideoEncoding {
        use VideoPreset::*;
        let (width, height, bitrate, fps, count) = match self {
            H264_720p30Layers3 => (1280, 720, 1_900_000, 30.0, 3),
            H264_1080p30Layers3 => (1920, 1080, 3_500_000, 30.0, 3),
            H264_540p25Layers2 => (960, 540, 1_000_000, 25.0, 2),
            H264_720p30Layers1 => (1280, 720, 1_900_000, 30.0, 1),
            H264_1080p30Layers1 => (1920, 1080, 3_500_000, 30.0, 1),
            H264_720p30Layers3HighMotion => (1280, 720, 2_500_000, 30.0, 3),
            H264_1080p30Layers3HighMotion => (1920, 1080, 4_500_000, 30.0, 3),
            H264_540p25Layers2HighMotion => (960, 540, 1_300_000, 25.0, 2),
            H264_720p30Layers1HighMotion => (1280, 720, 2_500_000, 30.0, 1),
            H264_1080p30Layers1HighMotion => (1920, 1080, 4_500_000, 30.0, 1),
        };
        VideoEncoding {
            codec: EncodedVideo::H264,
            max_frame_rate: fps,
            layers: VideoEncoding::halvings(width, height, bitrate, count),
        }
    }
}

impl VideoEncoding {
    /// `count` (1 to 3) layers of `width`×`height`, half of it and a quarter of it, lowest first. Each halving reduces the bitrate
    /// by the ratio of areas to the power of 0.75, as fewer pixels need more bits each.
    pub fn halvings(width: u32, height: u32, bitrate: u32, count: usize) -> Vec<Layer> {
        let qualities: &[Quality] = match count {
            1 => &[Quality::High],
            // Two layers are LOW and HIGH, not LOW and MEDIUM (measured).
            2 => &[Quality::Low, Quality::High],
            _ => &[Quality::Low, Quality::Medium, Quality::High],
        };
        let steps = qualities.len() - 1;
        qualities
            .iter()
            .enumerate()
            .map(|(i, &quality)| {
                let down = steps - i;
                let area = 1.0 / f64::from(1u32 << (2 * down));
                Layer {
                    quality,
                    width: width >> down,
                    height: height >> down,
                    bitrate: (f64::from(bitrate) * area.powf(0.75)) as u32,
                }
            })
            .collect()
    }

    /// The layers of custom options that name none: 720p at 1.7 Mbit/s (measured; not the preset's 1.9).
    pub fn default_layers() -> Vec<Layer> {
        Self::halvings(1280, 720, 1_700_000, 3)
    }
}

/// The bitrate of a custom layer that names none, in bits a second: 3.5 Mbit/s at 1080p30, scaled by frame rate and area, each to
/// the power of 0.75.
pub fn default_bitrate(width: u32, height: u32, frame_rate: f64) -> u32 {
    let area = f64::from(width) * f64::from(height) / f64::from(1920 * 1080);
    (3_500_000.0 * (frame_rate / 30.0).powf(0.75) * area.powf(0.75)) as u32
}

/// The audio presets of the API, in the order of `IngressAudioEncodingPreset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum AudioPreset {
    OpusStereo96k,
    OpusMono64k,
}

impl AudioPreset {
    /// The preset with this number in `livekit.IngressAudioEncodingPreset`.
    pub fn from_number(n: i32) -> Option<Self> {
        match n {
            0 => Some(Self::OpusStereo96k),
            1 => Some(Self::OpusMono64k),
            _ => None,
        }
    }

    /// The encoding of this preset.
    pub fn encoding(self) -> AudioEncoding {
        match self {
            Self::OpusStereo96k => AudioEncoding { channels: 2, bitrate: 96_000, dtx: true },
            Self::OpusMono64k => AudioEncoding { channels: 1, bitrate: 64_000, dtx: true },
        }
    }
}

/// Fits layers (lowest first) to a source of `width`×`height` pixels. Each keeps the source's aspect ratio within its own size; none is
/// larger than the source (except for rounding up to even); the first that reaches the source's size is the last. Each keeps its
/// bitrate and quality. Empty only if the source has no size or `wanted` is empty.
pub fn fit_layers(wanted: &[Layer], width: u32, height: u32) -> Vec<Layer> {
    if width == 0 || height == 0 {
        return Vec::new();
    }
    let scale = |a: u32, num: u32, den: u32| ((u64::from(a) * u64::from(num)) / u64::from(den)) as u32;
    let even = |a: u32| a.max(1).next_multiple_of(2);
    let mut fitted = Vec::with_capacity(wanted.len());
    for layer in wanted {
        let mut w = layer.width.min(width);
        let mut h = scale(w, height, width);
        if h > layer.height {
            h = layer.height;
            w = scale(h, width, height);
        }
        let (w, h) = (even(w), even(h));
        fitted.push(Layer { width: w, height: h, ..*layer });
        if w >= width || h >= height {
            break;
        }
    }
    fitted
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sizes(layers: &[Layer]) -> Vec<(Quality, u32, u32, u32)> {
        layers.iter().map(|l| (l.quality, l.width, l.height, l.bitrate)).collect()
    }

    #[test]
    fn presets_are_those_of_the_go_ingress() {
        use Quality::*;
        let of = |n| sizes(&VideoPreset::from_number(n).unwrap().encoding().layers);
        assert_eq!(of(0), [(Low, 320, 180, 237_500), (Medium, 640, 360, 671_751), (High, 1280, 720, 1_900_000)]);
        assert_eq!(of(1), [(Low, 480, 270, 437_500), (Medium, 960, 540, 1_237_436), (High, 1920, 1080, 3_500_000)]);
        assert_eq!(of(2), [(Low, 480, 270, 353_553), (High, 960, 540, 1_000_000)]);
        assert_eq!(of(3), [(High, 1280, 720, 1_900_000)]);
        assert_eq!(of(4), [(High, 1920, 1080, 3_500_000)]);
        assert_eq!(of(5), [(Low, 320, 180, 312_500), (Medium, 640, 360, 883_883), (High, 1280, 720, 2_500_000)]);
        assert_eq!(of(6), [(Low, 480, 270, 562_500), (Medium, 960, 540, 1_590_990), (High, 1920, 1080, 4_500_000)]);
        assert_eq!(of(7), [(Low, 480, 270, 459_619), (High, 960, 540, 1_300_000)]);
        assert_eq!(of(8), [(High, 1280, 720, 2_500_000)]);
        assert_eq!(of(9), [(High, 1920, 1080, 4_500_000)]);
        assert_eq!(VideoPreset::from_number(10), None);
        assert_eq!(VideoPreset::from_number(-1), None);
        assert_eq!(
            sizes(&VideoEncoding::default_layers()),
            [(Low, 320, 180, 212_500), (Medium, 640, 360, 601_040), (High, 1280, 720, 1_700_000)]
        );
        assert_eq!(default_bitrate(1920, 1080, 30.0), 3_500_000);
        assert_eq!(default_bitrate(960, 540, 30.0), 1_237_436);
    }

    #[test]
    fn layers_fit_the_source() {
        use Quality::*;
        let fit = |n, w, h| {
            sizes(&fit_layers(&VideoPreset::from_number(n).unwrap().encoding().layers, w, h))
                .into_iter()
                .map(|(q, w, h, _)| (q, w, h))
                .collect::<Vec<_>>()
        };
        assert_eq!(fit(0, 1280, 720), [(Low, 320, 180), (Medium, 640, 360), (High, 1280, 720)]);
        assert_eq!(fit(0, 1920, 1080), [(Low, 320, 180), (Medium, 640, 360), (High, 1280, 720)]);
        assert_eq!(fit(0, 640, 360), [(Low, 320, 180), (Medium, 640, 360)]);
        assert_eq!(fit(0, 320, 180), [(Low, 320, 180)]);
        assert_eq!(fit(0, 160, 90), [(Low, 160, 90)]);
        assert_eq!(fit(0, 720, 1280), [(Low, 102, 180), (Medium, 202, 360), (High, 406, 720)]);
        assert_eq!(fit(0, 640, 480), [(Low, 240, 180), (Medium, 480, 360), (High, 640, 480)]);
        assert_eq!(fit(0, 333, 187), [(Low, 320, 180), (Medium, 334, 188)]);
        assert_eq!(fit(4, 640, 360), [(High, 640, 360)]);
        assert_eq!(fit(0, 0, 360), []);
    }

    proptest! {
        #[test]
        fn fitted_layers_are_even_and_within_bounds(
            w in 1u32..8000, h in 1u32..8000, preset in 0i32..10,
        ) {
            let wanted = VideoPreset::from_number(preset).unwrap().encoding().layers;
            let fitted = fit_layers(&wanted, w, h);
            prop_assert!(!fitted.is_empty());
            for (f, l) in fitted.iter().zip(&wanted) {
                prop_assert!(f.width % 2 == 0 && f.height % 2 == 0 && f.width > 0 && f.height > 0);
                prop_assert!(f.width <= l.width + 1 && f.height <= l.height + 1, "{f:?} in {l:?}");
                prop_assert!(f.width <= w + 1 && f.height <= h + 1);
                prop_assert_eq!((f.quality, f.bitrate), (l.quality, l.bitrate));
            }
            prop_assert!(fitted.windows(2).all(|p| p[0].width <= p[1].width && p[0].height <= p[1].height));
        }
    }
}
