//! Whole connections on virtual time: what encoders send, what they must not, and what they get to hear.

use super::*;
use crate::amf::Value;
use crate::testing::*;
use model::{AudioCodec, AudioConfig, Frame, Kind, MediaTime, SourceTracks, VideoCodec, VideoConfig};
use proptest::prelude::*;
use std::time::Duration;

/// A connection with what it said so far.
struct Rig {
    connection: Connection,
    now: Instant,
    events: Vec<Event>,
    said: Vec<u8>,
}

impl Rig {
    fn new() -> Self {
        Self::with(Limits::default())
    }

    fn with(limits: Limits) -> Self {
        let now = Instant::now();
        Self { connection: Connection::new(limits, now), now, events: Vec::new(), said: Vec::new() }
    }

    fn receive(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let result = self.connection.receive(bytes, self.now);
        self.drain();
        result
    }

    fn drain(&mut self) {
        self.events.extend(std::iter::from_fn(|| self.connection.poll_event()));
        self.said.extend(self.connection.take_output());
    }

    /// Lets time pass to the next deadline and acts on it.
    fn timeout(&mut self) -> Result<(), Error> {
        self.now = self.connection.deadline().expect("a deadline");
        let result = self.connection.handle_timeout(self.now);
        self.drain();
        result
    }

    fn accept(&mut self) {
        self.connection.accept_publish(self.now).unwrap();
        self.drain();
    }

    fn notify(&mut self, text: &str) {
        self.connection.notify(text);
        self.drain();
    }

    /// A connection that publishes, and its encoder.
    fn publishing() -> (Self, Chunker) {
        let (mut rig, mut chunker) = (Self::new(), Chunker::new(128));
        rig.receive(&until_publish(&mut chunker, "live", "KEY")).unwrap();
        rig.accept();
        rig.events.clear();
        (rig, chunker)
    }

    fn media(&self) -> Vec<Media> {
        self.events.iter().filter_map(|e| if let Event::Media(m) = e { Some(m.clone()) } else { None }).collect()
    }

    fn frames(&self) -> Vec<Frame> {
        self.media().into_iter().filter_map(|m| if let Media::Frame(f) = m { Some(f) } else { None }).collect()
    }

    /// The commands said so far, behind the handshake.
    fn commands(&self) -> Vec<Vec<Value>> {
        self.messages().iter().filter(|m| m.kind == kind::COMMAND).map(|m| amf::decode(&m.body).unwrap()).collect()
    }

    fn messages(&self) -> Vec<Message> {
        let mut reader = Reader::new(MessageLimits::published(&Limits::default()));
        let mut said = self.said.get(1 + 2 * 1536..).unwrap_or_default();
        let mut messages = Vec::new();
        while let Some(message) = reader.next(&mut said).unwrap() {
            if message.kind == kind::SET_CHUNK_SIZE {
                reader.set_chunk_size(control_number(1, &message.body).unwrap()).unwrap();
            }
            messages.push(message);
        }
        messages
    }

    /// Code and words of the last status.
    fn last_status(&self) -> (String, String) {
        let commands = self.commands();
        let status = commands.iter().rev().find(|c| c[0].as_str() == Some("onStatus")).expect("a status");
        let text = |name| status[3].get(name).and_then(Value::as_str).unwrap().to_owned();
        (text("code"), text("description"))
    }
}

