//! The chunk stream (RTMP §5.3): messages in interleaved chunks with compressed headers.

use crate::{Error, Limits};
use bytes::Bytes;

/// Message types (RTMP §5.4, §7.1).
pub(crate) mod kind {
    pub(crate) const SET_CHUNK_SIZE: u8 = 1;
    pub(crate) const ABORT: u8 = 2;
    pub(crate) const ACKNOWLEDGEMENT: u8 = 3;
    pub(crate) const USER_CONTROL: u8 = 4;
    pub(crate) const WINDOW_ACK_SIZE: u8 = 5;
    pub(crate) const SET_PEER_BANDWIDTH: u8 = 6;
    pub(crate) const AUDIO: u8 = 8;
    pub(crate) const VIDEO: u8 = 9;
    pub(crate) const DATA_AMF3: u8 = 15;
    pub(crate) const COMMAND_AMF3: u8 = 17;
    pub(crate) const DATA: u8 = 18;
    pub(crate) const COMMAND: u8 = 20;
    pub(crate) const AGGREGATE: u8 = 22;
}

/// This value in a 24-bit timestamp field means that the timestamp follows the header in 32 bits (RTMP §5.3.1.3).
const EXTENDED: u32 = 0xff_ffff;

/// The longest chunk header: basic 3, message 11, extended timestamp 4.
const MAX_HEADER: usize = 18;

/// The chunk size before anybody sets one (RTMP §5.4.1).
const DEFAULT_CHUNK_SIZE: usize = 128;

/// The first buffer of a message in bytes. It doubles as bytes come, up to the declared length.
const FIRST_BUFFER: usize = 1024;

/// What a peer may send at its stage of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageLimits {
    /// The longest audio, video or aggregate message in bytes; 0 before a publish.
    pub media: usize,
    /// The longest other message in bytes.
    pub other: usize,
    /// Bytes of all unfinished messages together.
    pub buffered: usize,
    /// Unfinished messages.
    pub in_flight: usize,
    /// Chunk stream ids.
    pub streams: usize,
}

impl MessageLimits {
    pub(crate) fn unpublished(limits: &Limits) -> Self {
        Self { media: 0, buffered: limits.buffered_unpublished, ..Self::published(limits) }
    }

    pub(crate) fn published(limits: &Limits) -> Self {
        Self {
            media: limits.media_message,
            other: limits.command_message,
            buffered: limits.buffered,
            in_flight: limits.chunk_streams_in_flight,
            streams: limits.chunk_streams,
        }
    }

    /// Whether a message is to be kept; else it is skipped as it comes.
    fn keeps(&self, kind: u8, length: usize) -> Result<bool, Error> {
        let limit = match kind {
            kind::AUDIO | kind::VIDEO | kind::AGGREGATE if self.media == 0 => return Err(Error::MediaBeforePublish),
            kind::AUDIO | kind::VIDEO | kind::AGGREGATE => self.media,
            // Nothing depends on metadata, and that of a recorded film may hold the index of its key frames.
            kind::DATA | kind::DATA_AMF3 if self.media > 0 => return Ok(length <= self.other),
            _ => self.other,
        };
        if length > limit { Err(Error::MessageTooLong { length, limit }) } else { Ok(true) }
    }
}

/// A whole message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its type (RTMP §7.1).
    pub kind: u8,
    /// Milliseconds, wrapping.
    pub timestamp: u32,
    /// The message stream it belongs to; 0 is the connection itself.
    pub stream: u32,
    /// Its payload.
    pub body: Bytes,
}

/// Assembles messages from chunks. Payload bytes are copied once, into a buffer that grows as they come.
#[derive(Debug)]
pub struct Reader {
    allowance: MessageLimits,
    chunk_size: usize,
    streams: Vec<Stream>,
    /// Index into `streams` and payload bytes still to come of the chunk being read.
    chunk: Option<(usize, usize)>,
    /// The beginning of an incomplete header; at most [`MAX_HEADER`] bytes.
    pending: Vec<u8>,
    buffered: usize,
    in_flight: usize,
}

#[derive(Debug, Default)]
struct Stream {
    id: u32,
    timestamp: u32,
    /// Added to `timestamp` for a next message without a timestamp of its own (type 3). After an absolute timestamp it is that
    /// timestamp (RTMP §5.3.1.2.4); FFmpeg and GStreamer rely on it.
    delta: u32,
    /// Whether the last header carried its timestamp in the extended field; its value is then `delta`.
    extended: bool,
    length: usize,
    kind: u8,
    message_stream: u32,
    /// The message so far; `None` between messages.
    partial: Option<Partial>,
}

#[derive(Debug, Default)]
struct Partial {
    /// Bytes that came.
    received: usize,
    /// They are not kept.
    skipped: bool,
    bytes: Vec<u8>,
    /// The reserved size of `bytes`, which is counted in [`Reader::buffered`].
    reserved: usize,
}

/// A parsed chunk header, before it changes any state.
struct Header {
    bytes: usize,
    format: u8,
    id: u32,
    /// Index of the stream, if its id was seen before.
    index: Option<usize>,
    timestamp: u32,
    extended: bool,
    length_and_kind: Option<(usize, u8)>,
    message_stream: Option<u32>,
}

