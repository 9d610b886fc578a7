//! Messages to bytes and back.

use serde::{Serialize, de::DeserializeOwned};
use std::marker::PhantomData;

/// The longest message in bytes: twice the longest access unit the RTMP server lets through (8 MiB), so that none is refused here.
pub const MAX_MESSAGE: usize = 16 << 20;

/// Bytes of memory that stay for the next message: most of them are smaller.
const KEPT: usize = 1 << 20;

/// What can be wrong with bytes from the other side.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The length prefix is above [`MAX_MESSAGE`].
    #[error("message of {0} bytes is longer than {MAX_MESSAGE}")]
    TooLong(usize),
    /// The body is no message of this version.
    #[error("message does not parse: {0}")]
    Malformed(#[from] postcard::Error),
}

/// Appends `message` to `out`.
///
/// # Errors
/// [`Error::TooLong`] if the message is above [`MAX_MESSAGE`]; `out` is as before then.
pub fn encode<T: Serialize>(message: &T, out: &mut Vec<u8>) -> Result<(), Error> {
    let start = out.len();
    out.extend([0; 4]);
    // Written behind what is there: no second buffer for a frame.
    *out = postcard::to_extend(message, std::mem::take(out))?;
    let len = out.len() - start - 4;
    if len > MAX_MESSAGE {
        out.truncate(start);
        return Err(Error::TooLong(len));
    }
    // The cast holds: MAX_MESSAGE fits 32 bits.
    out[start..start + 4].copy_from_slice(&(len as u32).to_le_bytes());
    Ok(())
}

/// Takes bytes as they come from a socket and gives whole messages. Holds no more than one message and what came with it.
#[derive(Debug)]
pub struct Decoder<T> {
    buf: Vec<u8>,
    read: usize,
    of: PhantomData<fn() -> T>,
}

impl<T> Default for Decoder<T> {
    fn default() -> Self {
        Self { buf: Vec::new(), read: 0, of: PhantomData }
    }
}

impl<T: DeserializeOwned> Decoder<T> {
    /// Adds bytes from the other side.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.read > 0 {
            self.buf.drain(..self.read);
            self.read = 0;
            // One giant must not be remembered for the whole life of a child.
            if self.buf.capacity() > KEPT && self.buf.len() < KEPT {
                self.buf.shrink_to(KEPT);
            }
        }
        self.buf.extend_from_slice(bytes);
    }

    /// The next whole message; `None` until more bytes come. After an error the stream is lost.
    ///
    /// # Errors
    /// [`Error::TooLong`], [`Error::Malformed`].
    pub fn next_message(&mut self) -> Result<Option<T>, Error> {
        let rest = &self.buf[self.read..];
        let Some((prefix, body)) = rest.split_first_chunk::<4>() else { return Ok(None) };
        let len = u32::from_le_bytes(*prefix) as usize;
        if len > MAX_MESSAGE {
            return Err(Error::TooLong(len));
        }
        let Some(body) = body.get(..len) else { return Ok(None) };
        let message = postcard::from_bytes(body)?;
        self.read += 4 + len;
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Hello, ToChild, ToParent, VERSION};
    use bytes::Bytes;
    use model::{Frame, Kind, MediaTime};
    use proptest::prelude::*;

    fn frame(data: Vec<u8>) -> ToChild {
        ToChild::Frame(Frame {
            kind: Kind::Video,
            pts: MediaTime::from_millis(40),
            dts: MediaTime::from_millis(-40),
            key: true,
            data: Bytes::from(data),
        })
    }

    proptest! {
        #[test]
        fn messages_survive_any_cutting(data in proptest::collection::vec(any::<u8>(), 0..5000), cut in 1usize..700) {
            let sent = [ToChild::Hello(Hello { version: VERSION }), frame(data), ToChild::Finish];
            let mut bytes = Vec::new();
            for m in &sent {
                encode(m, &mut bytes).unwrap();
            }
            let mut decoder = Decoder::<ToChild>::default();
            let mut got = Vec::new();
            for chunk in bytes.chunks(cut) {
                decoder.push(chunk);
                while let Some(m) = decoder.next_message().unwrap() {
                    got.push(m);
                }
            }
            prop_assert_eq!(got, sent);
        }

        #[test]
        fn noise_gives_an_error_or_waits_but_never_panics(noise in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut decoder = Decoder::<ToParent>::default();
            decoder.push(&noise);
            while let Ok(Some(_)) = decoder.next_message() {}
        }
    }

    #[test]
    fn a_giant_leaves_no_trace() {
        let (mut decoder, mut bytes) = (Decoder::<ToChild>::default(), Vec::new());
        encode(&frame(vec![0; 8 << 20]), &mut bytes).unwrap();
        encode(&frame(vec![0; 9]), &mut bytes).unwrap();
        let mut count = 0;
        for chunk in bytes.chunks(1 << 16).chain([&[0][..], &[0]]) {
            decoder.push(chunk);
            count += std::iter::from_fn(|| decoder.next_message().unwrap()).count();
        }
        assert_eq!(count, 2);
        assert!(decoder.buf.capacity() <= KEPT, "{}", decoder.buf.capacity());
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_before_anything_is_kept_for_it() {
        let mut decoder = Decoder::<ToChild>::default();
        decoder.push(&u32::MAX.to_le_bytes());
        assert!(matches!(decoder.next_message(), Err(Error::TooLong(_))));
        let mut out = vec![7];
        assert!(matches!(encode(&frame(vec![0; MAX_MESSAGE]), &mut out), Err(Error::TooLong(_))));
        assert_eq!(out, [7]);
    }
}
