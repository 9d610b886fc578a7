//! Bytes on their way into a byte stream, within a bound. Pure.

use std::collections::VecDeque;

/// Bytes that may wait for a slow connection: half a second of 8 Mbit/s. What comes on top is dropped whole, as a datagram
/// lost on the way would be, and repaired or replaced by a key frame in the same manner.
pub(crate) const MAX_WAITING: usize = 512 * 1024;

/// See the [module](self).
#[derive(Debug, Default)]
pub(crate) struct StreamQueue(VecDeque<u8>);

impl StreamQueue {
    /// Takes these two, one behind the other; false, and neither, if they do not fit any more.
    pub(crate) fn push(&mut self, first: &[u8], second: &[u8]) -> bool {
        let fits = self.0.len() + first.len() + second.len() <= MAX_WAITING;
        if fits {
            self.0.extend(first);
            self.0.extend(second);
        }
        fits
    }

    /// What is to be written next; empty if all is.
    pub(crate) fn waiting(&self) -> &[u8] {
        let (first, second) = self.0.as_slices();
        if first.is_empty() { second } else { first }
    }

    /// Forgets the first `n` bytes of [`StreamQueue::waiting`].
    pub(crate) fn written(&mut self, n: usize) {
        self.0.drain(..n);
    }
}