impl Reader {
    /// A reader at the start of a chunk stream.
    pub fn new(allowance: MessageLimits) -> Self {
        Self {
            allowance,
            chunk_size: DEFAULT_CHUNK_SIZE,
            streams: Vec::new(),
            chunk: None,
            pending: Vec::new(),
            buffered: 0,
            in_flight: 0,
        }
    }

    /// Changes what may come, for messages that begin from now on.
    pub fn allow(&mut self, allowance: MessageLimits) {
        self.allowance = allowance;
    }

    /// Sets the size of the chunks that follow (RTMP §5.4.1).
    ///
    /// # Errors
    /// [`Error::ChunkSize`] for 0 and above 2^31-1.
    pub fn set_chunk_size(&mut self, size: u32) -> Result<(), Error> {
        if size == 0 || size > i32::MAX as u32 {
            return Err(Error::ChunkSize(size));
        }
        self.chunk_size = size as usize;
        Ok(())
    }

    /// Drops the unfinished message of a chunk stream (RTMP §5.4.2).
    pub fn abort(&mut self, id: u32) {
        if let Some(partial) = self.streams.iter_mut().find(|s| s.id == id).and_then(|s| s.partial.take()) {
            self.buffered -= partial.reserved;
            self.in_flight -= 1;
        }
    }

    /// Takes bytes from the front of `input` until a message is complete or all are taken.
    ///
    /// # Errors
    /// A violation of the protocol or the [`MessageLimits`]. The reader can't be used afterwards.
    pub fn next(&mut self, input: &mut &[u8]) -> Result<Option<Message>, Error> {
        loop {
            if let Some((index, left)) = self.chunk {
                if left > 0 && input.is_empty() && self.pending.is_empty() {
                    return Ok(None);
                }
                if let Some(message) = self.payload(index, left, input)? {
                    return Ok(Some(message));
                }
            } else if !self.header(input)? {
                return Ok(None);
            }
        }
    }

    /// Takes one header; false if it is incomplete.
    fn header(&mut self, input: &mut &[u8]) -> Result<bool, Error> {
        let kept = self.pending.len();
        let taken = input.len().min(MAX_HEADER - kept);
        let header = if kept == 0 {
            self.parse(input)?
        } else {
            self.pending.extend_from_slice(&input[..taken]);
            self.parse(&self.pending)?
        };
        let Some(header) = header else {
            if kept == 0 {
                self.pending.extend_from_slice(input);
            }
            *input = &input[taken..];
            return Ok(false);
        };
        if let Some(fresh) = header.bytes.checked_sub(kept) {
            *input = &input[fresh..];
            self.pending.clear();
        } else {
            // Pending bytes that turn out not to be an extended timestamp are payload, and are read again as such.
            self.pending.truncate(kept);
            self.pending.drain(..header.bytes);
        }
        self.begin(header)?;
        Ok(true)
    }

    /// Parses a header at the front of `bytes`; `None` if it is incomplete, which it is only below [`MAX_HEADER`] bytes.
    fn parse(&self, bytes: &[u8]) -> Result<Option<Header>, Error> {
        let Some((format, id, mut at)) = basic_header(bytes) else { return Ok(None) };
        let index = self.streams.iter().position(|s| s.id == id);
        let previous = index.map(|i| &self.streams[i]);
        let message_header = [11, 7, 3, 0][usize::from(format)];
        let Some(fields) = bytes.get(at..at + message_header) else { return Ok(None) };
        at += message_header;
        let u24 = |at: usize| u32::from_be_bytes([0, fields[at], fields[at + 1], fields[at + 2]]);
        let mut header = Header {
            bytes: at,
            format,
            id,
            index,
            timestamp: previous.map_or(0, |p| p.delta),
            extended: previous.is_some_and(|p| p.extended),
            length_and_kind: (format < 2).then(|| (u24(3) as usize, fields[6])),
            message_stream: (format == 0).then(|| u32::from_le_bytes([fields[7], fields[8], fields[9], fields[10]])),
        };
        if format < 3 {
            header.timestamp = u24(0);
            header.extended = header.timestamp == EXTENDED;
        } else if previous.is_none() {
            return Err(Error::NoPrecedingHeader);
        }
        if !header.extended {
            return Ok(Some(header));
        }
        let field = &bytes[at..bytes.len().min(at + 4)];
        if format == 3 {
            // The specification demands that the field is repeated; old librtmp and others omit it. It is there if its value is.
            let expected = header.timestamp.to_be_bytes();
            if *field != expected[..field.len()] {
                return Ok(Some(header));
            }
        }
        let Ok(field) = <[u8; 4]>::try_from(field) else { return Ok(None) };
        header.timestamp = u32::from_be_bytes(field);
        header.bytes += 4;
        Ok(Some(header))
    }

