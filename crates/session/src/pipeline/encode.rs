//! The encode side of a session: the worker that decodes, scales and encodes.
//!
//! Commands and access units go in, [`Encoded`] comes out. This owns the worker, the commands that wait for it, what a
//! replacement has to be told, and the order in which layers return. It knows neither source nor room. A worker that takes
//! nothing costs access units, never memory.

use crate::layers::restart_barrier::RestartBarrier;
use crate::workers::pending_commands::PendingCommands;
use crate::workers::{FULL_QUEUE_DEADLINE, FromWorker, Gone, Worker, Workers};
use crate::{PictureCount, Work};
use ipc::Transcode;
use ipc::transcode::{Command, Event, Job};
use model::{AudioConfig, Fault, Frame, Kind, Layer, MediaTime, VideoConfig};
use std::sync::Arc;
use std::time::Instant;
use timing::ingest_clock::MAX_LATENESS;
use tracing::{debug, warn};

#[cfg(test)]
mod tests;

/// How far a bound of [`Encode::catch_up`] has to move before the worker is told: a new one for every access unit would be a
/// message for each, and a tenth of a second is fine enough.
const CATCH_UP_STEP: MediaTime = MediaTime::from_millis(100);

/// An encoded access unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EncodedFrame {
    /// Index of the encoder.
    pub(super) encoder: usize,
    /// When it is to be shown, on the session's timeline.
    pub(super) pts: MediaTime,
    /// Whether decoding can start here.
    pub(super) key: bool,
    /// H.264 as Annex B, VP8 as one frame.
    pub(super) data: bytes::Bytes,
}

/// What comes from the worker.
#[derive(Debug, PartialEq)]
pub(super) enum Encoded {
    /// Decoded pictures look like this.
    VideoFormat { width: u32, height: u32, frame_rate: Option<f64> },
    /// Decoded audio is like this.
    AudioFormat { sample_rate: u32, channels: u32 },
    /// An access unit of video.
    Video(EncodedFrame),
    /// Access units of video that had waited for each other, in the order in which they are to be sent.
    VideoInOrder(Vec<EncodedFrame>),
    /// An Opus packet.
    Audio { pts: MediaTime, level: i8, data: bytes::Bytes },
    /// This kind of the source can't be decoded.
    Unusable { kind: Kind, fault: Fault },
    /// Much of this kind is damaged, and what the decoder complains of; `None` if no longer.
    Damaged { kind: Kind, why: Option<String> },
    /// The worker gave up.
    Failed(Fault),
    /// The worker has handed over everything.
    Finished,
    /// The worker is gone.
    Gone(Gone),
}

/// What a worker knows, to be told to the one that takes its place.
#[derive(Debug, Default)]
struct Replay {
    video: Option<VideoConfig>,
    audio: Option<AudioConfig>,
    layers: Vec<Layer>,
    wanted: Vec<bool>,
    /// The newest [`Command::ShowFrom`], by kind. Only of the worker that runs.
    encode_from: [Option<MediaTime>; 2],
}

/// See the [module](self).
pub(super) struct Encode {
    workers: Arc<dyn Workers>,
    job: Job,
    worker: Option<Worker<Transcode>>,
    pending: PendingCommands,
    told: Replay,
    /// A new worker's first access units, until they are out.
    barrier: Option<RestartBarrier<EncodedFrame>>,
    /// Since when the worker's queue has been full without a break.
    full_since: Option<Instant>,
    /// Size of the source's pictures, and how many a second there are, as the worker finds them.
    source: Option<((u32, u32), Option<f64>)>,
    pictures: PictureCount,
    /// What an observer was told last.
    observed: Work,
}

impl Encode {
    /// Without a worker yet.
    pub(super) fn new(workers: Arc<dyn Workers>, job: Job) -> Self {
        Self {
            workers,
            job,
            worker: None,
            pending: PendingCommands::default(),
            told: Replay::default(),
            barrier: None,
            full_since: None,
            source: None,
            pictures: PictureCount::default(),
            observed: Work::default(),
        }
    }

    /// What is asked of the worker, where that has changed since this was called last.
    pub(super) fn changed_work(&mut self) -> Option<Work> {
        let worker = self.worker.as_ref().and_then(Worker::pid);
        let (size, frame_rate) = self.source.map_or((None, None), |(size, rate)| (Some(size), rate));
        let (before, told) = (&self.observed, &self.told);
        let same = (before.worker, before.size, before.frame_rate) == (worker, size, frame_rate)
            && (&before.layers, &before.wanted) == (&told.layers, &told.wanted);
        if same {
            return None;
        }
        let (layers, wanted, pictures) = (told.layers.clone(), told.wanted.clone(), self.pictures.clone());
        self.observed = Work { worker, layers, wanted, size, frame_rate, pictures };
        Some(self.observed.clone())
    }

