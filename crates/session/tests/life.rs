//! Whole sessions on virtual time, with a scripted worker and a participant that takes notes.

use bytes::Bytes;
use ipc::Transcode;
use ipc::demux;
use ipc::transcode::{Command as ToWorker, Event as FromTranscoder, Job};
use model::*;
use publish::{AudioTrack, Event, Output, RenewToken, Tracks, VideoTrack};
use session::lifecycle::Stop;
use session::participant::{Participant, ParticipantFactory};
use session::registry::{Command, Registry};
use session::workers::{FromWorker, Gone, Worker, Workers};
use session::*;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc;

/// The other ends of everything a session holds.
struct Stage {
    registry: Registry,
    feed: SourceFeed,
    reports: mpsc::Receiver<Report>,
    workers: mpsc::UnboundedReceiver<WorkerEnd>,
    rooms: mpsc::UnboundedReceiver<RoomEnd>,
    running: tokio::task::JoinHandle<()>,
    restarts: Arc<Mutex<u32>>,
    /// So many of the next workers can't be started.
    failing: Arc<Mutex<u32>>,
}

struct WorkerEnd {
    job: Job,
    told: mpsc::Receiver<ToWorker>,
    says: mpsc::Sender<FromWorker<FromTranscoder>>,
}

#[derive(Debug, PartialEq)]
enum Sent {
    Video { layer: usize, key: bool },
    Audio,
    Packets(usize),
    AddAudio,
    AddVideo,
    Resized(Vec<(u32, u32)>),
    Left,
}

struct RoomEnd {
    config: publish::Config,
    tracks: Tracks,
    says: mpsc::Sender<Event>,
    got: mpsc::UnboundedReceiver<Sent>,
}

/// Starts workers, but for the next so many.
struct FakeWorkers(mpsc::UnboundedSender<WorkerEnd>, Arc<Mutex<u32>>);

impl Workers for FakeWorkers {
    fn transcode(&self, job: Job) -> io::Result<Worker<Transcode>> {
        let mut failing = self.1.lock().unwrap();
        if *failing > 0 {
            *failing -= 1;
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let (to, told) = mpsc::channel(64);
        let (says, from) = mpsc::channel(64);
        self.0.send(WorkerEnd { job, told, says }).map_err(io::Error::other)?;
        Ok(Worker::from_channels(to, from))
    }

    fn demux(&self, _: demux::Job) -> io::Result<Worker<ipc::Demux>> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

fn sizes(layers: &[Layer]) -> Vec<(u32, u32)> {
    layers.iter().map(|l| (l.width, l.height)).collect()
}

struct FakeParticipant(mpsc::UnboundedSender<Sent>);

impl Participant for FakeParticipant {
    fn add_video(&self, _: VideoTrack) {
        let _ = self.0.send(Sent::AddVideo);
    }
    fn add_audio(&self, _: AudioTrack) {
        let _ = self.0.send(Sent::AddAudio);
    }
    fn send(&self, output: Output, media: publish::Media) -> bool {
        let sent = match (output, media) {
            (Output::Video(layer), publish::Media::AccessUnit(unit)) => Sent::Video { layer, key: unit.key },
            (Output::Audio, publish::Media::AccessUnit(_)) => Sent::Audio,
            (_, publish::Media::Packets(packets)) => Sent::Packets(packets.len()),
        };
        self.0.send(sent).is_ok()
    }
    fn restarted(&self) {}
    fn resized(&self, layers: Vec<Layer>) {
        let _ = self.0.send(Sent::Resized(sizes(&layers)));
    }
    fn set_attributes(&self, _: Vec<(String, String)>) {}
    fn leave(self: Box<Self>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            let _ = self.0.send(Sent::Left);
        })
    }
}

struct FakeParticipants(mpsc::UnboundedSender<RoomEnd>);

impl ParticipantFactory for FakeParticipants {
    fn join(&self, config: publish::Config, tracks: Tracks) -> (Box<dyn Participant>, mpsc::Receiver<Event>) {
        let (says, events) = mpsc::channel(64);
        let (note, got) = mpsc::unbounded_channel();
        let _ = self.0.send(RoomEnd { config, tracks, says, got });
        (Box::new(FakeParticipant(note)), events)
    }

    fn server_facts(&self, _: &str) -> session::participant::Facts {
        tokio::sync::watch::channel(None).1
    }
}

struct FakeObserver(Arc<Notes>);

