//! Messages to bytes and back, without IO and without copying payloads.
//!
//! What is written is a list of slices for `writev(2)`: headers, and the payloads as they lie in memory. What is read goes straight
//! into the buffer that becomes the payload; only its first bytes, which come in the same read as its header, are moved there.

use bytes::{Buf, Bytes, BytesMut};
use serde::{Serialize, de::DeserializeOwned};
use std::collections::VecDeque;
use std::io::IoSlice;

/// The longest payload in bytes: twice the longest access unit that the RTMP server lets through (8 MiB), so that none is refused
/// here.
pub const MAX_PAYLOAD: usize = 16 << 20;

/// The longest header in bytes. Most have a dozen; the longest is the assignment of a URL with the operator's lists of hosts.
pub const MAX_HEADER: usize = 1 << 20;

/// Bytes of the two lengths.
const LENGTHS: usize = 8;

/// Bytes that one read takes beyond the payload that is waited for. A small message comes whole in one read, and is copied once. Of
/// a large one no more than this is copied.
const HEAD: usize = 4 << 10;

/// Bytes that a payload's buffer has beyond the payload. A read that leaves some of them free shows that no more waits in the
/// socket, which saves the read that would ask for it. They are kept for as long as the payload is.
const SLACK: usize = 64;

/// What can be wrong with a message.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A length is above its limit ([`MAX_HEADER`], [`MAX_PAYLOAD`]).
    #[error("message of {0} bytes is too long")]
    TooLong(usize),
    /// The header is none of this version.
    #[error("message does not parse: {0}")]
    Malformed(#[from] postcard::Error),
    /// The message has a payload, but its kind takes none.
    #[error("message of a kind without payload has {0} bytes of it")]
    UnexpectedPayload(usize),
}

/// What can be sent. It is serialized without its payload.
pub trait Message: Serialize + DeserializeOwned + std::fmt::Debug + Send + 'static {
    /// The payload, if messages of this kind have one.
    fn payload(&self) -> Option<&Bytes>;
    /// The same, to be filled in.
    fn payload_mut(&mut self) -> Option<&mut Bytes>;
}

/// Messages to be written. As a [`Buf`] it gives the slices that are still to be written.
#[derive(Debug, Default)]
pub struct Batch {
    head: BytesMut,
    slices: VecDeque<Slice>,
    len: usize,
    messages: usize,
}

#[derive(Debug)]
struct Slice {
    bytes: Bytes,
    /// A message ends here.
    last: bool,
}

impl Batch {
    /// Adds a message.
    ///
    /// # Errors
    /// [`Error::TooLong`]; nothing is added then.
    pub fn push<M: Message>(&mut self, message: &M) -> Result<(), Error> {
        let payload = message.payload().cloned().unwrap_or_default();
        if payload.len() > MAX_PAYLOAD {
            return Err(Error::TooLong(payload.len()));
        }
        self.head.extend_from_slice(&[0; LENGTHS]);
        self.head = postcard::to_extend(message, std::mem::take(&mut self.head))?;
        let mut head = self.head.split();
        let length = head.len() - LENGTHS;
        if length > MAX_HEADER {
            return Err(Error::TooLong(length));
        }
        // The casts hold: both limits fit 32 bits.
        head[..4].copy_from_slice(&(length as u32).to_le_bytes());
        head[4..LENGTHS].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        self.add(head.freeze(), payload.is_empty());
        if !payload.is_empty() {
            self.add(payload, true);
        }
        Ok(())
    }

    /// Adds a heartbeat.
    pub fn push_heartbeat(&mut self) {
        self.add(Bytes::from_static(&[0; LENGTHS]), true);
    }

    /// How many messages are not written to their end.
    pub fn messages(&self) -> usize {
        self.messages
    }

    fn add(&mut self, bytes: Bytes, last: bool) {
        self.len += bytes.len();
        self.messages += usize::from(last);
        self.slices.push_back(Slice { bytes, last });
    }
}

impl Buf for Batch {
    fn remaining(&self) -> usize {
        self.len
    }

    fn chunk(&self) -> &[u8] {
        self.slices.front().map_or(&[], |slice| &slice.bytes)
    }

    fn chunks_vectored<'a>(&'a self, out: &mut [IoSlice<'a>]) -> usize {
        self.slices.iter().zip(out).map(|(slice, out)| *out = IoSlice::new(&slice.bytes)).count()
    }

