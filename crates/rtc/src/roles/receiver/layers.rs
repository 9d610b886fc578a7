//! Which simulcast layer is which: the order of a client's streams by what they really carry. Pure.
//!
//! The order of `a=simulcast` says nothing reliable: browsers list low to high or high to low as the page wants. Sizes
//! decide. A client that has just begun may not send its upper layers for seconds, as it does not trust its network yet;
//! these are ranked by name (RID) or by the order that the others show.

use model::{Layer, Quality};
use std::time::{Duration, Instant};

/// How long to wait for the sizes of all layers once one is known. Layers that start together are within a frame or two.
const SIZES_TIMEOUT: Duration = Duration::from_millis(500);

/// The streams of a video track, each known by its place in the offer.
#[derive(Debug)]
pub(crate) struct Layers {
    rids: Vec<String>,
    sizes: Vec<Option<(u32, u32)>>,
    /// For each stream its rank, lowest 0; empty before [`Layers::settle`].
    ranks: Vec<usize>,
    first: Option<Instant>,
    /// Sizes have changed since [`Layers::settle`] last answered.
    changed: bool,
}

impl Layers {
    /// Of these RTP stream ids; none for a single stream.
    pub(crate) fn new(rids: &[String]) -> Self {
        let count = rids.len().max(1);
        Self { rids: rids.to_vec(), sizes: vec![None; count], ranks: Vec::new(), first: None, changed: false }
    }

    /// The stream that has this rank.
    pub(crate) fn at_rank(&self, rank: usize) -> Option<usize> {
        self.ranks.iter().position(|r| *r == rank)
    }

    /// The stream's rank, once settled.
    pub(crate) fn rank(&self, index: usize) -> Option<usize> {
        self.ranks.get(index).copied()
    }

    /// The pixels of a stream, if known.
    pub(crate) fn area(&self, index: usize) -> u64 {
        self.sizes.get(index).copied().flatten().map_or(0, |(w, h)| u64::from(w) * u64::from(h))
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.sizes.len()
    }

    /// A stream's key frame has this size.
    pub(crate) fn sized(&mut self, index: usize, size: (u32, u32), now: Instant) {
        let Some(known) = self.sizes.get_mut(index) else { return };
        if known.replace(size) != Some(size) {
            self.first.get_or_insert(now);
            self.changed = true;
        }
    }

