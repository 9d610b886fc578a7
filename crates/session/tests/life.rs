//! Whole sessions on virtual time, with a scripted transcoder and a room that takes notes.

use bytes::Bytes;
use ipc::Transcode;
use ipc::demux;
use ipc::transcode::{Command as ToWorker, Event as FromTranscoder, Job};
use model::*;
use publish::{AudioTrack, Event, Output, Tracks, VideoTrack};
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
    children: mpsc::UnboundedReceiver<ChildEnd>,
    rooms: mpsc::UnboundedReceiver<RoomEnd>,
    running: tokio::task::JoinHandle<()>,
    restarts: Arc<Mutex<u32>>,
    /// So many of the next children can't be started.
    failing: Arc<Mutex<u32>>,
}

struct ChildEnd {
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

/// Starts children, but for the next so many.
struct FakeWorkers(mpsc::UnboundedSender<ChildEnd>, Arc<Mutex<u32>>);

impl Workers for FakeWorkers {
    fn transcode(&self, job: Job) -> io::Result<Worker<Transcode>> {
        let mut failing = self.1.lock().unwrap();
        if *failing > 0 {
            *failing -= 1;
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let (to, told) = mpsc::channel(64);
        let (says, from) = mpsc::channel(64);
        self.0.send(ChildEnd { job, told, says }).map_err(io::Error::other)?;
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

    fn accepted_codecs(&self, _: &str) -> session::participant::AcceptedCodecs {
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
            name: "sound".into(),
            source: TrackSource::Microphone,
            encoding: AudioPreset::OpusStereo96k.encoding(),
        },
        video: VideoSpec {
            name: "picture".into(),
            source: TrackSource::Camera,
            encoding: VideoPreset::H264_720p30Layers3.encoding(),
        },
    }
}

impl Stage {
    fn new() -> Self {
        let registry = Registry::default();
        let slot = registry.enter(IngressId("IN_1".into()), ResourceId("RT_1".into()), InputKind::Rtmp, true).unwrap();
        let (feed, source) = source();
        let (children_tx, children) = mpsc::unbounded_channel();
        let (rooms_tx, rooms) = mpsc::unbounded_channel();
        let restarts = Arc::new(Mutex::new(0));
        let failing = Arc::<Mutex<u32>>::default();
        let (running, reports) = run(Start {
            slot,
            spec: spec(),
            ws_url: "ws://sfu".into(),
            token: Secret::new("token"),
            loopback: false,
            source,
            participants: Arc::new(FakeParticipants(rooms_tx)),
            workers: Arc::new(FakeWorkers(children_tx, failing.clone())),
            observer: Arc::new(FakeObserver(Arc::new(Notes(restarts.clone())))),
        });
        Self { registry, feed, reports, children, rooms, running: tokio::spawn(running), restarts, failing }
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

    async fn child(&mut self) -> ChildEnd {
        self.children.recv().await.expect("a transcoder is taken")
    }

    /// Brings a video-only session to PUBLISHING.
    async fn publish(&mut self) -> (ChildEnd, RoomEnd) {
        assert_eq!(self.report().await.status, Status::Buffering);
        let mut child = self.child().await;
        self.media(Media::Announced(SourceTracks { video: true, audio: false })).await;
        self.media(Media::VideoConfig(video_config())).await;
        self.frame(0, true).await;
        child.expect(|m| matches!(m, ToWorker::VideoConfig(_))).await;
        child.expect(|m| matches!(m, ToWorker::Frame(_))).await;
        child.say(FromTranscoder::VideoFormat { width: 1280, height: 720, frame_rate: Some(30.0) }).await;
        child.expect(|m| matches!(m, ToWorker::Layers(l) if l.len() == 3)).await;
        let room = self.rooms.recv().await.expect("a room is joined");
        room.says.send(Event::Joined { room_sid: "RM_1".into(), participant_sid: "PA_1".into() }).await.unwrap();
        room.says.send(Event::Connected).await.unwrap();
        // The room's events are looked at first, so this picture finds it connected.
        tokio::task::yield_now().await;
        child.picture(0, true).await;
        let report = self.report().await;
        assert_eq!((report.status, report.room_id.as_str()), (Status::Publishing, "RM_1"));
        assert_eq!(
            report.video.as_ref().map(|v| (v.mime.as_str(), v.width, v.height)),
            Some(("video/H264", 1280, 720))
        );
        (child, room)
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

impl ChildEnd {
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
    let (mut child, mut room) = stage.publish().await;
    assert_eq!(child.job.max_frame_rate, 30.0);
    assert_eq!(room.config.attributes, [("ingress.resourceID".to_owned(), "RT_1".to_owned())]);
    assert_eq!(room.tracks.video.as_ref().map(|t| (t.cid.as_str(), t.layers.len())), Some(("IN_1", 3)));
    assert!(room.tracks.audio.is_none());
    assert_eq!(room.got.recv().await, Some(Sent::Video { layer: 0, key: true }));

    room.says.send(Event::KeyFrameWanted { layer: 2 }).await.unwrap();
    child.expect(|m| *m == ToWorker::KeyFrame { layer: 2 }).await;
    room.says.send(Event::LayersWanted(vec![true, true, false])).await.unwrap();
    child.expect(|m| *m == ToWorker::Wanted { layer: 2, wanted: false }).await;

    stage.feed.events.send(SourceEvent::Ended(SourceEnd::Finished)).await.unwrap();
    child.expect(|m| *m == ToWorker::Finish).await;
    child.picture(0, false).await;
    child.say(FromTranscoder::Finished).await;
    assert_eq!(room.got.recv().await, Some(Sent::Video { layer: 0, key: false }), "what was inside is still shown");
    assert_eq!(room.got.recv().await, Some(Sent::Left));
    assert_eq!(stage.rest().await, [(Status::Inactive, String::new())]);
}

#[tokio::test(start_paused = true)]
async fn sound_that_comes_late_is_added() {
    let mut stage = Stage::new();
    let (mut child, mut room) = stage.publish().await;
    stage
        .media(Media::AudioConfig(AudioConfig {
            codec: AudioCodec::Aac,
            record: Bytes::new(),
            sample_rate: None,
            channels: None,
        }))
        .await;
    child.expect(|m| matches!(m, ToWorker::AudioConfig(_))).await;
    child.say(FromTranscoder::AudioFormat { sample_rate: 44_100, channels: 2 }).await;
    let report = stage.report().await;
    assert_eq!(report.status, Status::Publishing);
    assert_eq!(report.audio.map(|a| (a.mime, a.sample_rate)), Some(("audio/aac".to_owned(), 44_100)));
    room.got.recv().await;
    assert_eq!(room.got.recv().await, Some(Sent::AddAudio));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_decoded_that_nobody_watches() {
    let mut stage = Stage::new();
    let (mut child, room) = stage.publish().await;
    room.says.send(Event::LayersWanted(vec![false; 3])).await.unwrap();
    child.expect(|m| *m == ToWorker::Wanted { layer: 2, wanted: false }).await;
    tokio::time::advance(Duration::from_secs(3)).await;
    for n in 0..5 {
        stage.frame(3_000 + n * 40, n == 1).await;
    }
    tokio::time::sleep(Duration::from_millis(1)).await;
    room.says.send(Event::LayersWanted(vec![true, false, false])).await.unwrap();
    let next = child.told.recv().await;
    assert_eq!(next, Some(ToWorker::Wanted { layer: 0, wanted: true }), "no picture before somebody watches");
    let newest = child.expect(|m| matches!(m, ToWorker::ShowFrom(..))).await;
    let mut pictures = Vec::new();
    for _ in 0..4 {
        let ToWorker::Frame(frame) = child.told.recv().await.unwrap() else { panic!("a picture") };
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

    let mut second = stage.child().await;
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

/// The next layers that a child is told of.
async fn layers(child: &mut ChildEnd) -> Vec<(u32, u32)> {
    match child.expect(|m| matches!(m, ToWorker::Layers(_))).await {
        ToWorker::Layers(layers) => sizes(&layers),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn layers_follow_the_size_of_the_source() {
    let mut stage = Stage::new();
    let (mut child, mut room) = stage.publish().await;
    let size = |width, height| FromTranscoder::VideoFormat { width, height, frame_rate: Some(30.0) };
    assert_eq!(room.got.recv().await, Some(Sent::Video { layer: 0, key: true }));
    let began = tokio::time::Instant::now();
    child.say(size(640, 360)).await;
    let smaller = vec![(320, 180), (640, 360), (640, 360)];
    assert_eq!(layers(&mut child).await, smaller);
    assert_eq!(began.elapsed().as_secs(), 10, "a sender that goes up and down is not followed");
    assert_eq!(room.got.recv().await, Some(Sent::Resized(smaller.clone())));
    // A new child is told what is so now.
    child.says.send(FromWorker::Gone(Gone::Crashed("signal: 9 (SIGKILL)".into()))).await.unwrap();
    child = stage.child().await;
    assert_eq!(layers(&mut child).await, smaller);
    child.say(size(1280, 720)).await;
    let larger = vec![(320, 180), (640, 360), (1280, 720)];
    assert_eq!(layers(&mut child).await, larger);
    assert!(began.elapsed().as_secs() < 11, "at once");
    assert_eq!(room.got.recv().await, Some(Sent::Resized(larger)));
    assert_eq!(room.tracks.video.as_ref().map(|t| t.layers.len()), Some(3));
    assert!(stage.rooms.try_recv().is_err(), "nothing is joined again");
}

#[tokio::test(start_paused = true)]
async fn a_picture_that_stays_away_is_shown_again_while_somebody_watches() {
    let mut stage = Stage::new();
    let (mut child, room) = stage.publish().await;
    stage.frame(40, false).await;
    child.expect(|m| matches!(m, ToWorker::Frame(_))).await;
    assert_eq!(child.told.recv().await, Some(ToWorker::Repeat(MediaTime::from_millis(1_340))));
    assert_eq!(child.told.recv().await, Some(ToWorker::Repeat(MediaTime::from_millis(1_740))));
    // A new child does not show what is older than that.
    child.says.send(FromWorker::Gone(Gone::Crashed("signal: 9 (SIGKILL)".into()))).await.unwrap();
    child = stage.child().await;
    child.expect(|m| *m == ToWorker::ShowFrom(Kind::Video, MediaTime::from_millis(1_740))).await;
    room.says.send(Event::LayersWanted(vec![false, false, false])).await.unwrap();
    child.expect(|m| *m == ToWorker::Wanted { layer: 2, wanted: false }).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(child.told.try_recv().is_err(), "nobody would see it");
}

#[tokio::test(start_paused = true)]
async fn three_crashes_end_it_with_words() {
    let mut stage = Stage::new();
    let (mut child, room) = stage.publish().await;
    for _ in 0..2 {
        child.says.send(FromWorker::Gone(Gone::Crashed("signal: 11".into()))).await.unwrap();
        child = stage.child().await;
    }
    child.says.send(FromWorker::Gone(Gone::Crashed("signal: 11".into()))).await.unwrap();
    let words = (&mut stage.feed.stopped).await.unwrap().expect("the encoder is told");
    assert!(words.text.contains("crashed 3 times"), "{words}");
    drop(room);
    assert_eq!(stage.rest().await, [(Status::Error, words.text)]);
}

#[tokio::test(start_paused = true)]
async fn a_picture_that_kills_decoders_is_not_given_to_a_third() {
    let mut stage = Stage::new();
    let (first, _room) = stage.publish().await;
    stage.frame(40, false).await;
    first.says.send(FromWorker::Gone(Gone::Crashed("signal: 11".into()))).await.unwrap();
    let mut second = stage.child().await;
    second.expect(|m| matches!(m, ToWorker::Frame(f) if f.pts.as_millis() == 1_040)).await;
    second.says.send(FromWorker::Gone(Gone::Crashed("signal: 11".into()))).await.unwrap();
    let mut third = stage.child().await;
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
async fn a_child_that_lives_and_takes_nothing_holds_the_source_half_a_second_and_no_longer() {
    let mut stage = Stage::new();
    let (child, _room) = stage.publish().await;
    let begin = tokio::time::Instant::now();
    for i in 1..300 {
        stage.frame(i * 40, false).await;
    }
    let waited = begin.elapsed();
    assert!((Duration::from_millis(400)..Duration::from_secs(1)).contains(&waited), "{waited:?}");
    drop(child);
}

#[tokio::test(start_paused = true)]
async fn an_encoder_that_comes_back_takes_over() {
    let mut stage = Stage::new();
    let (mut child, room) = stage.publish().await;
    let entry = stage.registry.list().remove(0);
    let (feed, second) = source();
    entry.tell(Command::TakeOver(second)).unwrap();
    let old = std::mem::replace(&mut stage.feed, feed);
    let words = old.stopped.await.unwrap().expect("the first encoder is told");
    assert!(words.text.contains("another encoder"), "{words}");
    // Its clock starts anew; pictures before its key frame are of no use.
    stage.media(Media::VideoConfig(video_config())).await;
    stage.frame(0, false).await;
    stage.frame(40, true).await;
    child.expect(|m| matches!(m, ToWorker::VideoConfig(_))).await;
    let Some(ToWorker::Frame(frame)) = child.told.recv().await else { panic!("a picture") };
    assert!(frame.key && frame.dts.as_millis() >= 1_000, "{frame:?}");
    assert!(stage.rooms.try_recv().is_err(), "the participant stays");
    assert!(stage.reports.try_recv().is_err(), "the state stays");
    drop(room);
}

#[tokio::test(start_paused = true)]
async fn a_deleted_ingress_reports_no_more() {
    let mut stage = Stage::new();
    let (_child, mut room) = stage.publish().await;
    stage.registry.list()[0].tell(Command::Stop(Stop::Deleted)).unwrap();
    assert!((&mut stage.feed.stopped).await.unwrap().is_some());
    room.got.recv().await;
    assert_eq!(room.got.recv().await, Some(Sent::Left));
    assert_eq!(stage.rest().await, []);
}

#[tokio::test(start_paused = true)]
async fn a_room_that_refuses_ends_it_in_its_words() {
    let mut stage = Stage::new();
    let (_child, room) = stage.publish().await;
    let fault = Fault::new(Blame::Room, "room disconnected: the room was deleted");
    room.says.send(Event::Closed(fault.clone())).await.unwrap();
    assert_eq!((&mut stage.feed.stopped).await.unwrap(), Some(fault.clone()));
    assert_eq!(stage.rest().await, [(Status::Error, fault.text)]);
}

#[tokio::test(start_paused = true)]
async fn a_transcoder_that_takes_nothing_costs_frames_not_memory() {
    let mut stage = Stage::new();
    let (mut child, _room) = stage.publish().await;
    for i in 1..200 {
        stage.frame(i * 40, i == 150).await;
    }
    let mut pictures = Vec::new();
    while let Ok(message) = child.told.try_recv() {
        if let ToWorker::Frame(f) = message {
            pictures.push(f.dts.as_millis());
        }
    }
    assert!(pictures.len() <= 64, "the queue is bounded");
    stage.frame(200 * 40, false).await;
    stage.frame(201 * 40, true).await;
    let next = child.expect(|m| matches!(m, ToWorker::Frame(_))).await;
    assert!(matches!(next, ToWorker::Frame(f) if f.key), "it goes on with a key frame");
}

#[tokio::test(start_paused = true)]
async fn what_the_room_wishes_meanwhile_reaches_a_child_whose_queue_was_full() {
    let mut stage = Stage::new();
    let (mut child, room) = stage.publish().await;
    for i in 1..100 {
        stage.frame(i * 40, false).await;
    }
    for _ in 0..10 {
        for layer in [0, 2] {
            room.says.send(Event::KeyFrameWanted { layer }).await.unwrap();
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
        told.push(child.told.recv().await.expect("the end is said"));
    }
    told.retain(|m| !matches!(m, ToWorker::Frame(_)));
    let at = |what: &ToWorker| told.iter().filter(|m| *m == what).count();
    // Once into the last room that there was, and once for all those that found none.
    assert_eq!((at(&ToWorker::KeyFrame { layer: 0 }), at(&ToWorker::KeyFrame { layer: 2 })), (2, 2), "{told:?}");
    assert_eq!(at(&ToWorker::Wanted { layer: 1, wanted: false }), 1, "{told:?}");
    assert_eq!(at(&ToWorker::Wanted { layer: 2, wanted: false }), 1, "{told:?}");
    assert!(matches!(&told[..], [.., ToWorker::VideoConfig(c), ToWorker::Finish] if c.record == "other"), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn sound_that_is_behind_bounds_no_pictures() {
    let mut stage = Stage::new();
    let (mut child, _room) = stage.publish().await;
    let sound = async |stage: &Stage, at_ms| {
        let at = MediaTime::from_millis(at_ms);
        let data = Bytes::from_static(b"sound");
        stage.media(Media::Frame(Frame { kind: Kind::Audio, pts: at, dts: at, key: true, data })).await;
    };
    sound(&stage, 0).await;
    child.expect(|m| matches!(m, ToWorker::Frame(f) if f.kind == Kind::Audio)).await;
    tokio::time::advance(Duration::from_millis(900)).await;
    stage.frame(900, false).await;
    sound(&stage, 40).await;
    let bound = child.expect(|m| matches!(m, ToWorker::ShowFrom(..))).await;
    assert!(matches!(bound, ToWorker::ShowFrom(Kind::Audio, at) if at.as_millis() == 1_500), "{bound:?}");
    child.expect(|m| matches!(m, ToWorker::Frame(f) if f.kind == Kind::Audio)).await;
    assert!(child.told.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn behind_a_rest_old_sound_lets_no_old_pictures_through() {
    let mut stage = Stage::new();
    let (mut child, room) = stage.publish().await;
    let at = MediaTime::from_millis(10);
    let data = Bytes::from_static(b"sound");
    // The one packet of sound there ever was.
    stage.media(Media::Frame(Frame { kind: Kind::Audio, pts: at, dts: at, key: true, data })).await;
    room.says.send(Event::LayersWanted(vec![false; 3])).await.unwrap();
    child.expect(|m| *m == ToWorker::Wanted { layer: 2, wanted: false }).await;
    tokio::time::advance(Duration::from_secs(3)).await;
    for n in 0..3 {
        stage.frame(3_000 + n * 40, n == 0).await;
    }
    tokio::time::sleep(Duration::from_millis(1)).await;
    room.says.send(Event::LayersWanted(vec![true; 3])).await.unwrap();
    let bound = child.expect(|m| matches!(m, ToWorker::ShowFrom(..))).await;
    assert_eq!(bound, ToWorker::ShowFrom(Kind::Video, MediaTime::from_millis(4_080)));
}

#[tokio::test(start_paused = true)]
async fn a_child_that_cannot_be_started_is_waited_for() {
    let mut stage = Stage::new();
    let (first, _room) = stage.publish().await;
    *stage.failing.lock().unwrap() = 3;
    let begin = tokio::time::Instant::now();
    first.says.send(FromWorker::Gone(Gone::Crashed("signal: 9 (SIGKILL)".into()))).await.unwrap();
    let mut second = stage.child().await;
    assert_eq!(begin.elapsed(), Duration::from_millis(250 + 500 + 1_000));
    second.expect(|m| matches!(m, ToWorker::VideoConfig(_))).await;
    second.expect(|m| matches!(m, ToWorker::Frame(f) if f.key)).await;
    assert_eq!(*stage.restarts.lock().unwrap(), 1, "one crash");
    // One that goes away before it was ready is no crash on this stream, either.
    drop(second);
    for wait in [0, 250, 500, 1_000, 2_000, 4_000] {
        let begin = tokio::time::Instant::now();
        let child = stage.children.recv().await.expect("another");
        assert_eq!(begin.elapsed(), Duration::from_millis(wait));
        child.says.send(FromWorker::Gone(Gone::NotStarted("exit status: 127".into()))).await.unwrap();
    }
    let words = (&mut stage.feed.stopped).await.unwrap().expect("the encoder is told");
    assert!(words.text.contains("6 attempts (exit status: 127)"), "{words}");
    assert_eq!(stage.rest().await, [(Status::Error, words.text)]);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_changes_all_the_time_is_reported_once_a_second() {
    let mut stage = Stage::new();
    let (child, _room) = stage.publish().await;
    let begin = tokio::time::Instant::now();
    for i in 1..=50 {
        child.say(FromTranscoder::VideoFormat { width: 2 * i, height: 2 * i, frame_rate: None }).await;
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
    let (mut reports, mut width) = (0, 0);
    while width != 100 {
        width = stage.report().await.video.map_or(0, |v| v.width);
        reports += 1;
    }
    assert_eq!((reports, begin.elapsed().as_secs()), (3, 2), "at once, after a second, and the last");
}
