//! A session with a mixed plan: the lower layers are encoded, the highest is the source's.

use super::*;
use crate::layers::plan::AudioProducer;
use crate::registry::Registry;
use crate::testing::{Given, Observed, Participants, Room, Worker, Workers, ids, picture, spec};
use crate::workers::{FromWorker as WorkerMessage, Gone};
use crate::{KeyframeRequest, SourceFeed, source};
use bytes::Bytes;
use ipc::transcode::{Command as ToWorker, Event as FromTranscoder};
use model::{InputKind, Kind, Layer, Media, Packet, PassthroughMedia, Quality, VideoCodec, VideoConfig, VideoFormat};
use std::time::Duration;

struct Stage {
    feed: SourceFeed,
    reports: mpsc::Receiver<Report>,
    workers: mpsc::UnboundedReceiver<Worker>,
    rooms: mpsc::UnboundedReceiver<Room>,
    observer: Observed,
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
            loopback: false,
            source,
            participants,
            workers: factory,
            observer: Arc::new(observer.clone()),
        };
        let (running, reports) = run_with(start, producers);
        Self { feed, reports, workers, rooms, observer, _running: tokio::spawn(running) }
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
