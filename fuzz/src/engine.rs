//! The RTMP engine: sequences of operations on a connection, and chunks cut in any way.

use model::{Kind, Media};
use rtmp::{ChunkReader, Connection, Event, Limits, Message, MessageLimits};
use std::time::{Duration, Instant};

/// One operation on a connection is a byte for what and a byte for how much, and for [`op::RECEIVE`] the bytes.
pub mod op {
    /// Hand in as many bytes as the second byte says.
    pub const RECEIVE: u8 = 0;
    /// The same in the longest pieces: 16 × as many.
    pub const RECEIVE_LONG: u8 = 1;
    /// Let as many seconds pass.
    pub const WAIT: u8 = 2;
    /// Accept the publish, if one waits.
    pub const ACCEPT: u8 = 3;
    /// Close with words, if the second byte is 255.
    pub const CLOSE: u8 = 4;
    /// Greet: C0 to C2, plain.
    pub const GREET: u8 = 5;
    /// How many there are; larger bytes count modulo this.
    pub const COUNT: u8 = 6;
}

/// Runs operations on a connection. Promises: no panic; output stays within its bound; after the end nothing comes; a
/// connection that lives has a deadline unless its publish waits for an answer; frames follow a configuration of their kind,
/// and pictures start with a key frame.
pub fn rtmp_connection(data: &[u8]) {
    let limits = Limits::default();
    let mut now = Instant::now();
    let mut connection = Connection::new(limits.clone(), now);
    let mut watch = Watch::default();
    let mut rest = data;
    while let [what, much, after @ ..] = rest {
        rest = after;
        let mut result = Ok(());
        match what % op::COUNT {
            long @ (op::RECEIVE | op::RECEIVE_LONG) => {
                let length = usize::from(*much) * if long == op::RECEIVE_LONG { 16 } else { 1 };
                let (bytes, after) = rest.split_at(length.min(rest.len()));
                rest = after;
                result = connection.receive(bytes, now);
            }
            op::WAIT => {
                now += Duration::from_secs(u64::from(*much));
                result = connection.handle_timeout(now);
            }
            op::ACCEPT => {
                watch.waiting = false;
                result = connection.accept_publish(now);
            }
            op::CLOSE if *much == 255 => {
                watch.over = true;
                connection.close(Some("enough"));
            }
            op::GREET => {
                let mut hello = [0; 1 + 2 * 1536];
                hello[0] = 3;
                result = connection.receive(&hello, now);
            }
            _ => {}
        }
        watch.drain(&mut connection, &limits);
        if let Err(error) = result {
            assert!(!error.label().is_empty() && !error.to_string().is_empty());
            watch.over = true;
        }
        assert_eq!(connection.deadline().is_none(), watch.over || watch.waiting);
    }
}

#[derive(Default)]
struct Watch {
    over: bool,
    waiting: bool,
    video: bool,
    started: bool,
    audio: bool,
}

impl Watch {
    fn drain(&mut self, connection: &mut Connection, limits: &Limits) {
        // The words of an end may come on top.
        assert!(connection.take_output().len() <= limits.output + 4096);
        while let Some(event) = connection.poll_event() {
            assert!(!self.over, "{event:?} after the end");
            match event {
                Event::Publish { keys, .. } => {
                    assert!(!keys.is_empty() && keys.iter().all(|key| !key.is_empty()));
                    self.waiting = true;
                }
                Event::Finished => {
                    self.over = true;
                    self.waiting = false;
                }
                Event::Media(Media::VideoConfig(_)) => (self.video, self.started) = (true, false),
                Event::Media(Media::AudioConfig(_)) => self.audio = true,
                Event::Media(Media::Frame(frame)) => {
                    assert!(!frame.data.is_empty());
                    if frame.kind == Kind::Video {
                        assert!(self.video && (self.started || frame.key));
                        self.started = true;
                    } else {
                        assert!(self.audio && frame.key);
                    }
                }
                Event::Media(Media::Announced(_) | Media::Unusable(..)) | Event::Warning(_) => {}
            }
        }
    }
}

/// Reads a chunk stream in one piece and in pieces as long as the first byte says. Promise: the same messages, and the same
/// error.
pub fn rtmp_chunks(data: &[u8]) {
    let Some((&cut, data)) = data.split_first() else { return };
    let whole = read(data, data.len().max(1));
    let pieces = read(data, usize::from(cut).max(1));
    assert_eq!(whole, pieces);
}

fn read(data: &[u8], cut: usize) -> (Vec<Message>, Option<rtmp::Error>) {
    const SET_CHUNK_SIZE: u8 = 1;
    const ABORT: u8 = 2;
    let allowance = MessageLimits { media: 1 << 20, other: 1 << 16, buffered: 1 << 21, in_flight: 16, streams: 64 };
    let mut reader = ChunkReader::new(allowance);
    let mut messages = Vec::new();
    for mut piece in data.chunks(cut) {
        loop {
            let message = match reader.next(&mut piece) {
                Ok(Some(message)) => message,
                Ok(None) => break,
                Err(error) => return (messages, Some(error)),
            };
            if let Some(&number) = message.body.first_chunk() {
                let number = u32::from_be_bytes(number);
                match message.kind {
                    SET_CHUNK_SIZE => {
                        if let Err(error) = reader.set_chunk_size(number) {
                            return (messages, Some(error));
                        }
                    }
                    ABORT => reader.abort(number),
                    _ => {}
                }
            }
            messages.push(message);
        }
        assert!(piece.is_empty());
    }
    (messages, None)
}