fn key_of(app: &str, name: &str) -> Result<(String, String), Error> {
    let mut rig = Rig::new();
    rig.receive(&until_publish(&mut Chunker::new(128), app, name))?;
    match rig.events.pop() {
        Some(Event::Publish { app, keys, .. }) => Ok((app.expose().to_owned(), keys[0].expose().to_owned())),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_encoder_publishes() {
    let (mut rig, mut chunker) = (Rig::new(), Chunker::new(128));
    rig.receive(&until_publish(&mut chunker, "live", "KEY")).unwrap();
    let wanted =
        Event::Publish { app: Secret::new("live"), keys: vec![Secret::new("KEY")], encoder: Some("Test/1".into()) };
    assert_eq!(rig.events, [wanted]);
    let said: Vec<_> = rig.messages().iter().map(|m| (m.kind, m.body.len())).collect();
    assert_eq!(said[..4], [(5, 4), (6, 5), (1, 4), (4, 6)]);
    let commands = rig.commands();
    assert_eq!(commands[0][..2], ["_result".into(), 1.0.into()]);
    assert_eq!(commands[0][3].get("code").unwrap().as_str(), Some("NetConnection.Connect.Success"));
    assert_eq!(commands[0][2].get("videoFourCcInfoMap").unwrap().get("hvc1"), Some(&1.0.into()));
    assert_eq!(commands[0][2].get("capsEx"), Some(&14.0.into()));
    assert_eq!(commands[1], ["_result".into(), 4.0.into(), Value::Null, 1.0.into()]);
    assert_eq!(commands.len(), 2);
    rig.accept();
    assert_eq!(rig.last_status().0, "NetStream.Publish.Start");
}

#[test]
fn a_publisher_is_told_what_does_not_get_through() {
    let (mut rig, _) = Rig::publishing();
    rig.notify("audio has stopped");
    assert_eq!(rig.last_status(), ("NetStream.Publish.Degraded".into(), "audio has stopped".into()));
    rig.notify("");
    assert_eq!(rig.last_status().0, "NetStream.Publish.Recovered");
    let mut rig = Rig::new();
    rig.notify("nothing is published yet");
    assert_eq!(rig.said.len(), 0);
}

#[test]
fn stream_keys_are_what_follows_the_last_slash() {
    let ok = |app: &str, key: &str| Ok((app.to_owned(), key.to_owned()));
    assert_eq!(key_of("live", "KEY"), ok("live", "KEY"));
    assert_eq!(key_of("a/b", "c/KEY"), ok("a", "KEY"));
    assert_eq!(key_of("live", "KEY?token=1/2"), ok("live", "KEY"));
    assert_eq!(key_of("live", "/KEY/"), ok("live", "KEY"));
    assert_eq!(key_of("", "KEY"), ok("", "KEY"));
    // All of it in the application.
    assert_eq!(key_of("live/KEY", ""), ok("live", "KEY"));
    assert_eq!(key_of("live/KEY?token=1", ""), ok("live", "KEY"));
    assert_eq!(key_of("live", ""), Err(Error::NoStreamKey));
    assert_eq!(key_of("live", "?token"), Err(Error::NoStreamKey));
    assert_eq!(key_of("live/KEY", "KEY"), ok("live", "KEY"));
}

#[test]
fn commands_of_other_encoders_are_answered() {
    let (mut rig, mut chunker) = (Rig::new(), Chunker::new(128));
    let call = |name: &str, n: f64| vec![name.into(), n.into(), Value::Null, "KEY".into()];
    let mut bytes = handshake();
    // AMF3 form, as Flash's descendants send it: one byte first.
    bytes.extend(chunker.message(
        3,
        kind::COMMAND_AMF3,
        0,
        0,
        &[&[0][..], &amf::encode_all(&connect("live"))].concat(),
    ));
    for (name, n) in
        [("releaseStream", 2.0), ("FCPublish", 3.0), ("_checkbw", 4.0), ("getStreamLength", 5.0), ("?", 6.0)]
    {
        bytes.extend(chunker.command(0, &call(name, n)));
    }
    bytes.extend(chunker.command(0, &call("FCUnpublish", 0.0)));
    bytes.extend(chunker.command(0, &create_stream()));
    bytes.extend(chunker.command(1, &publish("KEY")));
    rig.receive(&bytes).unwrap();
    let said: Vec<_> =
        rig.commands().iter().map(|c| (c[0].as_str().unwrap().to_owned(), c[1].as_number().unwrap())).collect();
    let said: Vec<_> = said.iter().map(|(n, t)| (n.as_str(), *t)).collect();
    let wanted = [
        ("_result", 1.0),
        ("_result", 2.0),
        ("_result", 3.0),
        ("onFCPublish", 0.0),
        ("_result", 4.0),
        ("_result", 5.0),
        ("onFCUnpublish", 0.0),
        ("_result", 4.0),
    ];
    assert_eq!(said, wanted);
    assert!(matches!(rig.events[..], [Event::Publish { .. }]));
    assert!(!rig.connection.is_parting());
}

#[test]
fn what_comes_before_the_answer_waits_for_it() {
    let (mut rig, mut chunker) = (Rig::new(), Chunker::new(128));
    let early =
        |chunker: &mut Chunker, time| chunker.message(4, kind::AUDIO, time, 1, &[&[0xb2][..], &[7; 299]].concat());
    let mut bytes = until_publish(&mut chunker, "live", "KEY");
    bytes.extend(early(&mut chunker, 0));
    rig.receive(&bytes).unwrap();
    rig.receive(&early(&mut chunker, 20)).unwrap();
    assert!(matches!(rig.events[..], [Event::Publish { .. }]), "{:?}", rig.events);
    rig.accept();
    assert_eq!(rig.frames().len(), 2);
    rig.receive(&early(&mut chunker, 40)).unwrap();
    assert_eq!(rig.frames().len(), 3);
}

/// The bounds of media open with the answer: who only names a key has 64 KiB and no more.
#[test]
fn a_publish_without_an_answer_opens_no_bounds() {
    let (mut rig, mut chunker) = (Rig::new(), Chunker::new(65_536));
    rig.receive(&until_publish(&mut chunker, "live", "KEY")).unwrap();
    let picture = chunker.message(4, kind::VIDEO, 0, 1, &vec![0x17; 4 << 20]);
    let mut taken = 0;
    for piece in picture.chunks(16 << 10) {
        if !rig.connection.wants_input() {
            break;
        }
        rig.receive(piece).unwrap();
        taken += piece.len();
    }
    assert_eq!(taken, Limits::default().early);
    let result: Result<(), Error> = picture[taken..].chunks(16 << 10).try_for_each(|piece| rig.receive(piece));
    assert_eq!(result, Err(Error::BufferFull(2 * Limits::default().early)), "a driver that does not heed it");
}

#[test]
fn an_error_in_what_came_early_comes_with_the_answer() {
    let (mut rig, mut chunker) = (Rig::new(), Chunker::new(128));
    rig.receive(&until_publish(&mut chunker, "live", "KEY")).unwrap();
    rig.receive(&chunker.message(2, kind::SET_CHUNK_SIZE, 0, 0, &[1])).unwrap();
    let error = rig.connection.accept_publish(rig.now).unwrap_err();
    assert_eq!(error, Error::Control(kind::SET_CHUNK_SIZE));
    rig.drain();
    assert_eq!(rig.last_status(), ("NetStream.Failed".into(), error.to_string()));
}

#[test]
fn playing_is_refused() {
    let (mut rig, mut chunker) = (Rig::new(), Chunker::new(128));
    let mut bytes = handshake();
    bytes.extend(chunker.command(0, &connect("live")));
    bytes.extend(chunker.command(1, &["play".into(), 3.0.into(), Value::Null, "KEY".into()]));
    assert_eq!(rig.receive(&bytes), Err(Error::Play));
    assert_eq!(rig.last_status(), ("NetStream.Play.Failed".into(), Error::Play.to_string()));
}

#[test]
fn refusals_and_ends_have_a_text() {
    let mut rig = Rig::new();
    rig.receive(&until_publish(&mut Chunker::new(128), "live", "KEY")).unwrap();
    rig.connection.reject_publish("no such stream key");
    rig.drain();
    assert_eq!(rig.last_status(), ("NetStream.Publish.Failed".into(), "no such stream key".into()));
    assert_eq!(rig.connection.deadline(), None);

    let (mut rig, _) = Rig::publishing();
    rig.connection.close(Some("room deleted"));
    rig.drain();
    assert_eq!(rig.last_status(), ("NetStream.Failed".into(), "room deleted".into()));

    let (mut rig, _) = Rig::publishing();
    rig.connection.close(None);
    rig.drain();
    assert_eq!(rig.last_status().0, "NetStream.Unpublish.Success");

    let (mut rig, mut chunker) = Rig::publishing();
    let error = rig.receive(&chunker.message(2, kind::SET_CHUNK_SIZE, 0, 0, &[0; 4])).unwrap_err();
    assert_eq!(error, Error::ChunkSize(0));
    assert_eq!(rig.last_status(), ("NetStream.Failed".into(), "chunk size 0 is not allowed".into()));
    assert_eq!(rig.receive(&[1; 100]), Ok(()), "what follows is ignored");
}

#[test]
fn unpublish_commands_end_the_stream() {
    for name in ["deleteStream", "closeStream"] {
        let (mut rig, mut chunker) = Rig::publishing();
        rig.receive(&chunker.command(0, &["FCUnpublish".into(), 6.0.into(), Value::Null, "KEY".into()])).unwrap();
        assert!(rig.connection.is_parting());
        assert_eq!(rig.events, []);
        let goodbye = chunker.command(0, &[name.into(), 7.0.into(), Value::Null, 1.0.into()]);
        rig.receive(&[goodbye, chunker.message(4, kind::AUDIO, 0, 1, &[0x2f, 1])].concat()).unwrap();
        assert_eq!(rig.events, [Event::Finished]);
    }
}

#[test]
fn each_stage_has_its_deadline() {
    let mut rig = Rig::new();
    let start = rig.now;
    assert_eq!(rig.timeout(), Err(Error::HandshakeTimeout));
    assert_eq!(rig.now - start, Duration::from_secs(5));
    assert_eq!(rig.connection.deadline(), None);

    let mut rig = Rig::new();
    rig.now += Duration::from_secs(4);
    rig.receive(&handshake()).unwrap();
    // Bytes that lead nowhere do not move it.
    rig.now += Duration::from_secs(9);
    rig.receive(&Chunker::new(128).command(0, &connect("live"))).unwrap();
    assert_eq!(rig.timeout(), Err(Error::PublishTimeout));
    assert_eq!(rig.now - start, rig.now - start);
    assert_eq!(rig.last_status().1, Error::PublishTimeout.to_string());

    let mut rig = Rig::new();
    rig.receive(&until_publish(&mut Chunker::new(128), "live", "KEY")).unwrap();
    assert_eq!(rig.connection.deadline(), None, "the answer is not ours to wait for");
}

#[test]
fn a_silent_publisher_is_pinged_then_closed() {
    let (mut rig, mut chunker) = Rig::publishing();
    let start = rig.now;
    rig.said.truncate(1 + 2 * 1536);
    rig.timeout().unwrap();
    assert_eq!(rig.now - start, Duration::from_secs(30));
    assert_eq!(rig.messages()[0].body[..2], [0, 6]);
    // An answer is a sign of life.
    rig.receive(&chunker.message(2, kind::USER_CONTROL, 0, 0, &[0, 7, 0, 0, 0x75, 0x30])).unwrap();
    rig.timeout().unwrap();
    assert_eq!(rig.timeout(), Err(Error::Idle));
    assert_eq!(rig.now - start, Duration::from_secs(90));
}

#[test]
fn timeouts_that_are_not_due_do_nothing() {
    let mut rig = Rig::new();
    assert_eq!(rig.connection.handle_timeout(rig.now + Duration::from_millis(4999)), Ok(()));
}

#[test]
fn pings_are_answered_and_bytes_acknowledged() {
    let (mut rig, mut chunker) = Rig::publishing();
    rig.said.truncate(1 + 2 * 1536);
    rig.receive(&chunker.message(2, kind::USER_CONTROL, 0, 0, &[0, 6, 1, 2, 3, 4])).unwrap();
    rig.receive(&chunker.message(2, kind::WINDOW_ACK_SIZE, 0, 0, &1000u32.to_be_bytes())).unwrap();
    rig.receive(&chunker.message(2, kind::WINDOW_ACK_SIZE, 0, 0, &0u32.to_be_bytes())).unwrap();
    // The count wraps with its 32 bits.
    rig.connection.received = u64::from(u32::MAX) - 10;
    rig.connection.acknowledged = rig.connection.received;
    rig.receive(&chunker.message(4, kind::AUDIO, 0, 1, &[0x2f; 1100])).unwrap();
    let messages = rig.messages();
    assert_eq!(messages[0].body, [0, 7, 1, 2, 3, 4][..]);
    assert_eq!(messages.last().unwrap().kind, kind::ACKNOWLEDGEMENT);
    let count = control_number(3, &messages.last().unwrap().body).unwrap();
    assert!((1000..1200).contains(&count), "{count}");
}

#[test]
fn commands_out_of_place_end_the_connection() {
    let mut chunker = Chunker::new(128);
    let first = |bytes: Vec<u8>| Rig::new().receive(&[handshake(), bytes].concat());
    assert_eq!(first(chunker.command(0, &create_stream())).unwrap_err().label(), "out_of_place");
    assert_eq!(first(chunker.message(4, kind::AUDIO, 0, 1, &[0x2f, 1])), Err(Error::MediaBeforePublish));
    assert_eq!(first(chunker.message(4, kind::AGGREGATE, 0, 1, &[1])), Err(Error::MediaBeforePublish));
    assert_eq!(first(chunker.message(2, kind::SET_CHUNK_SIZE, 0, 0, &[0; 4])), Err(Error::ChunkSize(0)));
    assert_eq!(first(chunker.message(2, kind::SET_CHUNK_SIZE, 0, 0, &[0; 3])), Err(Error::Control(1)));
    assert_eq!(first(chunker.message(3, kind::COMMAND, 0, 0, &[4])), Err(Error::Amf(amf::Error::Marker(4))));
    let twice = [chunker.command(0, &connect("a")), chunker.command(0, &connect("a"))].concat();
    assert_eq!(first(twice).unwrap_err().label(), "out_of_place");
}

#[test]
fn of_several_streams_the_first_is_taken() {
    let (mut rig, mut chunker) = Rig::publishing();
    rig.receive(&chunker.command(0, &create_stream())).unwrap();
    for name in ["KEY2", "KEY3"] {
        rig.receive(&chunker.command(2, &publish(name))).unwrap();
        assert_eq!(rig.last_status().0, "NetStream.Publish.BadName");
    }
    assert!(matches!(&rig.events[..], [Event::Warning(text)] if text.contains("first is taken")), "{:?}", rig.events);
    assert_eq!(rig.messages().last().unwrap().stream, 2);
    // Sound of ours, and of a stream that nobody published; what is refused does not come between, not even by its metadata.
    let metadata = amf::encode_all(&["onMetaData".into(), amf::object([("videocodecid", 7.0.into())])]);
    for (stream, kind, body) in [
        (1, kind::AUDIO, &[0x2f, 1][..]),
        (2, kind::AUDIO, &[0x2f, 2]),
        (2, kind::DATA, &metadata),
        (9, kind::AUDIO, &[0x2f, 9]),
    ] {
        rig.receive(&chunker.message(4, kind, 0, stream, body)).unwrap();
    }
    assert_eq!(rig.frames().iter().map(|f| f.data[0]).collect::<Vec<_>>(), [1, 9]);
    assert!(!rig.media().iter().any(|m| matches!(m, Media::Announced(_))));
    // The others may end; the first ends all.
    let delete = |id: f64| ["deleteStream".into(), 7.0.into(), Value::Null, id.into()];
    rig.receive(&[chunker.command(0, &delete(2.0)), chunker.command(2, &["closeStream".into(), 0.0.into()])].concat())
        .unwrap();
    assert!(!rig.events.contains(&Event::Finished));
    rig.receive(&chunker.command(0, &delete(1.0))).unwrap();
    assert_eq!(rig.events.last(), Some(&Event::Finished));
}

#[test]
fn a_publish_may_come_twice() {
    let mut rig = Rig::new();
    let mut chunker = Chunker::new(128);
    rig.receive(&until_publish(&mut chunker, "live", "KEY")).unwrap();
    rig.receive(&chunker.command(1, &publish("KEY"))).unwrap();
    assert_eq!(rig.events.len(), 1, "{:?}", rig.events);
    rig.accept();
    rig.receive(&chunker.command(1, &publish("KEY"))).unwrap();
    let starts = rig
        .commands()
        .iter()
        .filter(|c| c.get(3).and_then(|i| i.get("code")) == Some(&"NetStream.Publish.Start".into()))
        .count();
    assert_eq!((starts, rig.events.len()), (3, 1));
    rig.receive(&chunker.command(1, &publish("KEY2"))).unwrap();
    assert_eq!(rig.last_status().0, "NetStream.Publish.BadName");
    rig.receive(&chunker.message(4, kind::AUDIO, 0, 1, &[0x2f, 1])).unwrap();
    assert_eq!(rig.frames().len(), 1);
}

#[test]
fn a_stream_id_that_was_never_created_ends_the_stream() {
    // Encoders that do not read the answer to createStream.
    let mut rig = Rig::new();
    let mut chunker = Chunker::new(128);
    let bytes = [handshake(), chunker.command(0, &connect("live")), chunker.command(0, &publish("KEY"))].concat();
    rig.receive(&bytes).unwrap();
    rig.accept();
    rig.receive(&chunker.command(0, &["deleteStream".into(), 7.0.into(), Value::Null, 1.0.into()])).unwrap();
    assert_eq!(rig.events.last(), Some(&Event::Finished));
}

#[test]
fn odd_commands_while_publishing_are_ignored() {
    let (mut rig, mut chunker) = Rig::publishing();
    for _ in 0..2 {
        rig.receive(&chunker.message(3, kind::COMMAND, 0, 1, &[4])).unwrap();
    }
    assert!(
        matches!(&rig.events[..], [Event::Warning(text)] if text.contains("malformed command")),
        "{:?}",
        rig.events
    );
}

#[test]
fn mpegts_is_told() {
    // As FFmpeg cuts it: the first packet's bytes 13 to 23 are taken for the header of a tag.
    let (mut rig, mut chunker) = Rig::publishing();
    let packet = [&[0x47, 0x40, 0x11][..], &[0xff; 185]].concat();
    let mut bytes = chunker.message(4, 0xff, 0, 1, &[0; 30]);
    bytes[4..7].copy_from_slice(&130_816u32.to_be_bytes()[1..]);
    bytes.extend(packet.repeat(6));
    assert_eq!(rig.receive(&bytes), Err(Error::MpegTs));
    assert!(rig.last_status().1.contains("-f flv"));
    assert_eq!(Rig::new().receive(&packet.repeat(6)), Err(Error::MpegTs));
}

#[test]
fn a_peer_that_does_not_read_is_closed() {
    let (mut rig, mut chunker) = Rig::publishing();
    let ping = chunker.message(2, kind::USER_CONTROL, 0, 0, &[0, 6, 1, 2, 3, 4]);
    let mut result = Ok(());
    for _ in 0..5000 {
        result = result.and_then(|()| rig.connection.receive(&ping, rig.now));
    }
    assert_eq!(result, Err(Error::OutputFull));
    assert!(rig.connection.take_output().len() < rig.connection.limits.output + 100);
}

#[test]
fn configurations_come_before_media() {
    let (mut rig, mut chunker) = Rig::publishing();
    let metadata = amf::object([("videocodecid", 7.0.into()), ("audiocodecid", 10.0.into()), ("width", 64.0.into())]);
    let mut send = |kind, time, body: &[u8]| {
        let id = if kind == kind::AUDIO { 4 } else { 6 };
        rig.receive(&chunker.message(id, kind, time, 1, body)).unwrap();
    };
    send(kind::DATA, 0, &amf::encode_all(&["@setDataFrame".into(), "onMetaData".into(), metadata.clone()]));
    send(kind::DATA_AMF3, 0, &[&[0][..], &amf::encode_all(&["onTextData".into(), metadata])].concat());
    send(kind::DATA, 0, &[99, 98]);
    send(kind::VIDEO, 0, &avc(true, 1, 0, &nal(&[0x65, 1]))); // before its configuration
    send(kind::VIDEO, 0, &avc(true, 0, 0, AVCC));
    send(kind::VIDEO, 10, &avc(false, 1, 0, &nal(&[0x41, 1]))); // before a key frame
    send(kind::VIDEO, 20, &avc(true, 1, 80, &nal(&[0x65, 2])));
    send(kind::VIDEO, 60, &avc(false, 1, -20, &nal(&[0x41, 3])));
    send(kind::VIDEO, 60, &avc(true, 0, 0, AVCC)); // the same again
    send(kind::VIDEO, 100, &avc(false, 1, 0, &nal(&[0x41, 4])));
    send(kind::VIDEO, 100, &avc(true, 2, 0, &[])); // end of sequence
    send(kind::AUDIO, 5, &[0xaf, 1, 9]); // before its configuration
    send(kind::AUDIO, 5, &[0xaf, 0, 0x12, 0x10]);
    send(kind::AUDIO, 28, &[0xaf, 1, 0x21]);
    send(kind::AUDIO, 28, &[]); // silence
    let frame = |kind, pts, dts, key, data: &[u8]| {
        let (pts, dts) = (MediaTime::from_millis(pts), MediaTime::from_millis(dts));
        Media::Frame(Frame { kind, pts, dts, key, data: Bytes::copy_from_slice(data) })
    };
    let wanted = [
        Media::Announced(SourceTracks { video: true, audio: true }),
        Media::VideoConfig(VideoConfig::new(VideoCodec::H264, Bytes::from_static(AVCC), Some((64, 48)))),
        frame(Kind::Video, 100, 20, true, &nal(&[0x65, 2])),
        frame(Kind::Video, 40, 60, false, &nal(&[0x41, 3])),
        frame(Kind::Video, 100, 100, false, &nal(&[0x41, 4])),
        Media::AudioConfig(AudioConfig {
            codec: AudioCodec::Aac,
            record: Bytes::from_static(&[0x12, 0x10]),
            sample_rate: Some(44_100),
            channels: Some(2),
        }),
        frame(Kind::Audio, 28, 28, true, &[0x21]),
    ];
    assert_eq!(rig.media(), wanted);
    let warnings = rig.events.iter().filter(|e| matches!(e, Event::Warning(_))).count();
    assert_eq!(warnings, 2);
}

#[test]
fn a_new_configuration_waits_for_a_key_frame() {
    let (mut rig, mut chunker) = Rig::publishing();
    let mut changed = AVCC.to_vec();
    changed[3] = 0x0b;
    let bodies = [
        avc(true, 0, 0, AVCC),
        avc(true, 1, 0, &nal(&[0x65])),
        avc(true, 0, 0, &changed),
        avc(false, 1, 0, &nal(&[0x41])),
        avc(true, 1, 0, &nal(&[0x65])),
    ];
    for body in bodies {
        rig.receive(&chunker.message(6, kind::VIDEO, 0, 1, &body)).unwrap();
    }
    let configs = rig.media().iter().filter(|m| matches!(m, Media::VideoConfig(_))).count();
    assert_eq!((configs, rig.frames().len()), (2, 2));
    assert!(rig.frames().iter().all(|f| f.key));
}

#[test]
fn timestamps_run_on_where_32_bits_wrap() {
    let (mut rig, mut chunker) = Rig::publishing();
    let start = u32::MAX - 30;
    rig.receive(&chunker.message(6, kind::VIDEO, start, 1, &avc(true, 0, 0, AVCC))).unwrap();
    for n in 0..4 {
        let time = start.wrapping_add(n * 20);
        rig.receive(&chunker.message(6, kind::VIDEO, time, 1, &avc(true, 1, 0, &nal(&[0x65])))).unwrap();
        rig.receive(&chunker.message(4, kind::AUDIO, time.wrapping_sub(5), 1, &[0x2f, 0xff])).unwrap();
    }
    let millis: Vec<_> = rig.frames().iter().map(|f| f.dts.as_millis() - i64::from(start)).collect();
    // The first picture is held until the next shows that it is whole.
    assert_eq!(millis, [-5, 0, 20, 15, 40, 35, 60, 55]);
}

#[test]
fn timestamps_below_zero_are_taken() {
    // DJI: type 1 with a delta below zero in the extended field, repeated or not on the chunks that continue.
    for repeated in [true, false] {
        let (mut rig, mut chunker) = Rig::publishing();
        let mut bytes = chunker.message(6, kind::VIDEO, 1_000, 1, &avc(true, 0, 0, AVCC));
        let picture = avc(true, 1, 0, &nal(&[&[0x65, 0x88][..], &[7; 300]].concat()));
        bytes.extend(chunker.message(6, kind::VIDEO, 1_000, 1, &picture));
        let extended = 0xffff_fef7_u32.to_be_bytes();
        let header =
            [&[0x46, 0xff, 0xff, 0xff][..], &(picture.len() as u32).to_be_bytes()[1..], &[kind::VIDEO]].concat();
        for _ in 0..2 {
            bytes.extend([&header[..], &extended].concat());
            for (n, chunk) in picture.chunks(128).enumerate() {
                if n > 0 {
                    bytes.push(0xc6);
                    bytes.extend(if repeated { &extended[..] } else { &[] });
                }
                bytes.extend(chunk);
            }
        }
        rig.receive(&bytes).unwrap();
        rig.connection.tracks.finish(&mut rig.connection.events);
        rig.drain();
        assert_eq!(rig.frames().iter().map(|f| f.dts.as_millis()).collect::<Vec<_>>(), [1_000, 735, 470], "{repeated}");
    }
}

#[test]
fn control_messages_may_come_on_any_chunk_stream() {
    let (mut rig, mut chunker) = Rig::publishing();
    let mut bytes = chunker.message(3, kind::SET_CHUNK_SIZE, 0, 1, &4096u32.to_be_bytes());
    chunker.chunk_size = 4096;
    bytes.extend(chunker.message(6, kind::USER_CONTROL, 7, 1, &[0, 6, 1, 2, 3, 4]));
    bytes.extend(chunker.message(6, kind::WINDOW_ACK_SIZE, 7, 1, &1000u32.to_be_bytes()));
    bytes.extend(chunker.message(6, kind::AUDIO, 7, 1, &[0x2f; 1100]));
    rig.receive(&bytes).unwrap();
    assert_eq!(rig.frames().len(), 1);
    assert!(rig.messages().iter().any(|m| m.body == [0, 7, 1, 2, 3, 4][..]));
    assert_eq!(key_of("live", "rtmp://example.com:1935/live/KEY"), Ok(("live".into(), "KEY".into())));
}

#[test]
fn aggregates_are_taken_apart() {
    let (mut rig, mut chunker) = Rig::publishing();
    let mut body = Vec::new();
    let mut tag = |kind: u8, time: u32, data: &[u8]| {
        body.push(kind);
        body.extend(&(data.len() as u32).to_be_bytes()[1..]);
        body.extend(&time.to_be_bytes()[1..]);
        body.push((time >> 24) as u8);
        body.extend([0, 0, 0]);
        body.extend(data);
        body.extend((data.len() as u32 + 11).to_be_bytes());
    };
    tag(9, 0x0100_0000, &avc(true, 0, 0, AVCC));
    tag(9, 0x0100_0028, &avc(true, 1, 0, &nal(&[0x65])));
    tag(18, 0x0100_0028, &[2, 0, 0]);
    tag(8, 0x0100_0030, &[0x2f, 1, 2]);
    tag(9, 0x0100_0050, &avc(false, 1, 0, &nal(&[0x41])));
    rig.receive(&chunker.message(6, kind::AGGREGATE, 1000, 1, &body)).unwrap();
    assert_eq!(rig.frames().iter().map(|f| f.dts.as_millis()).collect::<Vec<_>>(), [1048, 1040, 1080]);
    let before = rig.frames().len();
    let second = body.len() - (11 + 5 + 5 + 4) + 3;
    body[second] += 200;
    rig.receive(&chunker.message(6, kind::AGGREGATE, 1040, 1, &body)).unwrap();
    assert!(rig.frames().len() > before, "what comes before the broken tag is taken");
    assert!(matches!(rig.events.last(), Some(Event::Warning(_))));
}

/// A scripted session: its commands, then media on chunk streams of their own.
fn media_script() -> Vec<Sent> {
    let mut script = Vec::new();
    let mut add = |id, kind, timestamp, body| script.push(Sent { id, kind, timestamp, stream: 1, body });
    add(6, kind::VIDEO, 0, avc(true, 0, 0, AVCC));
    add(4, kind::AUDIO, 0, vec![0xaf, 0, 0x12, 0x10]);
    for n in 0..12u32 {
        let unit = vec![n as u8; 37 * n as usize + 1];
        add(6, kind::VIDEO, n * 40, avc(n % 5 == 0, 1, 40, &nal(&unit)));
        add(4, kind::AUDIO, n * 23, [&[0xaf, 1][..], &unit].concat());
    }
    script
}

proptest! {
    #[test]
    fn events_do_not_depend_on_chunking(
        (chunk_size, compress) in (1usize..600, any::<bool>()),
        order in proptest::collection::vec(any::<bool>(), 64),
        cut in 1usize..3000,
    ) {
        let (mut plain, mut chunker) = Rig::publishing();
        for sent in media_script() {
            plain.receive(&chunker.chunks(&sent).concat()).unwrap();
        }
        let (mut rig, mut chunker) = Rig::publishing();
        let mut bytes = chunker.message(2, kind::SET_CHUNK_SIZE, 0, 0, &(chunk_size as u32).to_be_bytes());
        let mut chunker = Chunker { chunk_size, compress, ..Chunker::new(chunk_size) };
        let mut queues = [VecDeque::new(), VecDeque::new()];
        for sent in media_script() {
            queues[usize::from(sent.id == 4)].extend(chunker.chunks(&sent));
        }
        let mut order = order.iter().cycle();
        while queues.iter().any(|q| !q.is_empty()) {
            bytes.extend(queues[usize::from(*order.next().unwrap())].pop_front().unwrap_or_default());
            if order.clone().take(64).all(|o| *o) || order.clone().take(64).all(|o| !*o) {
                queues.iter_mut().for_each(|q| bytes.extend(q.drain(..).flatten()));
            }
        }
        for piece in bytes.chunks(cut) {
            rig.receive(piece).unwrap();
        }
        let of = |rig: &Rig, kind| rig.frames().into_iter().filter(move |f| f.kind == kind).collect::<Vec<_>>();
        for kind in [Kind::Audio, Kind::Video] {
            prop_assert_eq!(of(&rig, kind), of(&plain, kind));
        }
        prop_assert_eq!(rig.events.len(), plain.events.len());
    }

    #[test]
    fn noise_at_any_stage_never_panics(
        stage in 0usize..3,
        noise in proptest::collection::vec(any::<u8>(), 0..3000),
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in 1usize..1000,
    ) {
        let mut rig = Rig::new();
        let mut chunker = Chunker::new(128);
        let mut bytes = [vec![], handshake(), until_publish(&mut chunker, "live", "KEY")][stage].clone();
        if stage == 2 {
            bytes.extend(media_script().iter().flat_map(|s| chunker.chunks(s).concat()));
        }
        for (at, value) in flips {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
        }
        bytes.extend(noise);
        for piece in bytes.chunks(cut) {
            let mut ended = rig.receive(piece).is_err();
            // What came behind the publish is read with its answer.
            ended |= rig.connection.accept_publish(rig.now).is_err();
            rig.drain();
            let held = rig.connection.deadline().is_some() || ended;
            prop_assert!(held || rig.connection.is_parting(), "a stage without a deadline");
            if ended {
                break;
            }
        }
    }
}
