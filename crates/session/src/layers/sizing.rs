//! The sizes of encoded layers: they follow the size of the source's pictures. Pure: sizes and `now` go in, layers come out.
//!
//! The number of layers and the quality of each are published with the first picture and can't be changed. The size of each
//! can: a viewer's decoder reads it in every key frame.
//!
//! Layers grow at once, as viewers see less than the source sends until then. They shrink late, as that saves nothing but the
//! work of scaling up. So a sender whose size goes up and down every few seconds makes them grow once; one that is rotated grows
//! in one direction each time. Each change costs a key frame of every layer that changes, hence the bounds.

use model::{Layer, fit_layers};
use std::time::{Duration, Instant};

/// The least time between two growths: a sender that probes its bandwidth grows in steps.
const GROW_INTERVAL: Duration = Duration::from_secs(1);
/// How long all pictures must have been smaller than the layers. Senders that follow their bandwidth go down and up again within
/// that.
const SHRINK_AFTER: Duration = Duration::from_secs(10);

/// Pixels.
type Size = (u32, u32);

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Sizing {
    wanted: Vec<Layer>,
    /// The size of the newest picture.
    size: Option<Size>,
    grown: Option<Instant>,
    /// The layers are too small, and may grow at this time.
    grow_at: Option<Instant>,
    /// Since when the layers are too large, and the largest picture since.
    too_large: Option<(Instant, Size)>,
}

impl Sizing {
    /// For these layers where the source is large enough, lowest first. No picture is known yet.
    pub(crate) fn new(wanted: Vec<Layer>) -> Self {
        Self { wanted, size: None, grown: None, grow_at: None, too_large: None }
    }

    /// Pictures have this size from now on; the layers are the `current` ones. Gives others if these have to be changed now.
    pub(crate) fn picture(&mut self, size: Size, current: &[Layer], now: Instant) -> Option<Vec<Layer>> {
        self.size = Some(size);
        self.tick(current, now)
    }

    /// When to call [`Sizing::tick`].
    pub(crate) fn due(&self) -> Option<Instant> {
        self.grow_at.or(self.too_large.map(|(since, _)| since + SHRINK_AFTER))
    }

    /// Gives layers in place of the `current` ones if these have to be changed now.
    pub(crate) fn tick(&mut self, current: &[Layer], now: Instant) -> Option<Vec<Layer>> {
        let size = self.size?;
        let fitting = self.fitting(current, size);
        self.grow_at = None;
        if fitting == current {
            self.too_large = None;
            return None;
        }
        if grows(current, &fitting) {
            self.too_large = None;
            let at = self.grown.map_or(now, |grown| grown + GROW_INTERVAL);
            if now < at {
                self.grow_at = Some(at);
                return None;
            }
            self.grown = (!current.is_empty()).then_some(now);
            return Some(fitting);
        }
        let (since, largest) = self.too_large.get_or_insert((now, size));
        if area(size) > area(*largest) {
            *largest = size;
        }
        if now < *since + SHRINK_AFTER {
            return None;
        }
        let largest = *largest;
        // The pictures to come may be smaller yet.
        self.too_large = (largest != size).then_some((now, size));
        Some(self.fitting(current, largest))
    }

    /// The layers for pictures of this size: as many as there are, of the same qualities. If there were fewer at first than are
    /// wanted, they are the highest of those that fit; if fewer fit than there are, the rest is as large as the highest that
    /// does: viewers stay on the layer that they have, and nothing is scaled up.
    fn fitting(&self, current: &[Layer], (width, height): Size) -> Vec<Layer> {
        let mut fitted = fit_layers(&self.wanted, width, height);
        if current.is_empty() || fitted.is_empty() {
            return if current.is_empty() { fitted } else { current.to_vec() };
        }
        fitted.drain(..fitted.len().saturating_sub(current.len()));
        let sizes = fitted.iter().chain(std::iter::repeat(&fitted[fitted.len() - 1]));
        current.iter().zip(sizes).map(|(layer, size)| Layer { quality: layer.quality, ..*size }).collect()
    }
}

/// Whether pictures would lose detail in the current layers.
fn grows(current: &[Layer], fitting: &[Layer]) -> bool {
    let top = |layers: &[Layer]| layers.last().map_or((0, 0), |l| (l.width, l.height));
    let ((width, height), (fits_w, fits_h)) = (top(current), top(fitting));
    fits_w > width || fits_h > height
}

