//! The order in which layers return from a new worker: the highest first. Pure: access units and `now` go in, access units come
//! out.
//!
//! livekit-server gives each viewer the best of the layers of which it has seen packets, and to go from one to another it waits
//! for a key frame. A new encoder's small layers are ready some 40 ms before the large one. Sent as they come, they draw viewers
//! to a lower layer, and the key frame with which these could return is past by then; the next one takes the server a second or
//! two (measured). In the other order viewers keep the layer they had.

use std::time::{Duration, Instant};

/// How long the first access unit waits for those of the other layers: several times what a large one takes longer.
const BARRIER_WAIT: Duration = Duration::from_millis(250);
/// Access units that may wait: 250 ms of three layers with 60 a second, and some.
const MAX_HELD: usize = 64;

/// See the [module](self). `T` is an access unit.
#[derive(Debug)]
pub(crate) struct RestartBarrier<T> {
    awaited: Vec<bool>,
    held: Vec<(usize, T)>,
    until: Option<Instant>,
}

impl<T> RestartBarrier<T> {
    /// Waits for the layers that are wanted.
    pub(crate) fn new(wanted: &[bool]) -> Self {
        Self { awaited: wanted.to_vec(), held: Vec::new(), until: None }
    }

    /// An access unit comes. Gives those that go out now, in order. Once it has given any, the barrier is done.
    pub(crate) fn push(&mut self, layer: usize, unit: T, now: Instant) -> Vec<(usize, T)> {
        if let Some(awaited) = self.awaited.get_mut(layer) {
            *awaited = false;
        }
        self.held.push((layer, unit));
        let until = *self.until.get_or_insert(now + BARRIER_WAIT);
        if self.awaited.contains(&true) && now < until && self.held.len() < MAX_HELD {
            return Vec::new();
        }
        let mut all = std::mem::take(&mut self.held);
        // Stable: the access units of a layer stay in their order.
        all.sort_by_key(|(layer, _)| std::cmp::Reverse(*layer));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_layer_goes_first() {
        let now = Instant::now();
        let mut barrier = RestartBarrier::new(&[true, false, true]);
        assert!(barrier.push(0, 0, now).is_empty());
        assert!(barrier.push(0, 33, now).is_empty());
        assert_eq!(barrier.push(2, 0, now), [(2, 0), (0, 0), (0, 33)]);
    }

    #[test]
    fn the_wait_is_bounded() {
        let now = Instant::now();
        let mut barrier = RestartBarrier::new(&[true, true, true]);
        assert!(barrier.push(0, 0, now).is_empty());
        assert!(barrier.push(1, 0, now + BARRIER_WAIT / 2).is_empty());
        assert_eq!(barrier.push(0, 250, now + BARRIER_WAIT), [(1, 0), (0, 0), (0, 250)]);
        let mut barrier = RestartBarrier::new(&[true, true]);
        assert_eq!((0..).find(|n| !barrier.push(0, *n, now).is_empty()), Some(MAX_HELD - 1));
    }
}
