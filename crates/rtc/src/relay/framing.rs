//! Messages of TURN on a byte stream (RFC 8656 §12.5, RFC 8489 §6.2.2): each says its own length, and data of a channel is padded to
//! four bytes. Pure. (The library's own buffer knows no padding.)

use crate::stream_queue::StreamQueue;
use std::ops::{Deref, DerefMut};

/// Length of the header of a STUN message, and of one of channel data.
const STUN_HEADER: usize = 20;
const CHANNEL_HEADER: usize = 4;
/// What stands in every STUN message (RFC 8489 §5).
const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

/// Cuts what arrives into messages.
#[derive(Debug, Default)]
pub(super) struct Deframer(Vec<u8>);

/// What arrived is no TURN.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Nonsense;

impl Deframer {
    /// Takes what arrived.
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        // Whole messages were taken out before: at most one (64 KiB) is kept back.
        self.0.extend_from_slice(bytes);
    }

    /// The next whole message, without its padding.
    ///
    /// # Errors
    /// [`Nonsense`]: where the next message begins is not known any more.
    pub(super) fn next(&mut self) -> Result<Option<Vec<u8>>, Nonsense> {
        let Some(&[first, _, high, low]) = self.0.first_chunk() else { return Ok(None) };
        let length = usize::from(u16::from_be_bytes([high, low]));
        // RFC 8656 §12: two zero bits begin a STUN message, 0x40 to 0x4f channel data.
        let (whole, padded) = match first {
            0..=0x3f if length.is_multiple_of(4) => (STUN_HEADER + length, STUN_HEADER + length),
            0x40..=0x4f => (CHANNEL_HEADER + length, CHANNEL_HEADER + length.next_multiple_of(4)),
            _ => return Err(Nonsense),
        };
        if first <= 0x3f && self.0.get(4..8).is_some_and(|cookie| cookie != MAGIC_COOKIE) {
            return Err(Nonsense);
        }
        if self.0.len() < padded {
            return Ok(None);
        }
        let mut message: Vec<u8> = self.0.drain(..padded).collect();
        message.truncate(whole);
        Ok(Some(message))
    }
}

/// Messages on their way into the stream.
#[derive(Debug, Default)]
pub(crate) struct Outbox(StreamQueue);

impl Outbox {
    /// Takes a message, or loses it if too much waits.
    pub(crate) fn push(&mut self, message: &[u8]) {
        const PADDING: [u8; 3] = [0; 3];
        let padding = message.len().next_multiple_of(4) - message.len();
        if !self.0.push(message, &PADDING[..padding]) {
            tracing::trace!("message lost: the connection to the TURN server is too slow");
        }
    }
}

impl Deref for Outbox {
    type Target = StreamQueue;

    fn deref(&self) -> &StreamQueue {
        &self.0
    }
}

impl DerefMut for Outbox {
    fn deref_mut(&mut self) -> &mut StreamQueue {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream_queue::MAX_WAITING;
    use proptest::prelude::*;

    fn message(channel: bool, body: &[u8]) -> Vec<u8> {
        let body = if channel { body } else { &body[..body.len() / 4 * 4] };
        let [high, low] = u16::try_from(body.len()).unwrap().to_be_bytes();
        let mut message = if channel { vec![0x40, 1, high, low] } else { vec![0, 1, high, low] };
        if !channel {
            message.extend(MAGIC_COOKIE);
            message.extend([7; 12]);
        }
        message.extend(body);
        message
    }

    proptest! {
        #[test]
        fn messages_survive_any_cutting(
            bodies in proptest::collection::vec((any::<bool>(), proptest::collection::vec(any::<u8>(), 0..1500)), 0..20),
            cuts in proptest::collection::vec(1usize..2000, 1..50),
        ) {
            let sent: Vec<_> = bodies.iter().map(|(channel, body)| message(*channel, body)).collect();
            let mut out = Outbox::default();
            sent.iter().for_each(|message| out.push(message));
            let (mut incoming, mut got, mut cut) = (Deframer::default(), Vec::new(), cuts.iter().cycle());
            while !out.waiting().is_empty() {
                let n = out.waiting().len().min(*cut.next().unwrap());
                incoming.extend(&out.waiting()[..n]);
                out.written(n);
                while let Some(message) = incoming.next().unwrap() {
                    got.push(message);
                }
            }
            prop_assert_eq!(got, sent);
        }

        #[test]
        fn any_bytes_stay_within_bounds(chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..500), 0..300)) {
            let mut incoming = Deframer::default();
            for chunk in chunks {
                incoming.extend(&chunk);
                loop {
                    match incoming.next() {
                        Ok(Some(message)) => prop_assert!(message.len() <= STUN_HEADER + 65_535),
                        Ok(None) => break,
                        Err(Nonsense) => return Ok(()),
                    }
                }
                prop_assert!(incoming.0.len() < STUN_HEADER + 65_536 + 500);
            }
        }
    }

    #[test]
    fn a_slow_connection_loses_messages() {
        let mut out = Outbox::default();
        (0..1000).for_each(|_| out.push(&[0; 999]));
        assert_eq!(out.waiting().len(), MAX_WAITING / 1000 * 1000);
    }
}
