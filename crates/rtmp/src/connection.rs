//! The connection: handshake, commands, publish, media, end.

use crate::address::{Address, shown};
use crate::chunk::{Message, MessageLimits, Reader, kind};
use crate::command::{Command, Level, Writer};
use crate::handshake::Handshake;
use crate::mpegts::is_mpegts;
use crate::publication::Publication;
use crate::tracks::Tracks;
use crate::{Error, Limits, amf};
use bytes::Bytes;
use model::{Media, Secret};
use std::collections::VecDeque;
use std::time::Instant;

/// Codes of ours: the specification has none for a stream that goes on but does not get through as a whole.
const DEGRADED: &str = "NetStream.Publish.Degraded";
const RECOVERED: &str = "NetStream.Publish.Recovered";

/// Bytes after which a peer without a window of its own gets an acknowledgement: half the window of nginx-rtmp.
const DEFAULT_ACK_WINDOW: u32 = 2_500_000;

/// What a connection tells its driver.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The peer wants to publish. Answer with [`Connection::accept_publish`] or [`Connection::reject_publish`].
    Publish {
        /// The first segment of the application, for logs. People paste keys there, too.
        app: Secret,
        /// What may be the stream key, the likeliest first; at least one.
        keys: Vec<Secret>,
        /// The name of the peer's program (`flashVer`).
        encoder: Option<String>,
    },
    /// Media.
    Media(Media),
    /// A part of the stream is left out; the text is for the publisher and the log. Each comes once.
    Warning(String),
    /// The peer has ended its stream. No event follows.
    Finished,
}

/// How far a connection has come.
#[derive(Debug)]
enum Stage {
    Handshake(Box<Handshake>),
    Commands,
    /// A publish waits for the driver's answer.
    Requested,
    Publishing,
    Closed,
}

/// One RTMP connection, the server's side.
///
/// After each call that takes `&mut self`, drain [`Connection::poll_event`] and [`Connection::take_output`].
#[derive(Debug)]
pub struct Connection {
    limits: Limits,
    stage: Stage,
    reader: Reader,
    writer: Writer,
    tracks: Tracks,
    events: VecDeque<Event>,
    /// When the stage must be over; while publishing, when the next byte must have come.
    deadline: Option<Instant>,
    /// Whether a ping was sent since the last byte.
    pinged: bool,
    started: Instant,
    /// From `connect`; `None` before.
    app: Option<App>,
    /// What came behind a publish that waits for its answer, as it came: it is read once the publish is accepted.
    held: Vec<u8>,
    publication: Publication,
    /// Whether FCUnpublish came: a connection that breaks after it has ended in order.
    unpublish_announced: bool,
    received: u64,
    acknowledged: u64,
    ack_window: u32,
}

#[derive(Debug)]
struct App {
    path: String,
    encoder: Option<String>,
}

impl Connection {
    /// A connection whose first byte is still to come.
    pub fn new(limits: Limits, now: Instant) -> Self {
        Self {
            stage: Stage::Handshake(Box::new(Handshake::new())),
            reader: Reader::new(MessageLimits::unpublished(&limits)),
            writer: Writer::new(),
            tracks: Tracks::default(),
            events: VecDeque::new(),
            deadline: Some(now + limits.handshake),
            pinged: false,
            started: now,
            app: None,
            held: Vec::new(),
            publication: Publication::default(),
            unpublish_announced: false,
            received: 0,
            acknowledged: 0,
            ack_window: DEFAULT_ACK_WINDOW,
            limits,
        }
    }

    /// Takes bytes from the peer. The number of events grows with them: hand in at most some 16 KiB between drains.
    ///
    /// # Errors
    /// What ends the connection. The status for the peer is in the output already: write that, then close. Bytes that come after
    /// an error or [`Event::Finished`] are ignored.
    pub fn receive(&mut self, mut input: &[u8], now: Instant) -> Result<(), Error> {
        self.received += input.len() as u64;
        let whole = input;
        let result = self.process(&mut input, now).map_err(|error| named(error, whole));
        if matches!(self.stage, Stage::Publishing) {
            self.reset_idle_timer(now);
        }
        self.fail_on(result)
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Bytes for the peer.
    pub fn take_output(&mut self) -> Bytes {
        Bytes::from(std::mem::take(&mut self.writer.out))
    }

    /// When [`Connection::handle_timeout`] has to be called, if nothing else happens. `None` while a publish waits for the driver's
    /// answer: that wait is the driver's.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Handles the deadline, if it has passed.
    ///
    /// # Errors
    /// The peer is too slow or silent: as for [`Connection::receive`].
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), Error> {
        if self.deadline.is_none_or(|d| now < d) {
            return Ok(());
        }
        let result = match self.stage {
            Stage::Handshake(_) => Err(Error::HandshakeTimeout),
            Stage::Commands => Err(Error::PublishTimeout),
            Stage::Publishing if !self.pinged => {
                self.pinged = true;
                self.writer.ping((now - self.started).as_millis() as u32);
                self.deadline = Some(now + self.limits.idle / 2);
                Ok(())
            }
            Stage::Publishing => Err(Error::Idle),
            Stage::Requested | Stage::Closed => {
                self.deadline = None;
                Ok(())
            }
        };
        self.fail_on(result)
    }

