//! Scripted workers and participants for the tests of this crate.

use crate::participant::{Facts, Joined, Participant, ParticipantFactory};
use crate::workers::{self, FromWorker};
use crate::{Observer, SessionIds, SessionObserver, TopLayer, Work};
use bytes::Bytes;
use ipc::demux;
use ipc::transcode::{Command, Event as WorkerEvent, Job};
use model::*;
use publish::{AudioTrack, Config, Event, Output, Tracks, VideoTrack};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc;

/// An ingress with the default presets.
pub(crate) fn spec(input: InputKind, transcode: bool) -> IngressSpec {
    IngressSpec {
        ingress_id: IngressId("IN_1".into()),
        name: String::new(),
        stream_key: Secret::default(),
        url: Secret::default(),
        input,
        room: String::new(),
        identity: String::new(),
        participant_name: String::new(),
        metadata: String::new(),
        transcode,
        enabled: true,
        audio: AudioSpec {
            name: "audio".into(),
            source: TrackSource::Microphone,
            encoding: AudioPreset::OpusMono64k.encoding(),
        },
        video: VideoSpec {
            name: "video".into(),
            source: TrackSource::Camera,
            encoding: VideoPreset::H264_720p30Layers3.encoding(),
        },
    }
}

/// The session under test.
pub(crate) fn ids() -> SessionIds {
    SessionIds { ingress_id: IngressId("IN_1".into()), resource_id: ResourceId("RT_1".into()), input: InputKind::Rtmp }
}

/// An access unit of video of one source, by its time in milliseconds.
pub(crate) fn picture(ms: i64, key: bool) -> Frame {
    let at = MediaTime::from_millis(ms);
    Frame { kind: Kind::Video, pts: at, dts: at, key, data: Bytes::from_static(b"access unit") }
}

/// Counts what it observes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Observed(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    latencies: Vec<Option<Quality>>,
    works: Vec<Work>,
}

impl Observed {
    /// The layers whose latency was sampled since the last call.
    pub(crate) fn latencies(&self) -> Vec<Option<Quality>> {
        std::mem::take(&mut self.0.lock().unwrap().latencies)
    }

    /// What the transcoder was asked for, change by change, since the last call.
    pub(crate) fn works(&self) -> Vec<Work> {
        std::mem::take(&mut self.0.lock().unwrap().works)
    }
}

impl SessionObserver for Observed {
    fn begin(&self, _: &SessionIds) -> Arc<dyn Observer> {
        Arc::new(self.clone())
    }
}

impl Observer for Observed {
    fn latency(&self, layer: Option<Quality>, _: Duration) {
        self.0.lock().unwrap().latencies.push(layer);
    }
    fn transcoder_restarted(&self) {}
    fn dropped(&self, _: u64) {}
    fn stalled(&self, _: bool) {}
    fn top_layer(&self, _: TopLayer) {}
    fn works(&self, work: Work) {
        self.0.lock().unwrap().works.push(work);
    }
}

/// The other end of a worker.
pub(crate) struct Worker {
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) events: mpsc::Sender<FromWorker<WorkerEvent>>,
}

impl Worker {
    /// Everything it has been told since the last call.
    pub(crate) fn told(&mut self) -> Vec<Command> {
        std::iter::from_fn(|| self.commands.try_recv().ok()).collect()
    }

    /// Waits for a command like this one.
    pub(crate) async fn expect(&mut self, what: impl Fn(&Command) -> bool) -> Command {
        loop {
            let command = self.commands.recv().await.expect("the session talks to its worker");
            if what(&command) {
                return command;
            }
        }
    }

    /// Sends an event.
    pub(crate) async fn say(&self, event: WorkerEvent) {
        self.events.send(FromWorker::Event(event)).await.unwrap();
    }

    /// Sends an access unit of one of its encoders.
    pub(crate) async fn encoded(&self, encoder: u8, key: bool) {
        self.encoded_at(encoder, key, 1_000).await;
    }

