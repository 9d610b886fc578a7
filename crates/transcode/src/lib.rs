//! The transcode worker: takes a source's access units from its parent, and gives back what the room takes.
//!
//! It runs in a process of its own because decoders are C code that meets bytes of strangers: it opens no network, and can be killed
//! at any time. Threads beside those of [`worker::run`]: one decodes and scales pictures; one for each layer encodes; one does all
//! of the audio.
#![forbid(unsafe_code)]

mod audio;
mod damage;
mod usable_kinds;
mod video;

use audio::Audio;
use ipc::Transcode;
use ipc::transcode::{Command, Event, Job};
use model::{Fault, Kind};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use usable_kinds::UsableKinds;
use video::Video;
use worker::watchdog::{Waits, Watchdog};
use worker::{Events, Temporary, Work};

/// Commands that may wait for a decoder: enough to bridge the decoding of a key frame, too few to be latency. When a queue is
/// full the socket is not read, and the parent feels it.
const COMMANDS: usize = 4;

/// The work of the role. When the threads of both kinds have ended, everything has been sent.
pub struct Transcoder {
    branches: Option<Branches>,
}

/// The ways to the threads of the two kinds.
struct Branches {
    video: SyncSender<video::Command>,
    audio: SyncSender<audio::Command>,
}

impl Work for Transcoder {
    type Role = Transcode;

    fn preload() -> Result<(), Fault> {
        video::preload().and_then(|()| audio::preload()).map_err(|e| e.fault(""))
    }

    fn start(job: Job, events: Events<Event>, watch: &Watchdog, _: Temporary) -> std::io::Result<Self> {
        let usable = UsableKinds::new(events.clone());
        let (video, video_commands) = sync_channel(COMMANDS);
        let (audio, audio_commands) = sync_channel(COMMANDS);
        let done = Arc::new(Done(events.clone()));
        let v = Video::new(job.clone(), events.clone(), watch.clone(), usable.clone());
        let a = Audio::new(job, events, usable);
        let video_done = Arc::clone(&done);
        watch.spawn("video", Waits::ForEncoders, move |busy| {
            v.run(&video_commands, &busy);
            drop(video_done);
        })?;
        watch.spawn("audio", Waits::Alone, move |busy| {
            a.run(&audio_commands, &busy);
            drop(done);
        })?;
        Ok(Self { branches: Some(Branches { video, audio }) })
    }

    fn command(&mut self, command: Command) {
        let Some(to) = &self.branches else { return };
        // A thread that is gone has said why.
        let _ = match command {
            Command::VideoConfig(config) => to.video.send(video::Command::Config(config)).is_ok(),
            Command::AudioConfig(config) => to.audio.send(audio::Command::Config(config)).is_ok(),
            Command::Frame(frame) if frame.kind == Kind::Video => to.video.send(video::Command::Frame(frame)).is_ok(),
            Command::Frame(frame) => to.audio.send(audio::Command::Frame(frame)).is_ok(),
            Command::Layers(layers) => to.video.send(video::Command::Layers(layers)).is_ok(),
            Command::Wanted { layer, wanted } => to.video.send(video::Command::Wanted { layer, wanted }).is_ok(),
            Command::Repeat(at) => to.video.send(video::Command::Repeat(at)).is_ok(),
            Command::ShowFrom(Kind::Video, from) => to.video.send(video::Command::ShowFrom(from)).is_ok(),
            Command::ShowFrom(Kind::Audio, from) => to.audio.send(audio::Command::ShowFrom(from)).is_ok(),
            Command::KeyFrame { layer } => to.video.send(video::Command::KeyFrame { layer }).is_ok(),
            Command::Finish => {
                // The threads end when their commands do.
                self.branches = None;
                true
            }
        };
    }
}

/// Tells the parent that all is done when the last thread lets go of it.
struct Done(Events<Event>);

impl Drop for Done {
    fn drop(&mut self) {
        // A thread that panicked has not finished; the watchdog ends the worker.
        if !std::thread::panicking() {
            self.0.send(&Event::Finished);
        }
    }
}