    /// Whether more bytes are of use now. While a publish waits for its answer, only a few are kept; hand in no more until it has it.
    pub fn wants_input(&self) -> bool {
        self.held.len() < self.limits.early
    }

    /// Accepts the publish, and takes what the peer has sent behind it. Does nothing unless one waits.
    ///
    /// # Errors
    /// As for [`Connection::receive`].
    pub fn accept_publish(&mut self, now: Instant) -> Result<(), Error> {
        if !matches!(self.stage, Stage::Requested) {
            return Ok(());
        }
        self.stage = Stage::Publishing;
        self.reader.allow(MessageLimits::published(&self.limits));
        self.writer.stream_begin(self.publication.stream);
        self.publish_started();
        self.reset_idle_timer(now);
        let held = std::mem::take(&mut self.held);
        let result = self.process(&mut &held[..], now).map_err(|error| named(error, &held));
        self.fail_on(result)
    }

    /// Tells the publisher what of its stream does not get through; empty: all does again. The stream goes on. Encoders log such a status
    /// and take no other notice (OBS and FFmpeg by their sources, GStreamer's `rtmp2sink` tried). Does nothing unless it publishes.
    pub fn notify(&mut self, text: &str) {
        if !matches!(self.stage, Stage::Publishing) {
            return;
        }
        let stream = self.publication.stream;
        match text {
            "" => self.writer.status(stream, Level::Status, RECOVERED, "The whole stream gets through again."),
            text => self.writer.status(stream, Level::Warning, DEGRADED, text),
        }
    }

    fn publish_started(&mut self) {
        let stream = self.publication.stream;
        self.writer.status(stream, Level::Status, "NetStream.Publish.Start", "Publish succeeded.");
    }

    /// Refuses the publish with a text for the publisher, and ends the connection.
    pub fn reject_publish(&mut self, reason: &str) {
        self.close(Some(reason));
    }

    /// Ends the connection: with a text after a fault, without one in order.
    pub fn close(&mut self, reason: Option<&str>) {
        let (level, code, text) = match (&self.stage, reason) {
            (Stage::Handshake(_) | Stage::Closed, _) => {
                self.end();
                return;
            }
            (Stage::Commands | Stage::Requested, reason) => {
                (Level::Error, "NetStream.Publish.Failed", reason.unwrap_or("Publish failed."))
            }
            (Stage::Publishing, Some(reason)) => (Level::Error, "NetStream.Failed", reason),
            (Stage::Publishing, None) => (Level::Status, "NetStream.Unpublish.Success", "The stream has ended."),
        };
        // Before connect the peer reads no status.
        if self.app.is_some() {
            self.writer.status(self.publication.stream, level, code, text);
        }
        self.end();
    }

    /// Whether the connection ends in order even if it breaks now: the peer has announced the end of its stream.
    pub fn is_parting(&self) -> bool {
        self.unpublish_announced || matches!(self.stage, Stage::Closed)
    }

    fn fail_on(&mut self, result: Result<(), Error>) -> Result<(), Error> {
        if let Err(error) = &result {
            match error {
                // The first has its own status, the second can't be written.
                Error::Play | Error::OutputFull => self.end(),
                error => self.close(Some(&error.to_string())),
            }
        }
        result
    }

    fn end(&mut self) {
        self.stage = Stage::Closed;
        self.deadline = None;
        self.held = Vec::new();
    }

    /// Restarts the idle time.
    fn reset_idle_timer(&mut self, now: Instant) {
        self.pinged = false;
        self.deadline = Some(now + self.limits.idle / 2);
    }

