//! A session with a mixed plan: the lower layers are encoded, the highest is the source's.

use super::*;
use crate::layers::plan::AudioProducer;
use crate::registry::Registry;
use crate::testing::{Given, Observed, Participants, Room, Worker, Workers, ids, picture, spec};
use crate::workers::{FromWorker as WorkerMessage, Gone};
use crate::{KeyframeRequest, SourceFeed, source};
use bytes::Bytes;
use ipc::transcode::{Command as ToWorker, Event as FromTranscoder};
use model::{
    Frame, InputKind, Kind, Layer, Media, Packet, PassthroughMedia, Quality, VideoCodec, VideoConfig, VideoFormat,
};
use std::time::Duration;

struct Stage {
    feed: SourceFeed,
    reports: mpsc::Receiver<Report>,
    workers: mpsc::UnboundedReceiver<Worker>,
    rooms: mpsc::UnboundedReceiver<Room>,
    observer: Observed,
    entry: crate::registry::Entry,
    _running: tokio::task::JoinHandle<()>,
}

impl Stage {
    fn new(input: InputKind, producers: impl FnOnce(&IngressSpec) -> Producers) -> Self {
        let (ids, spec) = (ids(), spec(input, input != InputKind::Whip));
        let slot = Registry::default()
            .enter(ids.ingress_id, ids.resource_id, input, true, std::time::SystemTime::now())
            .unwrap();
        let (feed, source) = source();
        let (factory, workers) = Workers::new(64);
        let (participants, rooms) = Participants::new();
        let producers = producers(&spec);
        let observer = Observed::default();
        let (ws_url, token) = ("ws://sfu".into(), Secret::new("token"));
        let start = Start {
            slot,
            spec,
            ws_url,
            token,
            renew: RenewToken::same(Secret::new("token")),
            stall_timeout: crate::lifecycle::STALL_TIMEOUT,
            passthrough: Passthrough::default(),
            loopback: false,
            source,
            participants,
            workers: factory,
            observer: Arc::new(observer.clone()),
        };
        let entry = start.slot.entry.clone();
        let (running, reports) = run_with(start, producers);
        Self { feed, reports, workers, rooms, observer, entry, _running: tokio::spawn(running) }
    }

    async fn source(&self, event: SourceEvent) {
        self.feed.events.send(event).await.unwrap();
    }

    async fn media(&self, media: Media) {
        self.source(SourceEvent::Media(media)).await;
    }

    async fn room(&mut self) -> Room {
        let room = self.rooms.recv().await.expect("the room is joined");
        room.events.send(publish::Event::Connected).await.unwrap();
        settle().await;
        room
    }
}

/// Lets the session take in what was sent to it.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

fn mixed(spec: &IngressSpec) -> Producers {
    let encoded = spec.video.encoding.layers[..2].to_vec();
    Producers { encoded, passthrough: true, audio: AudioProducer::Encoder }
}

fn top() -> Vec<Layer> {
    vec![Layer { quality: Quality::High, width: 1280, height: 720, bitrate: 3_000_000 }]
}

fn h264() -> VideoFormat {
    VideoFormat { codec: VideoCodec::H264, parameters: "profile-level-id=42e01f".into(), described: false }
}

/// A published session of which the two lower layers are encoded.
async fn published() -> (Stage, Worker, Room) {
    let mut stage = Stage::new(InputKind::Rtmp, mixed);
    let mut worker = stage.workers.recv().await.expect("the lower layers need a worker");
    stage.media(Media::Announced(SourceTracks { video: true, audio: false })).await;
    stage.media(Media::VideoConfig(VideoConfig::new(VideoCodec::H264, Bytes::new(), None))).await;
    stage.media(Media::Frame(picture(0, true))).await;
    worker.expect(|m| matches!(m, ToWorker::Frame(_))).await;
    worker.say(FromTranscoder::VideoFormat { width: 1280, height: 720, frame_rate: None }).await;
    worker.expect(|m| matches!(m, ToWorker::Layers(l) if l.len() == 2)).await;
    settle().await;
    assert!(stage.rooms.try_recv().is_err(), "the highest layer is not known yet");
    stage.source(SourceEvent::Passthrough(PassthroughMedia::Video(h264(), top()))).await;
    let room = stage.room().await;
    let layers = room.tracks.video.as_ref().map(|track| track.layers.iter().map(|l| l.layer.quality).collect());
    assert_eq!(layers, Some(vec![Quality::Low, Quality::Medium, Quality::High]));
    (stage, worker, room)
}