    /// Takes a worker.
    ///
    /// # Errors
    /// None could be started, for this reason.
    pub(super) fn start(&mut self) -> Result<(), String> {
        let worker = self.workers.transcode(self.job.clone()).map_err(|e| e.to_string())?;
        debug!(pid = worker.pid(), "transcoder taken");
        self.worker = Some(worker);
        Ok(())
    }

    /// Puts a new worker in the place of one that is gone, and tells it all but the access units: viewers see a short freeze.
    ///
    /// # Errors
    /// None could be started, for this reason.
    pub(super) fn restart(&mut self) -> Result<(), String> {
        self.stop();
        self.start()?;
        self.barrier = Some(RestartBarrier::new(&self.told.wanted));
        if let Some(config) = self.told.video.clone() {
            self.send(Command::VideoConfig(config));
        }
        if let Some(config) = self.told.audio.clone() {
            self.send(Command::AudioConfig(config));
        }
        if !self.told.layers.is_empty() {
            self.send(Command::Layers(self.told.layers.clone()));
            for (layer, _) in self.told.wanted.clone().into_iter().enumerate().filter(|(_, wanted)| !wanted) {
                self.send(Command::Wanted { layer: layer as u8, wanted: false });
            }
        }
        Ok(())
    }

    /// Ends the worker, if there is one.
    pub(super) fn stop(&mut self) {
        self.worker = None;
        self.pending.clear();
        self.told.encode_from = [None; 2];
    }

    /// The video to come is coded like this.
    pub(super) fn video_config(&mut self, config: VideoConfig) {
        self.send(Command::VideoConfig(config.clone()));
        self.told.video = Some(config);
    }

    /// The audio to come is coded like this.
    pub(super) fn audio_config(&mut self, config: AudioConfig) {
        self.send(Command::AudioConfig(config.clone()));
        self.told.audio = Some(config);
    }

    /// These are the layers to encode, lowest first.
    pub(super) fn layers(&mut self, layers: &[Layer]) {
        self.told.layers = layers.to_vec();
        self.told.wanted.resize(layers.len(), true);
        self.send(Command::Layers(layers.to_vec()));
    }

    /// Whether anybody wants the layer of this encoder.
    pub(super) fn want(&mut self, encoder: usize, wanted: bool) {
        if let Some(told) = self.told.wanted.get_mut(encoder) {
            *told = wanted;
            self.send(Command::Wanted { layer: encoder as u8, wanted });
        }
    }

    /// Whether the layer of this encoder is asked for.
    pub(super) fn wants(&self, encoder: usize) -> bool {
        self.told.wanted.get(encoder).is_some_and(|wanted| *wanted)
    }

    /// Asks an encoder for a key frame.
    pub(super) fn request_keyframe(&mut self, encoder: usize) {
        self.send(Command::KeyFrame { layer: encoder as u8 });
    }

    /// What comes before `from` is decoded and not encoded. `from` only moves forward: what is before an older one came after a stall.
    pub(super) fn encode_from(&mut self, kind: Kind, from: MediaTime) {
        let bound = &mut self.told.encode_from[kind as usize];
        if bound.is_none_or(|before| from > before) {
            *bound = Some(from);
            self.send(Command::ShowFrom(kind, from));
        }
    }

    /// What comes is late, and `due` is what should come now: what lies before is decoded, as later access units build on it,
    /// but not shown. So a stall costs viewers its own length, and no delay afterwards.
    pub(super) fn catch_up(&mut self, kind: Kind, due: MediaTime) {
        let from = due - MediaTime::from(MAX_LATENESS);
        if self.told.encode_from[kind as usize].is_none_or(|before| from > before + CATCH_UP_STEP) {
            self.encode_from(kind, from);
        }
    }

    /// An access unit of the source. False if the worker did not take it, because its queue is full.
    pub(super) fn frame(&mut self, frame: Frame) -> bool {
        if frame.kind == Kind::Video {
            self.pictures.add();
        }
        self.send(Command::Frame(frame))
    }

    /// Shows the last picture once more, at this time.
    pub(super) fn repeat(&mut self, at: MediaTime) {
        self.send(Command::Repeat(at));
    }