    fn process(&mut self, input: &mut &[u8], now: Instant) -> Result<(), Error> {
        if let Stage::Handshake(handshake) = &mut self.stage {
            if !handshake.receive(input, &mut self.writer.out)? {
                return Ok(());
            }
            self.stage = Stage::Commands;
            self.deadline = Some(now + self.limits.publish);
        }
        while !matches!(self.stage, Stage::Closed) {
            if matches!(self.stage, Stage::Requested) {
                self.hold(input)?;
                break;
            }
            let Some(message) = self.reader.next(input)? else { break };
            self.message(message)?;
            if self.writer.out.len() > self.limits.output {
                return Err(Error::OutputFull);
            }
        }
        if self.received - self.acknowledged >= u64::from(self.ack_window) {
            self.acknowledged = self.received;
            self.writer.acknowledge(self.received as u32); // wraps (RTMP §5.4.3)
        }
        Ok(())
    }

    /// Keeps what comes while a publish waits: whose key nobody has looked at yet gets no bounds of media.
    fn hold(&mut self, input: &mut &[u8]) -> Result<(), Error> {
        // A driver that heeds `wants_input` stays far below.
        let most = self.limits.early.saturating_mul(2);
        if self.held.len() + input.len() > most {
            return Err(Error::BufferFull(most));
        }
        self.held.extend_from_slice(input);
        *input = &[];
        Ok(())
    }

    fn message(&mut self, message: Message) -> Result<(), Error> {
        let Message { kind, timestamp, stream, body } = message;
        match kind {
            kind::SET_CHUNK_SIZE => self.reader.set_chunk_size(control_number(kind, &body)?)?,
            kind::ABORT => self.reader.abort(control_number(kind, &body)?),
            // A window of 0 would mean an acknowledgement for every byte.
            kind::WINDOW_ACK_SIZE => match control_number(kind, &body)? {
                0 => {}
                window => self.ack_window = window,
            },
            // These limit what we send, which is next to nothing.
            kind::ACKNOWLEDGEMENT | kind::SET_PEER_BANDWIDTH => {}
            kind::USER_CONTROL => self.user_control(&body),
            kind::COMMAND => self.command(stream, &body)?,
            // The AMF3 forms begin with a byte for the AMF version that follows (0: AMF0, as we asked for).
            kind::COMMAND_AMF3 => self.command(stream, body.get(1..).unwrap_or_default())?,
            kind::DATA | kind::DATA_AMF3 if self.publication.refused(stream) => {}
            kind::DATA => self.data(&body),
            kind::DATA_AMF3 => self.data(body.get(1..).unwrap_or_default()),
            kind::AUDIO | kind::VIDEO | kind::AGGREGATE if self.publication.refused(stream) => {}
            kind::AUDIO | kind::VIDEO | kind::AGGREGATE => self.tracks.message(kind, timestamp, body, &mut self.events),
            // Shared objects and undefined types.
            _ => {}
        }
        Ok(())
    }

    fn user_control(&mut self, body: &[u8]) {
        // Event 6 is a ping; all others are for players (RTMP §7.1.7).
        if let Some((&[0, 6], rest)) = body.split_first_chunk()
            && let Some(&timestamp) = rest.first_chunk()
        {
            self.writer.pong(u32::from_be_bytes(timestamp));
        }
    }