    /// Applies a header, and begins or continues its message.
    fn begin(&mut self, header: Header) -> Result<(), Error> {
        let index = match header.index {
            Some(index) => index,
            // Type 1 on a new stream only lacks a message stream id; librtmp sends pings this way.
            None if header.format > 1 => return Err(Error::NoPrecedingHeader),
            None if self.streams.len() >= self.allowance.streams => {
                return Err(Error::TooManyChunkStreams(self.allowance.streams));
            }
            None => {
                self.streams.push(Stream { id: header.id, ..Stream::default() });
                self.streams.len() - 1
            }
        };
        let stream = &mut self.streams[index];
        if let Some(partial) = &stream.partial {
            // Some encoders write full headers on continued messages. As FFmpeg, we accept them if they agree.
            if header.length_and_kind.is_some_and(|lk| lk != (stream.length, stream.kind)) {
                return Err(Error::HeaderInsideMessage);
            }
            self.chunk = Some((index, self.chunk_size.min(stream.length - partial.received)));
            return Ok(());
        }
        if self.in_flight >= self.allowance.in_flight {
            return Err(Error::TooManyInFlight(self.allowance.in_flight));
        }
        let (length, kind) = header.length_and_kind.unwrap_or((stream.length, stream.kind));
        let skipped = !self.allowance.keeps(kind, length)?;
        stream.timestamp = match header.format {
            0 => header.timestamp,
            _ => stream.timestamp.wrapping_add(header.timestamp),
        };
        (stream.delta, stream.extended) = (header.timestamp, header.extended);
        (stream.length, stream.kind) = (length, kind);
        stream.message_stream = header.message_stream.unwrap_or(stream.message_stream);
        stream.partial = Some(Partial { skipped, ..Partial::default() });
        self.in_flight += 1;
        self.chunk = Some((index, self.chunk_size.min(length)));
        Ok(())
    }

    /// Takes payload bytes; returns the message if they complete it.
    fn payload(&mut self, index: usize, left: usize, input: &mut &[u8]) -> Result<Option<Message>, Error> {
        let stream = &mut self.streams[index];
        let partial = stream.partial.get_or_insert_default();
        let from_pending = !self.pending.is_empty();
        let taken = left.min(if from_pending { self.pending.len() } else { input.len() });
        if !partial.skipped {
            let reserved = partial.reservation(taken, stream.length);
            self.buffered += reserved - partial.reserved;
            if self.buffered > self.allowance.buffered {
                return Err(Error::BufferFull(self.allowance.buffered));
            }
            // Exact, so that a complete message holds no more bytes than its length.
            partial.bytes.reserve_exact(reserved - partial.bytes.len());
            partial.reserved = reserved;
        }
        partial.received += taken;
        if from_pending {
            let payload = self.pending.drain(..taken);
            if !partial.skipped {
                partial.bytes.extend(payload);
            }
        } else {
            let (payload, rest) = input.split_at(taken);
            if !partial.skipped {
                partial.bytes.extend_from_slice(payload);
            }
            *input = rest;
        }
        self.chunk = (taken < left).then_some((index, left - taken));
        if partial.received < stream.length {
            return Ok(None);
        }
        let (body, skipped) = (std::mem::take(&mut partial.bytes), partial.skipped);
        self.buffered -= partial.reserved;
        stream.partial = None;
        self.in_flight -= 1;
        if skipped {
            return Ok(None);
        }
        let (kind, timestamp, stream) = (stream.kind, stream.timestamp, stream.message_stream);
        Ok(Some(Message { kind, timestamp, stream, body: Bytes::from(body) }))
    }
}

impl Partial {
    /// The size to reserve so that `more` bytes fit: doubling, at most `length`.
    fn reservation(&self, more: usize, length: usize) -> usize {
        let needed = self.bytes.len() + more;
        if needed <= self.reserved {
            return self.reserved;
        }
        needed.max(self.reserved * 2).max(FIRST_BUFFER).min(length)
    }
}

/// Format, chunk stream id and length of a basic header (RTMP §5.3.1.1).
fn basic_header(bytes: &[u8]) -> Option<(u8, u32, usize)> {
    let first = *bytes.first()?;
    let format = first >> 6;
    match first & 0x3f {
        0 => Some((format, u32::from(*bytes.get(1)?) + 64, 2)),
        1 => Some((format, u32::from(*bytes.get(1)?) + u32::from(*bytes.get(2)?) * 256 + 64, 3)),
        id => Some((format, u32::from(id), 1)),
    }
}

/// Appends a message to `out`, cut into chunks of `chunk_size`, with a full header and timestamp 0. `id` is 2 to 63.
pub(crate) fn write(out: &mut Vec<u8>, chunk_size: usize, id: u8, kind: u8, stream: u32, body: &[u8]) {
    debug_assert!((2..64).contains(&id) && body.len() < EXTENDED as usize);
    out.extend([id, 0, 0, 0]);
    out.extend(&(body.len() as u32).to_be_bytes()[1..]);
    out.push(kind);
    out.extend(stream.to_le_bytes());
    for (i, chunk) in body.chunks(chunk_size).enumerate() {
        if i > 0 {
            out.push(0xc0 | id);
        }
        out.extend(chunk);
    }
}

#[cfg(test)]
mod tests;