impl SessionObserver for FakeObserver {
    fn begin(&self, session: &SessionIds) -> Arc<dyn Observer> {
        let (ingress_id, resource_id) = (IngressId("IN_1".into()), ResourceId("RT_1".into()));
        assert_eq!(*session, SessionIds { ingress_id, resource_id, input: InputKind::Rtmp });
        self.0.clone()
    }
}

struct Notes(Arc<Mutex<u32>>);

impl Observer for Notes {
    fn latency(&self, _: Option<Quality>, _: Duration) {}
    fn transcoder_restarted(&self) {
        *self.0.lock().unwrap() += 1;
    }
    fn dropped(&self, _: u64) {}
    fn stalled(&self, _: bool) {}
    fn top_layer(&self, _: TopLayer) {}
    fn works(&self, _: Work) {}
}

fn spec() -> IngressSpec {
    IngressSpec {
        ingress_id: IngressId("IN_1".into()),
        name: "n".into(),
        stream_key: Secret::new("key"),
        url: Secret::default(),
        input: InputKind::Rtmp,
        room: "room".into(),
        identity: "id".into(),
        participant_name: String::new(),
        metadata: String::new(),
        transcode: true,
        enabled: true,
        audio: AudioSpec {
            name: "audio".into(),
            source: TrackSource::Microphone,
            encoding: AudioPreset::OpusStereo96k.encoding(),
        },
        video: VideoSpec {
            name: "video".into(),
            source: TrackSource::Camera,
            encoding: VideoPreset::H264_720p30Layers3.encoding(),
        },
    }
}

impl Stage {
    fn new() -> Self {
        let registry = Registry::default();
        let slot = registry
            .enter(
                IngressId("IN_1".into()),
                ResourceId("RT_1".into()),
                InputKind::Rtmp,
                true,
                std::time::SystemTime::now(),
            )
            .unwrap();
        let (feed, source) = source();
        let (workers_tx, workers) = mpsc::unbounded_channel();
        let (rooms_tx, rooms) = mpsc::unbounded_channel();
        let restarts = Arc::new(Mutex::new(0));
        let failing = Arc::<Mutex<u32>>::default();
        let (running, reports) = run(Start {
            slot,
            spec: spec(),
            ws_url: "ws://sfu".into(),
            token: Secret::new("token"),
            renew: RenewToken::same(Secret::new("token")),
            stall_timeout: session::lifecycle::STALL_TIMEOUT,
            passthrough: Passthrough::default(),
            loopback: false,
            source,
            participants: Arc::new(FakeParticipants(rooms_tx)),
            workers: Arc::new(FakeWorkers(workers_tx, failing.clone())),
            observer: Arc::new(FakeObserver(Arc::new(Notes(restarts.clone())))),
        });
        Self { registry, feed, reports, workers, rooms, running: tokio::spawn(running), restarts, failing }
    }

    async fn media(&self, media: Media) {
        self.feed.events.send(SourceEvent::Media(media)).await.unwrap();
    }

    async fn frame(&self, at_ms: i64, key: bool) {
        let at = MediaTime::from_millis(at_ms);
        self.media(Media::Frame(Frame {
            kind: Kind::Video,
            pts: at,
            dts: at,
            key,
            data: Bytes::from_static(b"picture"),
        }))
        .await;
    }

    async fn report(&mut self) -> Report {
        self.reports.recv().await.expect("a report")
    }

    async fn worker(&mut self) -> WorkerEnd {
        self.workers.recv().await.expect("a transcoder is taken")
    }

    /// Brings a video-only session to PUBLISHING.
    async fn publish(&mut self) -> (WorkerEnd, RoomEnd) {
        assert_eq!(self.report().await.status, Status::Buffering);
        let mut worker = self.worker().await;
        self.media(Media::Announced(SourceTracks { video: true, audio: false })).await;
        self.media(Media::VideoConfig(video_config())).await;
        self.frame(0, true).await;
        worker.expect(|m| matches!(m, ToWorker::VideoConfig(_))).await;
        worker.expect(|m| matches!(m, ToWorker::Frame(_))).await;
        worker.say(FromTranscoder::VideoFormat { width: 1280, height: 720, frame_rate: Some(30.0) }).await;
        worker.expect(|m| matches!(m, ToWorker::Layers(l) if l.len() == 3)).await;
        let room = self.rooms.recv().await.expect("a room is joined");
        room.says.send(Event::Joined { room_sid: "RM_1".into(), participant_sid: "PA_1".into() }).await.unwrap();
        room.says.send(Event::Connected).await.unwrap();
        // The participant's events are looked at first, so this picture finds it connected.
        tokio::task::yield_now().await;
        worker.picture(0, true).await;
        let report = self.report().await;
        assert_eq!((report.status, report.room_id.as_str()), (Status::Publishing, "RM_1"));
        assert_eq!(
            report.video.as_ref().map(|v| (v.mime.as_str(), v.width, v.height)),
            Some(("video/H264", 1280, 720))
        );
        (worker, room)
    }

