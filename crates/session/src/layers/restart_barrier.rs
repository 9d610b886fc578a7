//! The order in which layers come back from a new transcoder: the highest first. Pure: pictures and `now` go in, pictures come
//! out.
//!
//! livekit-server gives each viewer the best of the layers it has seen packets of, and to go from one to another it waits for a
//! key frame. A new encoder's small pictures are ready some 40 ms before the large one. Sent as they come, they draw viewers to
//! a lower layer, and the key frame with which these could go back is past by then; the next one takes the server a second or
//! two (measured). In the other order nobody leaves the layer that he had.

use publish::AccessUnit;
use std::time::{Duration, Instant};

/// How long the first picture waits for those of the other layers: several times what a large one takes longer.
const PATIENCE: Duration = Duration::from_millis(250);
/// Pictures that may wait: 250 ms of three layers with 60 a second, and some.
const HELD: usize = 64;

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct RestartBarrier {
    awaited: Vec<bool>,
    held: Vec<(usize, AccessUnit)>,
    until: Option<Instant>,
}

impl RestartBarrier {
    /// The layers that are wanted are awaited.
    pub(crate) fn new(wanted: &[bool]) -> Self {
        Self { awaited: wanted.to_vec(), held: Vec::new(), until: None }
    }

    /// A picture comes. Gives those that go out now, in order; with the first that do, this has served.
    pub(crate) fn picture(&mut self, layer: usize, picture: AccessUnit, now: Instant) -> Vec<(usize, AccessUnit)> {
        if let Some(awaited) = self.awaited.get_mut(layer) {
            *awaited = false;
        }
        self.held.push((layer, picture));
        let until = *self.until.get_or_insert(now + PATIENCE);
        if self.awaited.contains(&true) && now < until && self.held.len() < HELD {
            return Vec::new();
        }
        let mut all = std::mem::take(&mut self.held);
        // Stable: the pictures of a layer stay in their order.
        all.sort_by_key(|(layer, _)| std::cmp::Reverse(*layer));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use model::MediaTime;

    fn out(pts: i64, now: Instant) -> AccessUnit {
        AccessUnit { pts: MediaTime::from_millis(pts), at: now, key: pts == 0, data: Bytes::new(), level: None }
    }

    fn order(all: &[(usize, AccessUnit)]) -> Vec<(usize, i64)> {
        all.iter().map(|(layer, out)| (*layer, out.pts.as_millis())).collect()
    }

    #[test]
    fn the_highest_goes_first_once_all_that_are_wanted_are_there() {
        let now = Instant::now();
        let mut back = RestartBarrier::new(&[true, false, true]);
        assert!(back.picture(0, out(0, now), now).is_empty());
        assert!(back.picture(0, out(33, now), now).is_empty());
        assert_eq!(order(&back.picture(2, out(0, now), now)), [(2, 0), (0, 0), (0, 33)]);
    }

    #[test]
    fn nobody_waits_long() {
        let now = Instant::now();
        let mut back = RestartBarrier::new(&[true, true, true]);
        assert!(back.picture(0, out(0, now), now).is_empty());
        assert!(back.picture(1, out(0, now), now + PATIENCE / 2).is_empty());
        assert_eq!(order(&back.picture(0, out(250, now), now + PATIENCE)), [(1, 0), (0, 0), (0, 250)]);
        let mut back = RestartBarrier::new(&[true, true]);
        assert_eq!((0..).find(|n| !back.picture(0, out(*n, now), now).is_empty()), Some(HELD as i64 - 1));
    }
}