    /// The same of a picture at this time in milliseconds.
    pub(crate) async fn encoded_at(&self, encoder: u8, key: bool, ms: i64) {
        let pts = MediaTime::from_millis(ms);
        self.say(WorkerEvent::AccessUnit { layer: encoder, pts, key, data: Bytes::from_static(b"encoded") }).await;
    }
}

/// Hands out workers with a queue of this length.
pub(crate) struct Workers(pub(crate) usize, pub(crate) mpsc::UnboundedSender<Worker>);

impl Workers {
    /// The factory, and where the other ends of its workers come.
    pub(crate) fn new(queue: usize) -> (Arc<Self>, mpsc::UnboundedReceiver<Worker>) {
        let (workers, ends) = mpsc::unbounded_channel();
        (Arc::new(Self(queue, workers)), ends)
    }
}

impl workers::Workers for Workers {
    fn transcode(&self, _: Job) -> io::Result<workers::Worker<ipc::Transcode>> {
        let (to, commands) = mpsc::channel(self.0);
        let (events, from) = mpsc::channel(64);
        self.1.send(Worker { commands, events }).map_err(io::Error::other)?;
        Ok(workers::Worker::from_channels(to, from))
    }

    fn demux(&self, _: demux::Job) -> io::Result<workers::Worker<ipc::Demux>> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// What a participant was given.
#[derive(Debug, PartialEq)]
pub(crate) enum Given {
    AddVideo,
    AddAudio,
    Video(usize, Bytes),
    Audio,
    Packets(Output, usize),
    Resized(Vec<(u32, u32)>),
    Restarted,
    Attributes(Vec<(String, String)>),
    Left,
}

/// The other end of a participant.
pub(crate) struct Room {
    pub(crate) config: Config,
    pub(crate) tracks: Tracks,
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) given: mpsc::UnboundedReceiver<Given>,
}

impl Room {
    /// Everything it was given since the last call.
    pub(crate) fn given(&mut self) -> Vec<Given> {
        std::iter::from_fn(|| self.given.try_recv().ok()).collect()
    }
}

/// Makes participants that take notes.
pub(crate) struct Participants(mpsc::UnboundedSender<Room>);

impl Participants {
    /// The factory, and where the other ends of its participants come.
    pub(crate) fn new() -> (Arc<Self>, mpsc::UnboundedReceiver<Room>) {
        let (rooms, ends) = mpsc::unbounded_channel();
        (Arc::new(Self(rooms)), ends)
    }
}

impl ParticipantFactory for Participants {
    fn join(&self, config: Config, tracks: Tracks) -> Joined {
        let (events, receiver) = mpsc::channel(64);
        let (notes, given) = mpsc::unbounded_channel();
        let _ = self.0.send(Room { config, tracks, events, given });
        (Box::new(Notes(notes)), receiver)
    }

    fn server_facts(&self, _: &str) -> Facts {
        tokio::sync::watch::channel(None).1
    }
}

struct Notes(mpsc::UnboundedSender<Given>);

impl Participant for Notes {
    fn add_video(&self, _: VideoTrack) {
        let _ = self.0.send(Given::AddVideo);
    }
    fn add_audio(&self, _: AudioTrack) {
        let _ = self.0.send(Given::AddAudio);
    }
    fn send(&self, output: Output, media: publish::Media) -> bool {
        let given = match (output, media) {
            (Output::Video(layer), publish::Media::AccessUnit(unit)) => Given::Video(layer, unit.data),
            (Output::Audio, publish::Media::AccessUnit(_)) => Given::Audio,
            (output, publish::Media::Packets(packets)) => Given::Packets(output, packets.len()),
        };
        self.0.send(given).is_ok()
    }
    fn restarted(&self) {
        let _ = self.0.send(Given::Restarted);
    }
    fn resized(&self, layers: Vec<Layer>) {
        let _ = self.0.send(Given::Resized(layers.iter().map(|l| (l.width, l.height)).collect()));
    }
    fn set_attributes(&self, attributes: Vec<(String, String)>) {
        let _ = self.0.send(Given::Attributes(attributes));
    }
    fn leave(self: Box<Self>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            let _ = self.0.send(Given::Left);
        })
    }
}
