//! Commands and our answers (RTMP §7.2), as encoders really use them.

use crate::amf::{self, Value, object};
use crate::chunk::{self, kind};

/// Chunk streams of our own messages: 2 is for control (RTMP §5.4), 3 and 5 are what other servers use.
const CONTROL: u8 = 2;
const COMMANDS: u8 = 3;
const STATUS: u8 = 5;

/// The size of chunks that we send and, as FFmpeg mirrors it, mostly receive. Large, as one connection carries one stream and has
/// nothing to interleave with it; other servers use 4096 to 65 536.
const CHUNK_SIZE: u32 = 60_000;

/// After how many of our bytes encoders acknowledge them: never, in effect, as we send next to none. As the Go ingress.
const ACK_WINDOW: u32 = i32::MAX as u32;

/// How many unacknowledged bytes encoders may send, like the Go ingress. They answer it with the window for our acknowledgements.
const PEER_BANDWIDTH: u32 = 786_432;

/// The codecs that we take in tags with a FourCC.
const VIDEO_FOURCCS: [&str; 5] = ["avc1", "hvc1", "av01", "vp09", "vp08"];
const AUDIO_FOURCCS: [&str; 6] = ["mp4a", "Opus", "ac-3", "ec-3", "fLaC", ".mp3"];

/// E-RTMP `FourCcInfoMask`: we decode.
const CAN_DECODE: f64 = 1.0;

/// E-RTMP `CapsExMask`: multitrack (2, one track is taken), ModEx (4), nanosecond offsets (8). Not reconnect requests (1).
const CAPS_EX: f64 = 14.0;

/// A command message: name, transaction, arguments (the command object first).
#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) name: String,
    pub(crate) transaction: f64,
    pub(crate) arguments: Vec<Value>,
}

impl Command {
    /// `None` if the first value is no name. A missing transaction id counts as 0: no answer is wanted.
    pub(crate) fn parse(body: &[u8]) -> Result<Option<Self>, amf::Error> {
        let mut values = amf::decode(body)?.into_iter();
        let Some(Value::String(name)) = values.next() else { return Ok(None) };
        let transaction = values.next().and_then(|v| v.as_number()).unwrap_or(0.0);
        Ok(Some(Self { name, transaction, arguments: values.collect() }))
    }

    pub(crate) fn text(&self, index: usize) -> Option<&str> {
        self.arguments.get(index)?.as_str()
    }
}

/// The level of a status (RTMP §7.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    Status,
    Warning,
    Error,
}

/// Writes our messages as chunks.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) out: Vec<u8>,
    chunk_size: usize,
}

impl Writer {
    pub(crate) fn new() -> Self {
        Self { out: Vec::new(), chunk_size: 128 }
    }

    fn control(&mut self, kind: u8, body: &[u8]) {
        chunk::write(&mut self.out, self.chunk_size, CONTROL, kind, 0, body);
    }

    fn command(&mut self, id: u8, stream: u32, values: &[Value]) {
        chunk::write(&mut self.out, self.chunk_size, id, kind::COMMAND, stream, &amf::encode_all(values));
    }

    pub(crate) fn acknowledge(&mut self, received: u32) {
        self.control(kind::ACKNOWLEDGEMENT, &received.to_be_bytes());
    }

    fn user_control(&mut self, event: u16, data: u32) {
        let mut body = [0; 6];
        body[..2].copy_from_slice(&event.to_be_bytes());
        body[2..].copy_from_slice(&data.to_be_bytes());
        self.control(kind::USER_CONTROL, &body);
    }

    /// User control 0 (RTMP §7.1.7).
    pub(crate) fn stream_begin(&mut self, stream: u32) {
        self.user_control(0, stream);
    }

    /// User control 6.
    pub(crate) fn ping(&mut self, timestamp: u32) {
        self.user_control(6, timestamp);
    }

    /// User control 7.
    pub(crate) fn pong(&mut self, timestamp: u32) {
        self.user_control(7, timestamp);
    }

    /// Writes all messages that answer `connect`.
    pub(crate) fn connected(&mut self, transaction: f64) {
        self.control(kind::WINDOW_ACK_SIZE, &ACK_WINDOW.to_be_bytes());
        let mut bandwidth = PEER_BANDWIDTH.to_be_bytes().to_vec();
        bandwidth.push(0); // hard limit
        self.control(kind::SET_PEER_BANDWIDTH, &bandwidth);
        self.control(kind::SET_CHUNK_SIZE, &CHUNK_SIZE.to_be_bytes());
        self.chunk_size = CHUNK_SIZE as usize;
        self.stream_begin(0);
        let decoded = |codecs: &[&str]| {
            Value::Object(codecs.iter().map(|c| ((*c).to_owned(), Value::from(CAN_DECODE))).collect())
        };
        let fourccs = VIDEO_FOURCCS.iter().chain(&AUDIO_FOURCCS).map(|&c| Value::from(c)).collect();
        // The first two are those of Adobe's server; some encoders look for the "FMS" in them.
        let properties = object([
            ("fmsVer", "FMS/3,5,7,7009".into()),
            ("capabilities", 31.0.into()),
            ("mode", 1.0.into()),
            ("fourCcList", Value::Array(fourccs)),
            ("videoFourCcInfoMap", decoded(&VIDEO_FOURCCS)),
            ("audioFourCcInfoMap", decoded(&AUDIO_FOURCCS)),
            ("capsEx", CAPS_EX.into()),
        ]);
        let information = object([
            ("level", "status".into()),
            ("code", "NetConnection.Connect.Success".into()),
            ("description", "Connection succeeded.".into()),
            ("objectEncoding", 0.0.into()),
        ]);
        self.result(transaction, [properties, information]);
    }

    /// Writes `_result` with the command object and the answer.
    pub(crate) fn result(&mut self, transaction: f64, [properties, information]: [Value; 2]) {
        self.command(COMMANDS, 0, &["_result".into(), transaction.into(), properties, information]);
    }

    /// Writes `onFCPublish` or `onFCUnpublish`, which Flash Media Live Encoder and similar ones wait for.
    pub(crate) fn fc_status(&mut self, name: &str, code: &str) {
        let information = object([("level", "status".into()), ("code", code.into())]);
        self.command(COMMANDS, 0, &[name.into(), 0.0.into(), Value::Null, information]);
    }

    /// Writes `onStatus` on a message stream.
    pub(crate) fn status(&mut self, stream: u32, level: Level, code: &str, description: &str) {
        let level = match level {
            Level::Status => "status",
            Level::Warning => "warning",
            Level::Error => "error",
        };
        let information = object([("level", level.into()), ("code", code.into()), ("description", description.into())]);
        self.command(STATUS, stream, &["onStatus".into(), 0.0.into(), Value::Null, information]);
    }
}