#[tokio::test(start_paused = true)]
async fn a_mixed_plan_sends_each_layer_from_its_producer() {
    let (mut stage, mut worker, mut room) = published().await;
    stage.media(Media::Frame(picture(40, false))).await;
    worker.expect(|m| matches!(m, ToWorker::Frame(_))).await;
    worker.encoded(0, true).await;
    worker.encoded(1, true).await;
    settle().await;
    let (unit, encoded) = (Bytes::from_static(b"access unit"), Bytes::from_static(b"encoded"));
    assert_eq!(room.given(), [Given::Video(2, unit), Given::Video(0, encoded.clone()), Given::Video(1, encoded)]);
    assert_eq!(stage.reports.recv().await.map(|r| r.status), Some(Status::Buffering));
    assert_eq!(stage.reports.recv().await.map(|r| r.status), Some(Status::Publishing));
}

#[tokio::test(start_paused = true)]
async fn a_mixed_plan_asks_the_producer_of_a_layer() {
    let (mut stage, mut worker, room) = published().await;
    worker.told();
    let wanted = publish::Event::KeyframeRequest { layer: 2 };
    room.events.send(wanted).await.unwrap();
    assert_eq!(stage.feed.keyframes.recv().await, KeyframeRequest { layer: 0 });
    room.events.send(publish::Event::KeyframeRequest { layer: 1 }).await.unwrap();
    room.events.send(publish::Event::LayersWanted(vec![true, false, false])).await.unwrap();
    settle().await;
    let expected = [ToWorker::KeyFrame { layer: 1 }, ToWorker::Wanted { layer: 1, wanted: false }];
    assert_eq!(worker.told(), expected, "the source's layer is none of the worker's business");
    // Who observes the session learns what the worker is asked for, as often as that changes.
    let works: Vec<_> = stage.observer.works().into_iter().map(|work| (work.layers.len(), work.wanted)).collect();
    assert_eq!(works, [(2, vec![true, true]), (2, vec![true, false])]);
}