    fn advance(&mut self, mut count: usize) {
        self.len -= count;
        while let Some(slice) = self.slices.front_mut() {
            if count < slice.bytes.len() {
                return slice.bytes.advance(count);
            }
            count -= slice.bytes.len();
            self.messages -= usize::from(slice.last);
            self.slices.pop_front();
        }
    }
}

/// Bytes from a socket to messages. Holds one message at most, and `HEAD` bytes.
///
/// Bytes are read into [`Decoder::spare`]; then [`Decoder::next_message`] is called until it gives none.
#[derive(Debug, Default)]
pub struct Decoder {
    /// Lengths, headers, and the payloads that came along with them.
    head: Vec<u8>,
    /// How much of `head` is done with.
    read: usize,
    /// The payload of the last message in `head`, as far as it has come, where that did not come whole.
    payload: Option<Vec<u8>>,
}

impl Decoder {
    /// Where the next bytes of the socket belong: the spare capacity of this, of which there is some.
    pub fn spare(&mut self) -> &mut Vec<u8> {
        match &mut self.payload {
            Some(payload) => payload,
            None => {
                self.head.drain(..std::mem::take(&mut self.read));
                // A long header is not remembered for the whole life of a worker.
                if self.head.capacity() > 2 * HEAD && self.head.len() < HEAD {
                    self.head.shrink_to(HEAD);
                }
                self.head.reserve(HEAD.saturating_sub(self.head.len()).max(SLACK));
                &mut self.head
            }
        }
    }

    /// Takes the first of these bytes in place of a socket's; says how many.
    pub fn fill(&mut self, bytes: &[u8]) -> usize {
        let spare = self.spare();
        let count = bytes.len().min(spare.capacity() - spare.len());
        spare.extend_from_slice(&bytes[..count]);
        count
    }

    /// The next whole message; `None` until more bytes come. After an error the stream is lost.
    ///
    /// # Errors
    /// If the bytes are no message of this kind.
    pub fn next_message<M: Message>(&mut self) -> Result<Option<M>, Error> {
        loop {
            let unread = &self.head[self.read..];
            // The first length alone may show that this is no message, and more may never come.
            if let Some((header, _)) = unread.split_first_chunk() {
                let header = u32::from_le_bytes(*header) as usize;
                if header > MAX_HEADER {
                    return Err(Error::TooLong(header));
                }
            }
            let Some((lengths, rest)) = unread.split_first_chunk::<LENGTHS>() else { return Ok(None) };
            let [a, b, c, d, e, f, g, h] = *lengths;
            let (header, payload) =
                (u32::from_le_bytes([a, b, c, d]) as usize, u32::from_le_bytes([e, f, g, h]) as usize);
            if header > MAX_HEADER || payload > MAX_PAYLOAD {
                return Err(Error::TooLong(header.saturating_add(payload)));
            }
            if (header, payload) == (0, 0) {
                self.read += LENGTHS;
                continue;
            }
            if rest.len() < header {
                return Ok(None);
            }
            let begin = self.read + LENGTHS;
            let end = begin + header;
            let Some((payload, read)) = self.take_payload(end, payload) else { return Ok(None) };
            let mut message: M = postcard::from_bytes(&self.head[begin..end])?;
            self.read = read;
            match message.payload_mut() {
                Some(slot) => *slot = payload,
                None if payload.is_empty() => {}
                None => return Err(Error::UnexpectedPayload(payload.len())),
            }
            return Ok(Some(message));
        }
    }

    /// The payload of this length behind a header that ends at `at` in `head`, and where the next message begins. If it has not come
    /// whole, it gets a buffer of its own, into which the rest is read.
    fn take_payload(&mut self, at: usize, length: usize) -> Option<(Bytes, usize)> {
        if let Some(payload) = &self.payload {
            if payload.len() < length {
                return None;
            }
            let mut payload = self.payload.take()?;
            self.head.extend_from_slice(&payload[length..]);
            payload.truncate(length);
            return Some((Bytes::from(payload), at));
        }
        let came = &self.head[at..];
        if let Some(payload) = came.get(..length) {
            return Some((Bytes::copy_from_slice(payload), at + length));
        }
        let mut payload = Vec::with_capacity(length + SLACK);
        payload.extend_from_slice(came);
        self.head.truncate(at);
        self.payload = Some(payload);
        None
    }
}

#[cfg(test)]
mod tests;