    fn command(&mut self, stream: u32, body: &[u8]) -> Result<(), Error> {
        let command = match Command::parse(body) {
            Ok(Some(command)) => command,
            Ok(None) => return Ok(()),
            // All that matters has been said by then, but for the end.
            Err(error) if matches!(self.stage, Stage::Publishing) => {
                self.tracks.warn("command", &format!("{}; it is ignored", Error::Amf(error)), &mut self.events);
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        if self.app.is_none() && command.name != "connect" {
            return Err(Error::OutOfPlace("the first must be connect"));
        }
        match command.name.as_str() {
            "connect" => self.connect(&command)?,
            "createStream" => {
                let id = f64::from(self.publication.create());
                self.writer.result(command.transaction, [amf::Value::Null, id.into()]);
            }
            "publish" => self.publish(stream, &command)?,
            "play" | "play2" => {
                let text = Error::Play.to_string();
                self.writer.status(stream, Level::Error, "NetStream.Play.Failed", &text);
                return Err(Error::Play);
            }
            "FCPublish" => {
                self.acknowledge_command(&command);
                self.writer.fc_status("onFCPublish", "NetStream.Publish.Start");
            }
            "FCUnpublish" => {
                // Some encoders send it before they publish, to clean up. Only while publishing it announces the end.
                self.unpublish_announced |= matches!(self.stage, Stage::Publishing);
                self.acknowledge_command(&command);
                self.writer.fc_status("onFCUnpublish", "NetStream.Unpublish.Success");
            }
            "deleteStream" => {
                let id = command.arguments.get(1).and_then(amf::Value::as_number);
                self.unpublish(id.map_or(stream, |id| id as u32));
            }
            "closeStream" => self.unpublish(stream),
            "getStreamLength" => self.writer.result(command.transaction, [amf::Value::Null, 0.0.into()]),
            "releaseStream" | "_checkbw" => self.acknowledge_command(&command),
            // Anything else is for other servers, or answers one of our messages.
            _ => {}
        }
        Ok(())
    }

    /// Answers with an empty result, if an answer is wanted.
    fn acknowledge_command(&mut self, command: &Command) {
        if command.transaction != 0.0 {
            self.writer.result(command.transaction, [amf::Value::Null, amf::Value::Undefined]);
        }
    }

    fn connect(&mut self, command: &Command) -> Result<(), Error> {
        if self.app.is_some() {
            return Err(Error::OutOfPlace("connect comes once"));
        }
        let object = command.arguments.first().unwrap_or(&amf::Value::Null);
        let text = |name| object.get(name).and_then(amf::Value::as_str);
        let encoder = text("flashVer").filter(|e| !e.is_empty()).map(shown);
        self.app = Some(App { path: text("app").unwrap_or_default().to_owned(), encoder });
        self.writer.connected(command.transaction);
        Ok(())
    }

    fn publish(&mut self, stream: u32, command: &Command) -> Result<(), Error> {
        let Some(app) = &self.app else { return Err(Error::OutOfPlace("publish needs connect")) };
        let Address { app: path, keys } = Address::read(&app.path, command.text(1).unwrap_or_default());
        if !matches!(self.stage, Stage::Commands) {
            self.publish_another(stream, &keys);
            return Ok(());
        }
        self.publication.stream = stream;
        if keys.is_empty() {
            return Err(Error::NoStreamKey);
        }
        self.publication.keys.clone_from(&keys);
        let event = Event::Publish { app: path, keys, encoder: app.encoder.clone() };
        self.stage = Stage::Requested;
        self.deadline = None;
        self.events.push_back(event);
        Ok(())
    }

    /// Refuses a publish beside the one that there is, and nothing else: Flash Media Live Encoder publishes all its bit rates on one
    /// connection. The same once more is an encoder that was not sure.
    fn publish_another(&mut self, stream: u32, keys: &[Secret]) {
        if stream == self.publication.stream && keys == self.publication.keys {
            self.publish_started();
            return;
        }
        let text =
            "one connection publishes one stream: the first is taken, the others are left out; send one bit rate";
        self.tracks.warn("several streams", text, &mut self.events);
        self.publication.refuse(stream);
        self.writer.status(stream, Level::Error, "NetStream.Publish.BadName", text);
    }

    fn unpublish(&mut self, stream: u32) {
        if self.publication.is_other(stream) {
            return;
        }
        if matches!(self.stage, Stage::Publishing) {
            self.tracks.finish(&mut self.events);
            self.events.push_back(Event::Finished);
            self.close(None);
        }
    }

    /// Takes onMetaData. All other data, such as cue points and captions, is for players. Malformed data is ignored, as nothing depends
    /// on it.
    fn data(&mut self, body: &[u8]) {
        let values = amf::decode(body).unwrap_or_default();
        let mut values = values.iter();
        let mut name = values.next().and_then(amf::Value::as_str);
        if name == Some("@setDataFrame") {
            name = values.next().and_then(amf::Value::as_str);
        }
        if name == Some("onMetaData")
            && matches!(self.stage, Stage::Publishing)
            && let Some(object) = values.next()
        {
            self.tracks.metadata(object, &mut self.events);
        }
    }
}

/// An error by its cause, where these bytes show it.
fn named(error: Error, bytes: &[u8]) -> Error {
    if is_mpegts(bytes) { Error::MpegTs } else { error }
}

/// The 32-bit number of a control message.
fn control_number(kind: u8, body: &[u8]) -> Result<u32, Error> {
    body.first_chunk().map(|b| u32::from_be_bytes(*b)).ok_or(Error::Control(kind))
}

#[cfg(test)]
mod tests;