#[tokio::test(start_paused = true)]
async fn a_mixed_plan_decodes_only_for_its_encoders() {
    let (stage, mut worker, mut room) = published().await;
    room.events.send(publish::Event::LayersWanted(vec![false, false, true])).await.unwrap();
    settle().await;
    tokio::time::advance(Duration::from_secs(3)).await;
    worker.told();
    room.given();
    stage.media(Media::Frame(picture(3_000, true))).await;
    settle().await;
    assert_eq!(worker.told(), [], "only the source's layer is watched");
    assert_eq!(room.given().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_worker_crash_leaves_passthrough_alone() {
    let (mut stage, worker, mut room) = published().await;
    worker.events.send(WorkerMessage::Gone(Gone::Crashed("signal: 9".into()))).await.unwrap();
    let mut second = stage.workers.recv().await.expect("a replacement");
    second.expect(|m| matches!(m, ToWorker::Layers(l) if l.len() == 2)).await;
    stage.media(Media::Frame(picture(40, false))).await;
    settle().await;
    let sent: Vec<_> = room.given().into_iter().filter(|g| matches!(g, Given::Video(2, _))).collect();
    assert_eq!(sent.len(), 1);
}

fn packet(layer: usize) -> Packet {
    Packet {
        kind: Kind::Video,
        layer,
        stream: 1,
        sequence: 1,
        timestamp: 1,
        at: crate::time::now(),
        marker: true,
        key: true,
        level: None,
        orientation: None,
        descriptor: None,
        before: None,
        payload: Arc::from(&b"payload"[..]),
    }
}

#[tokio::test(start_paused = true)]
async fn passthrough_alone_needs_no_worker() {
    let mut stage = Stage::new(InputKind::Whip, Producers::of);
    stage.media(Media::Announced(SourceTracks { video: true, audio: false })).await;
    stage.source(SourceEvent::Passthrough(PassthroughMedia::Expected(h264()))).await;
    stage.source(SourceEvent::Passthrough(PassthroughMedia::Video(h264(), top()))).await;
    let mut room = stage.room().await;
    assert_eq!(room.config.expected, Some(h264()));
    stage.source(SourceEvent::Passthrough(PassthroughMedia::Packets(vec![packet(0), packet(1)]))).await;
    settle().await;
    assert_eq!(room.given(), [Given::Packets(publish::Output::Video(0), 1)], "no output passes layer 1 through");
    assert!(stage.workers.try_recv().is_err());
    // Another codec needs other tracks. The token that the session began with may have expired by then.
    room.events.send(publish::Event::TokenRefreshed { token: Secret::new("second"), moved: false }).await.unwrap();
    settle().await;
    let vp8 = VideoFormat { codec: VideoCodec::Vp8, ..h264() };
    stage.source(SourceEvent::Passthrough(PassthroughMedia::Video(vp8.clone(), top()))).await;
    let second = stage.room().await;
    assert_eq!(second.config.token.expose(), "second");
    assert_eq!(second.tracks.video.map(|t| t.layers[0].format.clone()), Some(vp8));
    assert_eq!(room.given(), [Given::Left]);
}

/// A session whose highest layer of 320x180 is encoded, and published; and a source that fits.
async fn encoded() -> (Stage, Worker, Room) {
    let mut stage = Stage::new(InputKind::Rtmp, Producers::of);
    let mut worker = stage.workers.recv().await.expect("encoders need a worker");
    stage.media(Media::Announced(SourceTracks { video: true, audio: false })).await;
    let sets = ["674d400dd901419f9f0110000003001000000303c0f142a480", "68ebc3cb20"];
    let hex =
        |text: &str| (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect();
    let record = Bytes::from(media::codec_config::avc::record(&sets.map(hex)).unwrap());
    stage.media(Media::VideoConfig(VideoConfig::new(VideoCodec::H264, record, None))).await;
    stage.shows(0, IDR).await;
    worker.expect(|m| matches!(m, ToWorker::Frame(_))).await;
    worker.say(FromTranscoder::VideoFormat { width: 320, height: 180, frame_rate: Some(25.0) }).await;
    worker.expect(|m| matches!(m, ToWorker::Layers(l) if l.len() == 1)).await;
    let room = stage.room().await;
    (stage, worker, room)
}

const IDR: &[u8] = &[0, 0, 0, 3, 0x65, 0x88, 0x84];
const P: &[u8] = &[0, 0, 0, 3, 0x41, 0b1001_1010, 1];
const B: &[u8] = &[0, 0, 0, 3, 0x01, 0b1001_1110, 1];

impl Stage {
    /// Picture number `n` of 25 a second, when it is due.
    async fn shows(&self, n: i64, unit: &'static [u8]) {
        self.media(Media::Frame(Frame { data: Bytes::from_static(unit), ..picture(n * 40, unit == IDR) })).await;
        settle().await;
        tokio::time::sleep(Duration::from_millis(39)).await;
    }

    /// GOPs of 25 pictures, from this number on.
    async fn gops(&self, numbers: std::ops::Range<i64>) {
        for n in numbers {
            self.shows(n, if n % 25 == 0 { IDR } else { P }).await;
        }
    }
}

/// Which layer each picture was sent on, and whether it is the source's own.
fn sent(room: &mut Room) -> Vec<(usize, bool)> {
    let own = |given| match given {
        Given::Video(layer, data) => (layer, data != Bytes::from_static(b"encoded")),
        other => panic!("{other:?}"),
    };
    room.given().into_iter().map(own).collect()
}

#[tokio::test(start_paused = true)]
async fn a_source_that_fits_takes_the_place_of_the_encoder() {
    let (stage, mut worker, mut room) = encoded().await;
    stage.gops(1..25).await;
    worker.encoded(0, true).await;
    settle().await;
    assert_eq!(sent(&mut room), [(0, false)]);
    worker.told();
    stage.gops(25..27).await;
    assert_eq!(sent(&mut room), [(0, true), (0, true)]);
    assert!(worker.told().contains(&ToWorker::Wanted { layer: 0, wanted: false }), "the encoder rests");
    // What was still inside the encoder is of no use.
    worker.encoded_at(0, false, 1_000 + 24 * 40).await;
    settle().await;
    assert_eq!(sent(&mut room), []);
}

#[tokio::test(start_paused = true)]
async fn a_picture_that_does_not_fit_brings_the_encoder_back() {
    let (stage, mut worker, mut room) = encoded().await;
    stage.gops(1..30).await;
    sent(&mut room);
    worker.told();
    stage.shows(30, B).await;
    assert_eq!(sent(&mut room), [], "it is not sent");
    let told = worker.told();
    assert!(told.contains(&ToWorker::Wanted { layer: 0, wanted: true }), "{told:?}");
    // The encoder's first picture is one that was sent already: it makes another key frame.
    worker.encoded_at(0, true, 1_000 + 29 * 40).await;
    settle().await;
    assert_eq!(sent(&mut room), []);
    assert!(worker.told().contains(&ToWorker::KeyFrame { layer: 0 }));
    worker.encoded_at(0, false, 1_000 + 30 * 40).await;
    worker.encoded_at(0, true, 1_000 + 31 * 40).await;
    worker.encoded_at(0, false, 1_000 + 32 * 40).await;
    settle().await;
    assert_eq!(sent(&mut room), [(0, false), (0, false)]);
}

#[tokio::test(start_paused = true)]
async fn a_late_viewer_is_bridged_by_the_encoder() {
    let (stage, mut worker, mut room) = encoded().await;
    stage.gops(1..30).await;
    sent(&mut room);
    worker.told();
    room.events.send(publish::Event::KeyframeRequest { layer: 0 }).await.unwrap();
    stage.gops(30..33).await;
    assert_eq!(sent(&mut room), [], "they wait for the encoder");
    assert!(worker.told().contains(&ToWorker::Wanted { layer: 0, wanted: true }));
    worker.encoded_at(0, true, 1_000 + 31 * 40).await;
    settle().await;
    assert_eq!(sent(&mut room), [(0, true), (0, false)], "those before its key frame are the source's");
    stage.gops(33..34).await;
    assert_eq!(sent(&mut room), []);
    // With the source's next key frame it is the source's again.
    stage.gops(34..51).await;
    assert_eq!(sent(&mut room), [(0, true)]);
}

#[tokio::test(start_paused = true)]
async fn an_encoder_that_is_late_keeps_nobody_waiting() {
    let (stage, mut worker, mut room) = encoded().await;
    stage.gops(1..30).await;
    sent(&mut room);
    room.events.send(publish::Event::KeyframeRequest { layer: 0 }).await.unwrap();
    stage.gops(30..36).await;
    assert_eq!(sent(&mut room).len(), 6, "a fifth of a second later they go on");
    worker.told();
    worker.encoded_at(0, true, 1_000 + 34 * 40).await;
    settle().await;
    assert_eq!(sent(&mut room), [], "it was sent already");
    assert!(worker.told().contains(&ToWorker::KeyFrame { layer: 0 }));
    worker.encoded_at(0, true, 1_000 + 36 * 40).await;
    settle().await;
    assert_eq!(sent(&mut room), [(0, false)]);
}

#[tokio::test(start_paused = true)]
async fn another_source_is_judged_anew() {
    let (stage, mut worker, mut room) = encoded().await;
    stage.gops(1..30).await;
    assert!(!sent(&mut room).is_empty());
    worker.told();
    let (feed, source) = source();
    assert!(stage.entry.tell(Command::TakeOver(source)).is_ok());
    settle().await;
    assert!(worker.told().contains(&ToWorker::Wanted { layer: 0, wanted: true }), "an encoder makes it until then");
    let frame = Frame { data: Bytes::from_static(P), ..picture(0, false) };
    feed.events.send(SourceEvent::Media(Media::Frame(frame))).await.unwrap();
    settle().await;
    assert_eq!(sent(&mut room), [], "it begins in the middle of a GOP");
}

#[tokio::test(start_paused = true)]
async fn a_source_that_stalls_is_shown_by_the_encoder() {
    let (stage, mut worker, mut room) = encoded().await;
    worker.encoded(0, true).await;
    stage.gops(1..30).await;
    sent(&mut room);
    worker.told();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let told = worker.told();
    assert!(told.contains(&ToWorker::Wanted { layer: 0, wanted: true }), "{told:?}");
    assert!(told.iter().any(|command| matches!(command, ToWorker::Repeat(_))), "{told:?}");
}