    /// Lets the worker hand over what is inside it. False if there is none.
    pub(super) fn finish(&mut self) -> bool {
        self.send(Command::Finish);
        self.worker.is_some()
    }

    /// Whether there is a worker that takes more.
    pub(super) fn ready(&self) -> bool {
        self.worker.as_ref().is_some_and(|worker| !worker.is_full())
    }

    /// Whether there is a worker whose queue is full.
    pub(super) fn full(&self) -> bool {
        self.worker.as_ref().is_some_and(Worker::is_full)
    }

    /// Sends a command; keeps it where it has to come and the queue is full. False if it did not fit.
    fn send(&mut self, command: Command) -> bool {
        let Some(worker) = &mut self.worker else { return true };
        // What waits goes first: access units stand behind their configuration.
        let sent = self.pending.flush(|pending| worker.send(pending));
        let Some(command) = (if sent { worker.send(command) } else { Some(command) }) else { return true };
        self.pending.keep(command);
        false
    }

    /// Sends what waits.
    pub(super) fn send_pending(&mut self) {
        if let Some(worker) = &mut self.worker {
            self.pending.flush(|pending| worker.send(pending));
        }
    }

    /// Resolves when [`Encode::send_pending`] can send something; never if nothing waits.
    pub(super) fn pending_can_go(&self) -> impl Future<Output = ()> + Send + use<> {
        let waits = self.worker.as_ref().filter(|_| !self.pending.is_empty()).map(Worker::ready);
        async move {
            match waits {
                Some(capacity) => capacity.await,
                None => std::future::pending().await,
            }
        }
    }

    /// Resolves when the worker takes what an event of the source can bring, or has been full for so long that access units are
    /// to be dropped: a backlog that comes in one go makes the encoder wait instead. True if a full queue has drained: to be
    /// told by [`Encode::drained`].
    pub(super) fn capacity(&mut self, now: Instant) -> impl Future<Output = bool> + Send + use<> {
        let full = self.worker.as_ref().filter(|worker| worker.is_full());
        self.full_since = full.and(self.full_since.or(Some(now)));
        let capacity = full.zip(self.full_since).map(|(worker, since)| worker.ready_by(since + FULL_QUEUE_DEADLINE));
        async move {
            match capacity {
                Some(capacity) => capacity.await,
                None => false,
            }
        }
    }

    /// The worker's queue was full and has drained.
    pub(super) fn drained(&mut self) {
        self.full_since = None;
    }

    /// The next event of the worker, for [`Encode::on_event`]. Pending while there is none. Cancel safe.
    pub(super) async fn recv(&mut self) -> FromWorker<Event> {
        match &mut self.worker {
            Some(worker) => worker.recv().await,
            None => std::future::pending().await,
        }
    }

    /// Takes in an event of the worker.
    pub(super) fn on_event(&mut self, event: FromWorker<Event>, now: Instant) -> Option<Encoded> {
        let event = match event {
            FromWorker::Event(event) => event,
            FromWorker::Gone(gone) => {
                self.stop();
                return Some(Encoded::Gone(gone));
            }
        };
        Some(match event {
            Event::VideoFormat { width, height, frame_rate } => {
                self.source = Some(((width, height), frame_rate));
                Encoded::VideoFormat { width, height, frame_rate }
            }
            Event::AudioFormat { sample_rate, channels } => Encoded::AudioFormat { sample_rate, channels },
            Event::AccessUnit { layer, pts, key, data } => {
                return self.in_order(EncodedFrame { encoder: usize::from(layer), pts, key, data }, now);
            }
            Event::AudioPacket { pts, level, data } => Encoded::Audio { pts, level, data },
            Event::Unusable { kind, fault } => {
                warn!(kind = kind.as_str(), %fault, "this part of the source can't be used");
                Encoded::Unusable { kind, fault }
            }
            Event::Damaged { kind, why } => Encoded::Damaged { kind, why },
            Event::Failed(fault) => Encoded::Failed(fault),
            Event::Finished => Encoded::Finished,
        })
    }

    fn in_order(&mut self, frame: EncodedFrame, now: Instant) -> Option<Encoded> {
        let Some(barrier) = &mut self.barrier else { return Some(Encoded::Video(frame)) };
        let frames = barrier.push(frame.encoder, frame, now);
        if frames.is_empty() {
            return None;
        }
        self.barrier = None;
        Some(Encoded::VideoInOrder(frames.into_iter().map(|(_, frame)| frame).collect()))
    }
}
