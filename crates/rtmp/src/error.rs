//! Why a connection ends: a text for people, and a label for a metric.

use crate::amf;

/// What ends a connection. The encoder is to blame for all of them. The texts are public: they go to the publisher, to the log and
/// to the ingress's state, and hold nothing that the peer wrote except numbers. Faults in the media itself are none of them: a track that
/// can't be used is left out, in words, and the other goes on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The first byte cannot open an RTMP connection.
    #[error("this is no RTMP connection ({0})")]
    NotRtmp(&'static str),
    /// The handshake took too long.
    #[error("the RTMP handshake did not end in time")]
    HandshakeTimeout,
    /// Nothing was published in time.
    #[error("nothing was published in time")]
    PublishTimeout,
    /// No bytes for [`crate::Limits::idle`].
    #[error("the encoder has gone silent")]
    Idle,
    /// Set Chunk Size with 0 or above 2^31-1 (RTMP §5.4.1).
    #[error("chunk size {0} is not allowed")]
    ChunkSize(u32),
    /// More chunk stream ids than [`crate::Limits::chunk_streams`].
    #[error("more than {0} chunk streams")]
    TooManyChunkStreams(usize),
    /// More unfinished messages than [`crate::Limits::chunk_streams_in_flight`].
    #[error("more than {0} messages at once")]
    TooManyInFlight(usize),
    /// A compressed chunk header on a chunk stream that had none before.
    #[error("chunk header refers to one that was never sent")]
    NoPrecedingHeader,
    /// A new message begins before the one on the same chunk stream is whole.
    #[error("message begins inside another one")]
    HeaderInsideMessage,
    /// A message longer than allowed for its type.
    #[error("message of {length} bytes is longer than {limit}")]
    MessageTooLong {
        /// As declared.
        length: usize,
        /// What would be allowed.
        limit: usize,
    },
    /// Unfinished messages hold more than [`crate::Limits::buffered`].
    #[error("unfinished messages hold more than {0} bytes")]
    BufferFull(usize),
    /// The peer sends requests without reading the answers.
    #[error("the encoder does not read the answers")]
    OutputFull,
    /// A control message of the wrong length (RTMP §5.4).
    #[error("malformed control message of type {0}")]
    Control(u8),
    /// A command that does not parse.
    #[error("malformed command: {0}")]
    Amf(#[from] amf::Error),
    /// A command at the wrong stage.
    #[error("command out of place: {0}")]
    OutOfPlace(&'static str),
    /// Audio or video before a publish.
    #[error("media before publish")]
    MediaBeforePublish,
    /// What comes is MPEG-TS.
    #[error("the encoder sends MPEG-TS, and RTMP carries FLV: with FFmpeg use -f flv")]
    MpegTs,
    /// The peer wants to play a stream.
    #[error("playing is not possible here: this server only takes streams in")]
    Play,
    /// No stream key in the publishing name.
    #[error("no stream key given")]
    NoStreamKey,
}

impl Error {
    /// A short stable label for a metric.
    pub fn label(&self) -> &'static str {
        match self {
            Self::NotRtmp(_) => "not_rtmp",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::PublishTimeout => "publish_timeout",
            Self::Idle => "idle",
            Self::ChunkSize(_) => "chunk_size",
            Self::TooManyChunkStreams(_) => "chunk_streams",
            Self::TooManyInFlight(_) => "in_flight",
            Self::NoPrecedingHeader | Self::HeaderInsideMessage => "chunk_header",
            Self::MessageTooLong { .. } => "message_length",
            Self::BufferFull(_) => "buffer",
            Self::OutputFull => "output",
            Self::Control(_) => "control",
            Self::Amf(_) => "amf",
            Self::OutOfPlace(_) => "out_of_place",
            Self::MediaBeforePublish => "media_before_publish",
            Self::MpegTs => "mpegts",
            Self::Play => "play",
            Self::NoStreamKey => "no_stream_key",
        }
    }
}