    /// The statuses still to come, once the session is over.
    async fn rest(mut self) -> Vec<(Status, String)> {
        self.running.await.unwrap();
        assert!(self.registry.is_empty(), "the slot is given up");
        let mut rest = Vec::new();
        while let Some(report) = self.reports.recv().await {
            rest.push((report.status, report.error));
        }
        rest
    }
}

impl WorkerEnd {
    async fn expect(&mut self, what: impl Fn(&ToWorker) -> bool) -> ToWorker {
        loop {
            let message = self.told.recv().await.expect("the session talks to its transcoder");
            if what(&message) {
                return message;
            }
        }
    }

    async fn say(&self, message: FromTranscoder) {
        self.says.send(FromWorker::Event(message)).await.unwrap();
    }

    async fn picture(&self, layer: u8, key: bool) {
        let pts = MediaTime::from_millis(1_000);
        self.say(FromTranscoder::AccessUnit { layer, pts, key, data: Bytes::from_static(b"coded") }).await;
    }
}

fn video_config() -> VideoConfig {
    VideoConfig::new(VideoCodec::H264, Bytes::from_static(b"avcC"), None)
}

#[tokio::test(start_paused = true)]
async fn a_push_is_seen_and_ends() {
    let mut stage = Stage::new();
    let (mut worker, mut room) = stage.publish().await;
    assert_eq!(worker.job.max_frame_rate, 30.0);
    assert_eq!(room.config.attributes, [("ingress.resourceID".to_owned(), "RT_1".to_owned())]);
    assert_eq!(room.tracks.video.as_ref().map(|t| (t.cid.as_str(), t.layers.len())), Some(("IN_1", 3)));
    assert!(room.tracks.audio.is_none());
    assert_eq!(room.got.recv().await, Some(Sent::Video { layer: 0, key: true }));

    room.says.send(Event::KeyframeRequest { layer: 2 }).await.unwrap();
    worker.expect(|m| *m == ToWorker::KeyFrame { layer: 2 }).await;
    room.says.send(Event::LayersWanted(vec![true, true, false])).await.unwrap();
    worker.expect(|m| *m == ToWorker::Wanted { layer: 2, wanted: false }).await;

    stage.feed.events.send(SourceEvent::Ended(SourceEnd::Finished)).await.unwrap();
    worker.expect(|m| *m == ToWorker::Finish).await;
    worker.picture(0, false).await;
    worker.say(FromTranscoder::Finished).await;
    assert_eq!(room.got.recv().await, Some(Sent::Video { layer: 0, key: false }), "what was inside is still shown");
    assert_eq!(room.got.recv().await, Some(Sent::Left));
    assert_eq!(stage.rest().await, [(Status::Inactive, String::new())]);
}

