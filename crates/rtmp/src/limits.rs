//! The bounds of one connection, with their reasons.

use std::time::Duration;

/// Bounds of one connection. The defaults are for a port on the public internet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// From the start of the connection to the end of the handshake. Two round trips on a bad mobile network are below 2 s.
    pub handshake: Duration,
    /// From the handshake to a `publish` command. Encoders take four round trips for it and wait for no human.
    pub publish: Duration,
    /// Without any byte while publishing. At half of it the peer gets a ping, so that an encoder that is paused but alive stays
    /// connected; whether it sends media is for the session to judge.
    pub idle: Duration,
    /// Chunk streams with an unfinished message. Encoders use up to five at all (control, commands, audio, video, data).
    pub chunk_streams_in_flight: usize,
    /// Chunk stream ids ever seen; each costs about a hundred bytes for as long as the connection lives.
    pub chunk_streams: usize,
    /// Bytes of one audio, video or aggregate message. A 4K key frame at 60 Mbit/s is below 2 MiB.
    pub media_message: usize,
    /// Bytes of any other message. The longest seen from real encoders is an `onMetaData` of 2 KiB.
    pub command_message: usize,
    /// Bytes held in unfinished messages, all chunk streams together: two of the longest.
    pub buffered: usize,
    /// Bytes held in unfinished messages before a publish: four of the longest commands.
    pub buffered_unpublished: usize,
    /// Bytes that are kept of a peer that does not wait for the answer to its publish: the configurations and the first frames. Beyond,
    /// its socket is not read until the answer is there.
    pub early: usize,
    /// Bytes of answers that wait to be written. A peer that does not read them ends here; all answers of a proper publish are
    /// below 8 KiB.
    pub output: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(5),
            publish: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            chunk_streams_in_flight: 16,
            chunk_streams: 64,
            media_message: 8 << 20,
            command_message: 64 << 10,
            buffered: 16 << 20,
            buffered_unpublished: 256 << 10,
            early: 64 << 10,
            output: 64 << 10,
        }
    }
}
