//! Sizes: what a picture looks like when shown, and where it goes inside a layer of another shape.

use gstreamer_video as gst_video;

/// Width and height in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) width: u32,
    pub(crate) height: u32,
}

/// A part of a picture, in pixels; even, as chroma has half the resolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rect {
    pub(crate) x: u32,
    pub(crate) y: u32,
    pub(crate) size: Size,
}

/// A picture that fills its layer but for this part of a side is stretched over all of it: layers round to even sizes, and
/// a hair of border would show while three in a hundred of distortion does not.
const STRETCH: f64 = 0.03;

impl Size {
    /// The size at which pictures of this kind are to be shown with square pixels. The side that the pixel aspect ratio
    /// makes longer grows, so that no detail is lost.
    pub(crate) fn shown(info: &gst_video::VideoInfo) -> Self {
        let (numer, denom) = (info.par().numer(), info.par().denom());
        let (width, height) = (info.width(), info.height());
        let (Ok(n), Ok(d)) = (u32::try_from(numer), u32::try_from(denom)) else { return Self { width, height } };
        let grow = |side: u32, by: u32, of: u32| {
            let grown = (u64::from(side) * u64::from(by) + u64::from(of) / 2) / u64::from(of);
            // Eight-fold is beyond every ratio in use (the widest of H.264's table is 160:99): a wilder one is garbage.
            u32::try_from(grown).ok().filter(|g| *g <= side.saturating_mul(8)).unwrap_or(side)
        };
        match (n, d) {
            (0, _) | (_, 0) => Self { width, height },
            (n, d) if n >= d => Self { width: grow(width, n, d), height },
            (n, d) => Self { width, height: grow(height, d, n) },
        }
    }

    /// The largest place for a picture of this shape inside `layer`, in the middle of it.
    pub(crate) fn inside(self, layer: Size) -> Rect {
        let scale = (f64::from(layer.width) / f64::from(self.width.max(1)))
            .min(f64::from(layer.height) / f64::from(self.height.max(1)));
        let fit = |side: u32, room: u32| {
            let fitted = f64::from(side) * scale;
            if fitted >= f64::from(room) * (1.0 - STRETCH) || room <= 2 {
                return room;
            }
            // The cast holds: between 0 and `room`.
            ((fitted / 2.0).round() as u32 * 2).clamp(2, room)
        };
        let size = Size { width: fit(self.width, layer.width), height: fit(self.height, layer.height) };
        Rect { x: (layer.width - size.width) / 4 * 2, y: (layer.height - size.height) / 4 * 2, size }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn size(width: u32, height: u32) -> Size {
        Size { width, height }
    }

    fn shown(w: u32, h: u32, n: i32, d: i32) -> Size {
        gstreamer::init().unwrap();
        let info = gst_video::VideoInfo::builder(gst_video::VideoFormat::I420, w, h)
            .par(gstreamer::Fraction::new(n, d))
            .build()
            .unwrap();
        Size::shown(&info)
    }

    #[test]
    fn pixels_become_square() {
        assert_eq!(shown(1280, 720, 1, 1), size(1280, 720));
        assert_eq!(shown(720, 576, 16, 11), size(1047, 576));
        assert_eq!(shown(720, 480, 8, 9), size(720, 540));
        assert_eq!(shown(720, 480, 1, 1000), size(720, 480));
    }

    #[test]
    fn other_shapes_get_borders_and_near_ones_do_not() {
        let layer = size(640, 360);
        assert_eq!(size(1920, 1080).inside(layer), Rect { x: 0, y: 0, size: layer });
        assert_eq!(size(1440, 1080).inside(layer), Rect { x: 80, y: 0, size: size(480, 360) });
        assert_eq!(size(720, 1280).inside(layer), Rect { x: 218, y: 0, size: size(202, 360) });
        assert_eq!(size(2560, 1080).inside(layer), Rect { x: 0, y: 44, size: size(640, 270) });
        assert_eq!(size(720, 1280).inside(size(406, 720)), Rect { x: 0, y: 0, size: size(406, 720) });
        assert_eq!(size(1, 8000).inside(size(640, 360)).size, size(2, 360));
    }

    proptest! {
        #[test]
        fn pictures_lie_inside_their_layer_at_even_places(w in 1u32..9000, h in 1u32..9000, lw in 1u32..1000, lh in 1u32..1000) {
            let layer = size(lw * 2, lh * 2);
            let r = size(w, h).inside(layer);
            prop_assert!(r.x + r.size.width <= layer.width && r.y + r.size.height <= layer.height);
            prop_assert!(r.size.width > 0 && r.size.height > 0);
            prop_assert!([r.x, r.y, r.size.width, r.size.height].iter().all(|v| v % 2 == 0));
            prop_assert!(r.size.width == layer.width || r.size.height == layer.height);
        }

        #[test]
        fn layers_fitted_to_a_source_are_filled(w in 64u32..4000, h in 64u32..4000) {
            prop_assume!(w / h < 4 && h / w < 4);
            let wanted = model::VideoPreset::H264_720p30Layers3.encoding().layers;
            for l in model::fit_layers(&wanted, w, h) {
                let layer = size(l.width, l.height);
                prop_assert_eq!(size(w, h).inside(layer).size, layer);
            }
        }
    }
}
