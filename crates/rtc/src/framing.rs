//! Datagrams on a byte stream: each after its 16-bit length (RFC 4571 §2). Pure.

use crate::stream_queue::StreamQueue;
use std::ops::{Deref, DerefMut};

/// Puts datagrams together from what arrives.
#[derive(Debug, Default)]
pub(crate) struct Deframer {
    bytes: Vec<u8>,
    read: usize,
}

impl Deframer {
    /// Takes what arrived.
    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        // Whole datagrams were taken out before: at most one (64 KiB) is kept back, so this stays bounded.
        self.bytes.drain(..self.read);
        self.read = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// Copies the next whole datagram to `to` and returns its length there; one that is longer than `to` is cut.
    pub(crate) fn next(&mut self, to: &mut [u8]) -> Option<usize> {
        let rest = &self.bytes[self.read..];
        let len = usize::from(u16::from_be_bytes([*rest.first()?, *rest.get(1)?]));
        if rest.len() < 2 + len {
            return None;
        }
        let start = self.read + 2;
        self.read = start + len;
        let len = len.min(to.len());
        to[..len].copy_from_slice(&self.bytes[start..start + len]);
        Some(len)
    }
}

/// Datagrams on their way into the stream.
#[derive(Debug, Default)]
pub(crate) struct Framer(StreamQueue);

impl Framer {
    /// Takes a datagram; false if it does not fit any more.
    pub(crate) fn push(&mut self, datagram: &[u8]) -> bool {
        u16::try_from(datagram.len()).is_ok_and(|len| self.0.push(&len.to_be_bytes(), datagram))
    }
}

impl Deref for Framer {
    type Target = StreamQueue;

    fn deref(&self) -> &StreamQueue {
        &self.0
    }
}

impl DerefMut for Framer {
    fn deref_mut(&mut self) -> &mut StreamQueue {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream_queue::MAX_WAITING;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn datagrams_survive_any_cutting(
            datagrams in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..2000), 0..20),
            cuts in proptest::collection::vec(1usize..3000, 1..50),
        ) {
            let mut out = Framer::default();
            prop_assert!(datagrams.iter().all(|d| out.push(d)));
            let mut incoming = Deframer::default();
            let mut got: Vec<Vec<u8>> = Vec::new();
            let mut cut = cuts.iter().cycle();
            while !out.waiting().is_empty() {
                let n = out.waiting().len().min(*cut.next().unwrap());
                incoming.extend(&out.waiting()[..n]);
                out.written(n);
                let mut to = [0; 2000];
                while let Some(len) = incoming.next(&mut to) {
                    got.push(to[..len].to_vec());
                }
            }
            prop_assert_eq!(got, datagrams);
        }

        #[test]
        fn any_bytes_stay_within_bounds(chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..500), 0..200)) {
            let mut incoming = Deframer::default();
            for chunk in chunks {
                incoming.extend(&chunk);
                while incoming.next(&mut [0; 100]).is_some() {}
                prop_assert!(incoming.bytes.len() - incoming.read < 2 + 65_536 + 500);
            }
        }
    }

    #[test]
    fn slow_connection_loses_datagrams() {
        let mut out = Framer::default();
        let taken = (0..10_000).filter(|_| out.push(&[0; 1000])).count();
        assert_eq!(taken, MAX_WAITING / 1002);
        assert!(!out.push(&[0; 70_000]));
    }
}
