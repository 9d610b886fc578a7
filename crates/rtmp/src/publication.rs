//! Which of the message streams of a connection is the one that is published.

use model::Secret;

/// Publishes beyond the first that one connection may try: encoders of several bit rates send up to five.
const MAX_OTHER_STREAMS: usize = 16;

/// What is published, of what the peer wants to publish.
#[derive(Debug, Default)]
pub(crate) struct Publication {
    /// The message stream of the publish.
    pub(crate) stream: u32,
    /// What may be its stream key.
    pub(crate) keys: Vec<Secret>,
    /// Message streams created.
    created: u32,
    /// Message streams of publishes that were refused: encoders of several bit rates publish all of them on one connection. Their media
    /// is dropped. That of all others is taken, as some encoders write another id than that of their publish.
    others: Vec<u32>,
}

impl Publication {
    /// Whether this message stream is another one than that of the publish, beyond doubt.
    pub(crate) fn is_other(&self, stream: u32) -> bool {
        let created = 1..=self.created;
        stream != self.stream && (self.refused(stream) || (created.contains(&stream) && created.contains(&self.stream)))
    }

    /// A new message stream.
    pub(crate) fn create(&mut self) -> u32 {
        self.created = self.created.wrapping_add(1).max(1);
        self.created
    }

    /// A publish on this stream is refused.
    pub(crate) fn refuse(&mut self, stream: u32) {
        if stream != self.stream && !self.refused(stream) && self.others.len() < MAX_OTHER_STREAMS {
            self.others.push(stream);
        }
    }

    /// Whether a publish on this stream was refused.
    pub(crate) fn refused(&self, stream: u32) -> bool {
        self.others.contains(&stream)
    }
}