    /// When [`Layers::settle`] will have an answer though not all sizes are known.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.first.filter(|_| self.ranks.is_empty()).map(|f| f + SIZES_TIMEOUT)
    }

    /// The layers, lowest first, whenever they or their order have changed.
    pub(crate) fn settle(&mut self, now: Instant) -> Option<Vec<Layer>> {
        let complete = self.sizes.iter().all(Option::is_some);
        let waited = self.deadline().is_some_and(|d| now >= d);
        if !(self.changed && (complete || !self.ranks.is_empty()) || waited) {
            return None;
        }
        self.changed = false;
        let order = self.order();
        self.ranks = vec![0; order.len()];
        for (rank, &index) in order.iter().enumerate() {
            self.ranks[index] = rank;
        }
        Some(self.layers(&order))
    }

    /// The streams, lowest first.
    fn order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.len()).collect();
        if self.sizes.iter().all(Option::is_some) {
            order.sort_by_key(|&i| (self.area(i), self.by_name(i)));
            return order;
        }
        if order.iter().all(|&i| self.by_name(i).is_some()) {
            order.sort_by_key(|&i| self.by_name(i));
            return order;
        }
        let known: Vec<usize> = order.iter().copied().filter(|&i| self.sizes[i].is_some()).collect();
        let descending = match known.as_slice() {
            [first, .., last] => self.area(*first) > self.area(*last),
            // The one that is sent first is the lowest; its place shows the order.
            [only] => *only + 1 == self.len() && self.len() > 1,
            [] => false,
        };
        if descending {
            order.reverse();
        }
        order
    }

    /// The rank that a stream's id claims, in the habits of LiveKit (q, h, f) and of others (l, m, h).
    fn by_name(&self, index: usize) -> Option<u8> {
        let name = self.rids.get(index)?.to_ascii_lowercase();
        let livekit = self.rids.iter().any(|r| matches!(r.as_str(), "q" | "f"));
        match name.as_str() {
            "q" | "l" | "lo" | "low" => Some(0),
            "h" if livekit => Some(1),
            "m" | "mid" | "medium" => Some(1),
            "f" | "h" | "hi" | "high" => Some(2),
            _ => None,
        }
    }

    fn layers(&self, order: &[usize]) -> Vec<Layer> {
        let qualities: &[Quality] = match order.len() {
            1 => &[Quality::High],
            2 => &[Quality::Low, Quality::High],
            _ => &[Quality::Low, Quality::Medium, Quality::High],
        };
        let known = order.iter().position(|&i| self.sizes[i].is_some()).unwrap_or(0);
        let (w, h) = order.get(known).and_then(|&i| self.sizes[i]).unwrap_or((0, 0));
        let layer = |(rank, &index): (usize, &usize)| {
            // An unknown size is guessed as half or double of the known one.
            let guess = |side: u32| if rank < known { side >> (known - rank) } else { side << (rank - known) };
            let (width, height) = self.sizes[index].unwrap_or((guess(w), guess(h)));
            let quality = qualities.get(rank).copied().unwrap_or(Quality::High);
            Layer { quality, width, height, bitrate: 0 }
        };
        order.iter().enumerate().map(layer).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layers(rids: &[&str]) -> Layers {
        Layers::new(&rids.iter().map(|r| (*r).to_owned()).collect::<Vec<_>>())
    }

    fn widths(layers: &[Layer]) -> Vec<u32> {
        layers.iter().map(|l| l.width).collect()
    }

    #[test]
    fn sizes_decide_the_order() {
        let now = Instant::now();
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
            let mut l = layers(&["a", "b", "c"]);
            for (place, &rank) in order.iter().enumerate() {
                assert_eq!(l.settle(now), None);
                l.sized(place, (320 << rank, 180 << rank), now);
            }
            assert_eq!(widths(&l.settle(now).unwrap()), [320, 640, 1280]);
            assert_eq!((0..3).map(|i| l.rank(i).unwrap()).collect::<Vec<_>>(), order);
            assert_eq!(l.settle(now), None, "nothing has changed");
            l.sized(0, (10, 10), now);
            assert!(l.settle(now).is_some());
        }
    }

    #[test]
    fn single_stream_is_high() {
        let now = Instant::now();
        let mut l = layers(&[]);
        l.sized(0, (1280, 720), now);
        let settled = l.settle(now).unwrap();
        assert_eq!((settled.len(), settled[0].quality), (1, Quality::High));
    }

    #[test]
    fn unsent_layers_rank_by_name_or_order() {
        let now = Instant::now();
        for (rids, first, ranks) in [
            (["q", "h", "f"], 0, [0, 1, 2]),
            (["f", "h", "q"], 2, [2, 1, 0]),
            (["l", "m", "h"], 0, [0, 1, 2]),
            (["1", "2", "3"], 0, [0, 1, 2]),
            (["1", "2", "3"], 2, [2, 1, 0]),
        ] {
            let mut l = layers(&rids);
            l.sized(first, (320, 180), now);
            assert_eq!(l.settle(now), None);
            let settled = l.settle(now + SIZES_TIMEOUT).unwrap();
            assert_eq!(widths(&settled), [320, 640, 1280], "{rids:?}");
            assert_eq!((0..3).map(|i| l.rank(i).unwrap()).collect::<Vec<_>>(), ranks, "{rids:?}");
        }
    }

    #[test]
    fn two_layers_are_low_and_high() {
        let now = Instant::now();
        let mut l = layers(&["x", "y"]);
        l.sized(0, (1280, 720), now);
        l.sized(1, (640, 360), now);
        let settled = l.settle(now).unwrap();
        assert_eq!(settled.iter().map(|l| l.quality).collect::<Vec<_>>(), [Quality::Low, Quality::High]);
        assert_eq!((l.rank(0), l.at_rank(0)), (Some(1), Some(1)));
    }
}
