//! An encoder for tests: cuts messages into chunks in every way that the specification allows.

use crate::amf::{self, Value, object};
use crate::chunk::kind;
use std::collections::HashMap;

/// A message to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) id: u32,
    pub(crate) kind: u8,
    pub(crate) timestamp: u32,
    pub(crate) stream: u32,
    pub(crate) body: Vec<u8>,
}

/// Cuts messages into chunks.
#[derive(Clone, Debug)]
pub(crate) struct Chunker {
    pub(crate) chunk_size: usize,
    /// Whether continued chunks repeat the extended timestamp.
    pub(crate) repeat_extended: bool,
    /// Whether headers are as short as they can be.
    pub(crate) compress: bool,
    pub(crate) last: HashMap<u32, Last>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Last {
    timestamp: u32,
    delta: u32,
    length: usize,
    kind: u8,
    stream: u32,
}

impl Chunker {
    pub(crate) fn new(chunk_size: usize) -> Self {
        Self { chunk_size, repeat_extended: true, compress: false, last: HashMap::new() }
    }

    /// The chunks of one message.
    pub(crate) fn chunks(&mut self, sent: &Sent) -> Vec<Vec<u8>> {
        let (format, time) = self.format(sent);
        let extended = time >= 0xff_ffff;
        let mut chunks = Vec::new();
        let mut rest = &sent.body[..];
        loop {
            let mut chunk = Vec::new();
            let first = chunks.is_empty();
            let format = if first { format } else { 3 };
            basic_header(&mut chunk, format, sent.id);
            if format < 3 {
                chunk.extend(&time.min(0xff_ffff).to_be_bytes()[1..]);
            }
            if format < 2 {
                chunk.extend(&(sent.body.len() as u32).to_be_bytes()[1..]);
                chunk.push(sent.kind);
            }
            if format == 0 {
                chunk.extend(sent.stream.to_le_bytes());
            }
            if extended && (first || self.repeat_extended) {
                chunk.extend(time.to_be_bytes());
            }
            let (payload, after) = rest.split_at(rest.len().min(self.chunk_size));
            chunk.extend(payload);
            chunks.push(chunk);
            rest = after;
            if rest.is_empty() {
                return chunks;
            }
        }
    }

    /// All bytes of one message.
    pub(crate) fn message(&mut self, id: u32, kind: u8, timestamp: u32, stream: u32, body: &[u8]) -> Vec<u8> {
        self.chunks(&Sent { id, kind, timestamp, stream, body: body.to_vec() }).concat()
    }

    pub(crate) fn command(&mut self, stream: u32, values: &[Value]) -> Vec<u8> {
        self.message(3, kind::COMMAND, 0, stream, &amf::encode_all(values))
    }

    fn format(&mut self, sent: &Sent) -> (u8, u32) {
        let now = Last {
            timestamp: sent.timestamp,
            delta: sent.timestamp,
            length: sent.body.len(),
            kind: sent.kind,
            stream: sent.stream,
        };
        let last = self.last.insert(sent.id, now);
        let Some(last) = last.filter(|l| self.compress && l.stream == sent.stream) else { return (0, sent.timestamp) };
        let delta = sent.timestamp.wrapping_sub(last.timestamp);
        self.last.insert(sent.id, Last { delta, ..now });
        let format = if (last.length, last.kind) != (now.length, now.kind) {
            1
        } else if last.delta != delta {
            2
        } else {
            3
        };
        (format, delta)
    }
}

fn basic_header(out: &mut Vec<u8>, format: u8, id: u32) {
    match id {
        2..64 => out.push(format << 6 | id as u8),
        64..320 => out.extend([format << 6, (id - 64) as u8]),
        _ => {
            out.push(format << 6 | 1);
            out.extend(((id - 64) as u16).to_le_bytes());
        }
    }
}

/// C0, C1 and C2, plain.
pub(crate) fn handshake() -> Vec<u8> {
    let mut bytes = vec![0; 1 + 2 * 1536];
    bytes[0] = 3;
    bytes
}

pub(crate) fn connect(app: &str) -> Vec<Value> {
    vec!["connect".into(), 1.0.into(), object([("app", app.into()), ("flashVer", "Test/1".into())])]
}

pub(crate) fn create_stream() -> Vec<Value> {
    vec!["createStream".into(), 4.0.into(), Value::Null]
}

pub(crate) fn publish(name: &str) -> Vec<Value> {
    vec!["publish".into(), 5.0.into(), Value::Null, name.into(), "live".into()]
}

/// Everything up to and with `publish`, in chunks of 128.
pub(crate) fn until_publish(chunker: &mut Chunker, app: &str, name: &str) -> Vec<u8> {
    let mut bytes = handshake();
    bytes.extend(chunker.command(0, &connect(app)));
    bytes.extend(chunker.command(0, &create_stream()));
    bytes.extend(chunker.command(1, &publish(name)));
    bytes
}

/// The avcC that x264 writes for 64×48 in constrained baseline profile.
pub(crate) const AVCC: &[u8] = &[
    0x01, 0x42, 0xc0, 0x0a, 0xff, 0xe1, 0x00, 0x17, 0x67, 0x42, 0xc0, 0x0a, 0xd9, 0x04, 0x7b, 0x01, 0x10, 0x00, 0x00,
    0x03, 0x00, 0x10, 0x00, 0x00, 0x03, 0x03, 0x20, 0xf1, 0x22, 0x64, 0x80, 0x01, 0x00, 0x05, 0x68, 0xcb, 0x83, 0xcb,
    0x20,
];

/// A video message's body with AVC.
pub(crate) fn avc(key: bool, packet: u8, composition: i32, data: &[u8]) -> Vec<u8> {
    let mut body = vec![if key { 0x17 } else { 0x27 }, packet];
    body.extend(&composition.to_be_bytes()[1..]);
    body.extend(data);
    body
}

/// One NAL unit with its length of four bytes.
pub(crate) fn nal(payload: &[u8]) -> Vec<u8> {
    let mut unit = (payload.len() as u32).to_be_bytes().to_vec();
    unit.extend(payload);
    unit
}