#[tokio::test(start_paused = true)]
async fn audio_that_comes_late_is_added() {
    let mut stage = Stage::new();
    let (mut worker, mut room) = stage.publish().await;
    stage
        .media(Media::AudioConfig(AudioConfig {
            codec: AudioCodec::Aac,
            record: Bytes::new(),
            sample_rate: None,
            channels: None,
        }))
        .await;
    worker.expect(|m| matches!(m, ToWorker::AudioConfig(_))).await;
    worker.say(FromTranscoder::AudioFormat { sample_rate: 44_100, channels: 2 }).await;
    let report = stage.report().await;
    assert_eq!(report.status, Status::Publishing);
    assert_eq!(report.audio.map(|a| (a.mime, a.sample_rate)), Some(("audio/aac".to_owned(), 44_100)));
    room.got.recv().await;
    assert_eq!(room.got.recv().await, Some(Sent::AddAudio));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_decoded_that_nobody_watches() {
    let mut stage = Stage::new();
    let (mut worker, room) = stage.publish().await;
    room.says.send(Event::LayersWanted(vec![false; 3])).await.unwrap();
    worker.expect(|m| *m == ToWorker::Wanted { layer: 2, wanted: false }).await;
    tokio::time::advance(Duration::from_secs(3)).await;
    for n in 0..5 {
        stage.frame(3_000 + n * 40, n == 1).await;
    }
    tokio::time::sleep(Duration::from_millis(1)).await;
    room.says.send(Event::LayersWanted(vec![true, false, false])).await.unwrap();
    let next = worker.told.recv().await;
    assert_eq!(next, Some(ToWorker::Wanted { layer: 0, wanted: true }), "no picture before somebody watches");
    let newest = worker.expect(|m| matches!(m, ToWorker::ShowFrom(..))).await;
    let mut pictures = Vec::new();
    for _ in 0..4 {
        let ToWorker::Frame(frame) = worker.told.recv().await.unwrap() else { panic!("a picture") };
        pictures.push(frame);
    }
    assert!(pictures[0].key && pictures[1..].iter().all(|f| !f.key));
    assert_eq!(newest, ToWorker::ShowFrom(Kind::Video, pictures[3].pts), "only the newest is shown");
}

#[tokio::test(start_paused = true)]
async fn a_crash_keeps_the_room_and_the_encoder() {
    let mut stage = Stage::new();
    let (mut first, room) = stage.publish().await;
    room.says.send(Event::LayersWanted(vec![false, true, true])).await.unwrap();
    first.expect(|m| matches!(m, ToWorker::Wanted { .. })).await;
    stage.frame(40, false).await;
    stage.frame(80, false).await;
    first.expect(|m| matches!(m, ToWorker::Frame(f) if f.pts.as_millis() == 1_080)).await;
    first.says.send(FromWorker::Gone(Gone::Crashed("signal: 9 (SIGKILL)".into()))).await.unwrap();

    let mut second = stage.worker().await;
    assert_eq!(*stage.restarts.lock().unwrap(), 1);
    // Everything the new one needs, in the order in which it needs it.
    assert!(matches!(second.told.recv().await, Some(ToWorker::VideoConfig(_))));
    assert!(matches!(second.told.recv().await, Some(ToWorker::Layers(l)) if l.len() == 3));
    assert_eq!(second.told.recv().await, Some(ToWorker::Wanted { layer: 0, wanted: false }));
    assert_eq!(second.told.recv().await, Some(ToWorker::ShowFrom(Kind::Video, MediaTime::from_millis(1_080))));
    for ms in [1_000, 1_040, 1_080] {
        assert!(matches!(second.told.recv().await, Some(ToWorker::Frame(f)) if f.pts.as_millis() == ms));
    }
    second.say(FromTranscoder::VideoFormat { width: 1280, height: 720, frame_rate: Some(30.0) }).await;
    second.picture(1, true).await;
    assert!(stage.rooms.try_recv().is_err(), "nothing is joined again");
    assert!(stage.reports.try_recv().is_err(), "the state stays PUBLISHING");
    assert!(!stage.running.is_finished());
}

/// The next layers that a worker is told of.
async fn layers(worker: &mut WorkerEnd) -> Vec<(u32, u32)> {
    match worker.expect(|m| matches!(m, ToWorker::Layers(_))).await {
        ToWorker::Layers(layers) => sizes(&layers),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn layers_follow_the_size_of_the_source() {
    let mut stage = Stage::new();
    let (mut worker, mut room) = stage.publish().await;
    let size = |width, height| FromTranscoder::VideoFormat { width, height, frame_rate: Some(30.0) };
    assert_eq!(room.got.recv().await, Some(Sent::Video { layer: 0, key: true }));
    let began = tokio::time::Instant::now();
    worker.say(size(640, 360)).await;
    let smaller = vec![(320, 180), (640, 360), (640, 360)];
    assert_eq!(layers(&mut worker).await, smaller);
    assert_eq!(began.elapsed().as_secs(), 10, "a sender that goes up and down is not followed");
    assert_eq!(room.got.recv().await, Some(Sent::Resized(smaller.clone())));
    // A new worker is told what is so now.
    worker.says.send(FromWorker::Gone(Gone::Crashed("signal: 9 (SIGKILL)".into()))).await.unwrap();
    worker = stage.worker().await;
    assert_eq!(layers(&mut worker).await, smaller);
    worker.say(size(1280, 720)).await;
    let larger = vec![(320, 180), (640, 360), (1280, 720)];
    assert_eq!(layers(&mut worker).await, larger);
    assert!(began.elapsed().as_secs() < 11, "at once");
    assert_eq!(room.got.recv().await, Some(Sent::Resized(larger)));
    assert_eq!(room.tracks.video.as_ref().map(|t| t.layers.len()), Some(3));
    assert!(stage.rooms.try_recv().is_err(), "nothing is joined again");
}

#[tokio::test(start_paused = true)]
async fn the_last_picture_is_repeated_while_watched() {
    let mut stage = Stage::new();
    let (mut worker, room) = stage.publish().await;
    stage.frame(40, false).await;
    worker.expect(|m| matches!(m, ToWorker::Frame(_))).await;
    assert_eq!(worker.told.recv().await, Some(ToWorker::Repeat(MediaTime::from_millis(1_340))));
    assert_eq!(worker.told.recv().await, Some(ToWorker::Repeat(MediaTime::from_millis(1_740))));
    // A new worker does not show what is older than that.
    worker.says.send(FromWorker::Gone(Gone::Crashed("signal: 9 (SIGKILL)".into()))).await.unwrap();
    worker = stage.worker().await;
    worker.expect(|m| *m == ToWorker::ShowFrom(Kind::Video, MediaTime::from_millis(1_740))).await;
    room.says.send(Event::LayersWanted(vec![false, false, false])).await.unwrap();
    worker.expect(|m| *m == ToWorker::Wanted { layer: 2, wanted: false }).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(worker.told.try_recv().is_err(), "nobody would see it");
}

#[tokio::test(start_paused = true)]
async fn three_crashes_end_the_session() {
    let mut stage = Stage::new();
    let (mut worker, room) = stage.publish().await;
    for _ in 0..2 {
        worker.says.send(FromWorker::Gone(Gone::Crashed("signal: 11".into()))).await.unwrap();
        worker = stage.worker().await;
    }
    worker.says.send(FromWorker::Gone(Gone::Crashed("signal: 11".into()))).await.unwrap();
    let fault = (&mut stage.feed.stopped).await.unwrap().expect("the encoder is told");
    assert!(fault.text.contains("crashed 3 times"), "{fault}");
    drop(room);
    assert_eq!(stage.rest().await, [(Status::Error, fault.text)]);
}

#[tokio::test(start_paused = true)]
async fn a_picture_that_kills_decoders_goes_to_no_third() {
    let mut stage = Stage::new();
    let (first, _room) = stage.publish().await;
    stage.frame(40, false).await;
    first.says.send(FromWorker::Gone(Gone::Crashed("signal: 11".into()))).await.unwrap();
    let mut second = stage.worker().await;
    second.expect(|m| matches!(m, ToWorker::Frame(f) if f.pts.as_millis() == 1_040)).await;
    second.says.send(FromWorker::Gone(Gone::Crashed("signal: 11".into()))).await.unwrap();
    let mut third = stage.worker().await;
    stage.frame(80, false).await;
    stage.frame(120, true).await;
    stage.frame(160, false).await;
    let next = third.expect(|m| matches!(m, ToWorker::Frame(_))).await;
    assert!(matches!(next, ToWorker::Frame(f) if f.key), "it starts with the next key frame");
    // Which is worth to be given to another again.
    third.expect(|m| matches!(m, ToWorker::Frame(_))).await;
    assert!(!stage.running.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_full_worker_holds_the_source_half_a_second() {
    let mut stage = Stage::new();
    let (worker, _room) = stage.publish().await;
    let begin = tokio::time::Instant::now();
    for i in 1..300 {
        stage.frame(i * 40, false).await;
    }
    let waited = begin.elapsed();
    assert!((Duration::from_millis(400)..Duration::from_secs(1)).contains(&waited), "{waited:?}");
    drop(worker);
}

#[tokio::test(start_paused = true)]
async fn an_encoder_that_comes_back_takes_over() {
    let mut stage = Stage::new();
    let (mut worker, room) = stage.publish().await;
    let entry = stage.registry.list().remove(0);
    let (feed, second) = source();
    entry.tell(Command::TakeOver(second)).unwrap();
    let old = std::mem::replace(&mut stage.feed, feed);
    let fault = old.stopped.await.unwrap().expect("the first encoder is told");
    assert!(fault.text.contains("another encoder"), "{fault}");
    // Its clock starts again; pictures before its key frame are of no use.
    stage.media(Media::VideoConfig(video_config())).await;
    stage.frame(0, false).await;
    stage.frame(40, true).await;
    worker.expect(|m| matches!(m, ToWorker::VideoConfig(_))).await;
    let Some(ToWorker::Frame(frame)) = worker.told.recv().await else { panic!("a picture") };
    assert!(frame.key && frame.dts.as_millis() >= 1_000, "{frame:?}");
    assert!(stage.rooms.try_recv().is_err(), "the participant stays");
    assert!(stage.reports.try_recv().is_err(), "the state stays");
    drop(room);
}

#[tokio::test(start_paused = true)]
async fn a_deleted_ingress_reports_no_more() {
    let mut stage = Stage::new();
    let (_worker, mut room) = stage.publish().await;
    stage.registry.list()[0].tell(Command::Stop(Stop::Deleted)).unwrap();
    assert!((&mut stage.feed.stopped).await.unwrap().is_some());
    room.got.recv().await;
    assert_eq!(room.got.recv().await, Some(Sent::Left));
    assert_eq!(stage.rest().await, []);
}

#[tokio::test(start_paused = true)]
async fn a_closed_room_ends_the_session_with_its_text() {
    let mut stage = Stage::new();
    let (_worker, room) = stage.publish().await;
    let fault = Fault::new(Blame::Room, "room disconnected: the room was deleted");
    room.says.send(Event::Closed(fault.clone())).await.unwrap();
    assert_eq!((&mut stage.feed.stopped).await.unwrap(), Some(fault.clone()));
    assert_eq!(stage.rest().await, [(Status::Error, fault.text)]);
}

#[tokio::test(start_paused = true)]
async fn a_full_worker_costs_frames_not_memory() {
    let mut stage = Stage::new();
    let (mut worker, _room) = stage.publish().await;
    for i in 1..200 {
        stage.frame(i * 40, i == 150).await;
    }
    let mut pictures = Vec::new();
    while let Ok(message) = worker.told.try_recv() {
        if let ToWorker::Frame(f) = message {
            pictures.push(f.dts.as_millis());
        }
    }
    assert!(pictures.len() <= 64, "the queue is bounded");
    stage.frame(200 * 40, false).await;
    stage.frame(201 * 40, true).await;
    let next = worker.expect(|m| matches!(m, ToWorker::Frame(_))).await;
    assert!(matches!(next, ToWorker::Frame(f) if f.key), "it goes on with a key frame");
}

#[tokio::test(start_paused = true)]
async fn requests_reach_a_worker_whose_queue_was_full() {
    let mut stage = Stage::new();
    let (mut worker, room) = stage.publish().await;
    for i in 1..100 {
        stage.frame(i * 40, false).await;
    }
    for _ in 0..10 {
        for layer in [0, 2] {
            room.says.send(Event::KeyframeRequest { layer }).await.unwrap();
        }
        room.says.send(Event::LayersWanted(vec![true, true, false])).await.unwrap();
        room.says.send(Event::LayersWanted(vec![true, false, false])).await.unwrap();
    }
    stage.media(Media::VideoConfig(VideoConfig { record: Bytes::from_static(b"other"), ..video_config() })).await;
    stage.frame(4_000, true).await;
    stage.feed.events.send(SourceEvent::Ended(SourceEnd::Finished)).await.unwrap();
    // Long enough for the source to be read behind a full queue, and short of what draining may take.
    tokio::time::sleep(Duration::from_millis(900)).await;
    let mut told = Vec::new();
    while told.last() != Some(&ToWorker::Finish) {
        told.push(worker.told.recv().await.expect("the end is told"));
    }
    told.retain(|m| !matches!(m, ToWorker::Frame(_)));
    let at = |what: &ToWorker| told.iter().filter(|m| *m == what).count();
    // One took the last capacity of the queue, one stands for all that found none.
    assert_eq!((at(&ToWorker::KeyFrame { layer: 0 }), at(&ToWorker::KeyFrame { layer: 2 })), (2, 2), "{told:?}");
    assert_eq!(at(&ToWorker::Wanted { layer: 1, wanted: false }), 1, "{told:?}");
    assert_eq!(at(&ToWorker::Wanted { layer: 2, wanted: false }), 1, "{told:?}");
    assert!(matches!(&told[..], [.., ToWorker::VideoConfig(c), ToWorker::Finish] if c.record == "other"), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn late_audio_bounds_no_video() {
    let mut stage = Stage::new();
    let (mut worker, _room) = stage.publish().await;
    let audio = async |stage: &Stage, at_ms| {
        let at = MediaTime::from_millis(at_ms);
        let data = Bytes::from_static(b"audio");
        stage.media(Media::Frame(Frame { kind: Kind::Audio, pts: at, dts: at, key: true, data })).await;
    };
    audio(&stage, 0).await;
    worker.expect(|m| matches!(m, ToWorker::Frame(f) if f.kind == Kind::Audio)).await;
    tokio::time::advance(Duration::from_millis(900)).await;
    stage.frame(900, false).await;
    audio(&stage, 40).await;
    let bound = worker.expect(|m| matches!(m, ToWorker::ShowFrom(..))).await;
    assert!(matches!(bound, ToWorker::ShowFrom(Kind::Audio, at) if at.as_millis() == 1_500), "{bound:?}");
    worker.expect(|m| matches!(m, ToWorker::Frame(f) if f.kind == Kind::Audio)).await;
    assert!(worker.told.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn old_audio_lets_no_old_pictures_through() {
    let mut stage = Stage::new();
    let (mut worker, room) = stage.publish().await;
    let at = MediaTime::from_millis(10);
    let data = Bytes::from_static(b"audio");
    // The only packet of audio.
    stage.media(Media::Frame(Frame { kind: Kind::Audio, pts: at, dts: at, key: true, data })).await;
    room.says.send(Event::LayersWanted(vec![false; 3])).await.unwrap();
    worker.expect(|m| *m == ToWorker::Wanted { layer: 2, wanted: false }).await;
    tokio::time::advance(Duration::from_secs(3)).await;
    for n in 0..3 {
        stage.frame(3_000 + n * 40, n == 0).await;
    }
    tokio::time::sleep(Duration::from_millis(1)).await;
    room.says.send(Event::LayersWanted(vec![true; 3])).await.unwrap();
    let bound = worker.expect(|m| matches!(m, ToWorker::ShowFrom(..))).await;
    assert_eq!(bound, ToWorker::ShowFrom(Kind::Video, MediaTime::from_millis(4_080)));
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_cannot_start_is_waited_for() {
    let mut stage = Stage::new();
    let (first, _room) = stage.publish().await;
    *stage.failing.lock().unwrap() = 3;
    let begin = tokio::time::Instant::now();
    first.says.send(FromWorker::Gone(Gone::Crashed("signal: 9 (SIGKILL)".into()))).await.unwrap();
    let mut second = stage.worker().await;
    assert_eq!(begin.elapsed(), Duration::from_millis(250 + 500 + 1_000));
    second.expect(|m| matches!(m, ToWorker::VideoConfig(_))).await;
    second.expect(|m| matches!(m, ToWorker::Frame(f) if f.key)).await;
    assert_eq!(*stage.restarts.lock().unwrap(), 1, "one crash");
    // One that goes away before it is ready is no crash of this stream, either.
    drop(second);
    for wait in [0, 250, 500, 1_000, 2_000, 4_000] {
        let begin = tokio::time::Instant::now();
        let worker = stage.workers.recv().await.expect("another");
        assert_eq!(begin.elapsed(), Duration::from_millis(wait));
        worker.says.send(FromWorker::Gone(Gone::NotStarted("exit status: 127".into()))).await.unwrap();
    }
    let fault = (&mut stage.feed.stopped).await.unwrap().expect("the encoder is told");
    assert!(fault.text.contains("6 attempts (exit status: 127)"), "{fault}");
    // Its encoder, which is not fed in this test, is missed meanwhile.
    let missed = (Status::Publishing, "video has stopped: nothing has come for some seconds".to_owned());
    assert_eq!(stage.rest().await, [missed, (Status::Error, fault.text)]);
}

#[tokio::test(start_paused = true)]
async fn changes_are_reported_once_a_second() {
    let mut stage = Stage::new();
    let (worker, _room) = stage.publish().await;
    let begin = tokio::time::Instant::now();
    for i in 1..=50 {
        worker.say(FromTranscoder::VideoFormat { width: 2 * i, height: 2 * i, frame_rate: None }).await;
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
    let (mut reports, mut width) = (0, 0);
    while width != 100 {
        width = stage.report().await.video.map_or(0, |v| v.width);
        reports += 1;
    }
    assert_eq!((reports, begin.elapsed().as_secs()), (3, 2), "at once, after a second, and the last");
}