fn area((width, height): Size) -> u64 {
    u64::from(width) * u64::from(height)
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{Quality, VideoPreset};
    use proptest::prelude::*;

    const RAMP: [Size; 3] = [(320, 180), (640, 360), (1280, 720)];

    fn sizing() -> Sizing {
        Sizing::new(VideoPreset::H264_720p30Layers3.encoding().layers)
    }

    /// Shows pictures of these sizes at these milliseconds and lets time pass between them; gives what became of the layers, and
    /// when.
    fn run(start: Size, sizes: impl IntoIterator<Item = (u64, Size)>, until: u64) -> Vec<(u64, Vec<Size>)> {
        let (mut sizing, t0) = (sizing(), Instant::now());
        let at = |ms: u64| t0 + Duration::from_millis(ms);
        let mut layers = sizing.picture(start, &[], t0).unwrap();
        let qualities = |layers: &[Layer]| layers.iter().map(|l| l.quality).collect::<Vec<_>>();
        let declared = qualities(&layers);
        let mut sizes = sizes.into_iter().peekable();
        let mut changes = Vec::new();
        for ms in 0..=until {
            let mut changed = sizing.due().filter(|due| *due <= at(ms)).and_then(|_| sizing.tick(&layers, at(ms)));
            while let Some((_, size)) = sizes.next_if(|(when, _)| *when <= ms) {
                changed = sizing.picture(size, &layers, at(ms)).or(changed);
            }
            if let Some(new) = changed {
                assert_eq!(qualities(&new), declared);
                layers = new;
                changes.push((ms, layers.iter().map(|l| (l.width, l.height)).collect()));
            }
        }
        changes
    }

    #[test]
    fn layers_grow_at_once_and_then_once_a_second() {
        let fast = run(RAMP[0], [(100, RAMP[1]), (300, RAMP[2])], 5_000);
        assert_eq!(fast, [(100, vec![(640, 360)]), (1_100, vec![(1280, 720)])]);
        let slow = run(RAMP[1], [(3_000, RAMP[2])], 5_000);
        assert_eq!(slow, [(3_000, vec![(640, 360), (1280, 720)])], "the highest that fit");
        assert_eq!(run(RAMP[2], [(50, (1920, 1080))], 20_000), [], "there is nothing above");
    }

    #[test]
    fn bitrates_follow_and_qualities_stay() {
        let (mut sizing, t0) = (sizing(), Instant::now());
        let small = sizing.picture(RAMP[1], &[], t0).unwrap();
        assert_eq!(
            small.iter().map(|l| (l.quality, l.bitrate)).collect::<Vec<_>>(),
            [(Quality::Low, 237_500), (Quality::Medium, 671_751)]
        );
        let large = sizing.picture(RAMP[2], &small, t0).unwrap();
        assert_eq!(
            large.iter().map(|l| (l.quality, l.bitrate)).collect::<Vec<_>>(),
            [(Quality::Low, 671_751), (Quality::Medium, 1_900_000)]
        );
    }

    #[test]
    fn layers_shrink_to_the_largest_recent_picture() {
        let of = |sizes: &[(u64, Size)]| run(RAMP[2], sizes.to_vec(), 30_000);
        let all_small = vec![RAMP[0]; 3];
        assert_eq!(of(&[(1_000, RAMP[0])]), [(11_000, all_small.clone())]);
        let middle = vec![RAMP[0], RAMP[1], RAMP[1]];
        assert_eq!(
            of(&[(1_000, RAMP[1]), (9_000, RAMP[0])]),
            [(11_000, middle), (21_000, all_small)],
            "and smaller if they stay so"
        );
        // Another aspect ratio is not larger: it has borders for a while.
        assert_eq!(of(&[(1_000, (720, 1280))]), [(11_000, vec![(102, 180), (202, 360), (406, 720)])]);
        let turned = run((720, 1280), [(1_000, RAMP[2])], 5_000);
        assert_eq!(turned, [(1_000, RAMP.to_vec())]);
    }

    #[test]
    fn a_size_that_goes_up_and_down_changes_them_once() {
        let restless = |period| (1u64..100).map(move |n| (n * period, RAMP[if n % 2 == 0 { 0 } else { 2 }]));
        assert_eq!(run(RAMP[0], restless(3_000), 290_000).len(), 1);
        assert_eq!(run(RAMP[0], restless(40), 20_000).len(), 1, "also with every picture");
        assert_eq!(run(RAMP[2], restless(9_000), 290_000), []);
    }

    proptest! {
        #[test]
        fn changes_are_rare_and_end_where_the_source_does(
            sizes in proptest::collection::vec((0u64..30_000, 16u32..2000, 16u32..2000), 1..40),
        ) {
            let mut sizes: Vec<_> = sizes.into_iter().map(|(ms, w, h)| (ms, (w, h))).collect();
            sizes.sort_by_key(|(ms, _)| *ms);
            let (mut sizing, t0) = (sizing(), Instant::now());
            let first = sizing.picture(sizes[0].1, &[], t0).unwrap();
            let last = sizing.fitting(&first, sizes[sizes.len() - 1].1);
            let before = first.iter().map(|l| (l.width, l.height)).collect::<Vec<_>>();
            let changes = run(sizes[0].1, sizes.clone(), 60_000);
            prop_assert!(changes.len() <= 60);
            let end = changes.last().map_or(before, |(_, layers)| layers.clone());
            prop_assert_eq!(end, last.iter().map(|l| (l.width, l.height)).collect::<Vec<_>>());
        }
    }
}
