//! The transcoder that works for a session: started, fed, replaced when it is gone, and what it brings.

use super::{Driver, now};
use crate::Status;
use crate::layers::restart_barrier::RestartBarrier;
use crate::lifecycle::Input;
use crate::workers::{FromWorker, Gone};
use ipc::transcode::{Command, Event, Job};
use model::{Kind, Layer, MediaTime};
use publish::{AccessUnit, Media, Output};
use std::time::{Duration, Instant};
use tracing::{debug, info, warn};

/// How often the latency of a track or layer is sampled, as in the Go ingress: for a histogram, twice a second is plenty.
const LATENCY_EVERY: Duration = Duration::from_millis(500);

impl Driver {
    pub(super) fn start_transcoder(&mut self) {
        let job = Job {
            video_codec: self.spec.video.encoding.codec,
            max_frame_rate: self.spec.video.encoding.max_frame_rate,
            audio: self.spec.audio.encoding,
        };
        match self.workers.transcode(job) {
            Ok(transcoder) => {
                debug!(pid = transcoder.pid(), "transcoder taken");
                self.transcoder = Some(transcoder);
            }
            Err(e) => self.step(Input::TranscoderNotStarted(e.to_string())),
        }
    }

    /// Puts a new transcoder in the place of one that is gone and brings it up to date: viewers see a short freeze.
    pub(super) fn restart_transcoder(&mut self) {
        self.lose_transcoder();
        self.start_transcoder();
        if self.transcoder.is_none() {
            return;
        }
        self.comeback = Some(RestartBarrier::new(&self.wanted));
        if let Some(room) = &self.room {
            room.restarted();
        }
        if let Some(config) = self.video_config.clone() {
            self.tell_child(Command::VideoConfig(config));
        }
        if let Some(config) = self.audio_config.clone() {
            self.tell_child(Command::AudioConfig(config));
        }
        if !self.layers.is_empty() {
            self.tell_child(Command::Layers(self.layers.clone()));
            for (layer, &wanted) in self.wanted.clone().iter().enumerate().filter(|(_, w)| !**w) {
                self.tell_child(Command::Wanted { layer: layer as u8, wanted });
            }
        }
        // Once: a picture that the decoder dies of would be among them, and kill the next one, too.
        let key = self.gop.frames().first().map(|f| f.dts);
        if key.is_some() && std::mem::replace(&mut self.replayed, key) == key {
            warn!("these pictures were given to the transcoder that crashed: waiting for the next key frame");
            self.gop.clear();
        }
        self.doze.restart(self.gop.frames(), now());
        match self.gop.latest() {
            Some(latest) => {
                self.show_from(Kind::Video, self.still.repeated().map_or(latest, |shown| shown.max(latest)));
                // What was dropped on the way to the one before is among these.
                self.skipping = false;
                self.feed_pictures();
            }
            None => self.skipping = true,
        }
    }

    /// Ends it, if there is one. What it knew is told to the next one anew.
    pub(super) fn lose_transcoder(&mut self) {
        self.transcoder = None;
        self.owed.clear();
        self.show_from = [None; 2];
    }

    pub(super) fn tell_child(&mut self, message: Command) {
        let Some(transcoder) = &mut self.transcoder else { return };
        let frame = if let Command::Frame(frame) = &message { Some(frame.kind) } else { None };
        // What is owed comes first: frames stand behind their configuration.
        let paid = self.owed.pay(|owed| transcoder.send(owed));
        let Some(message) = (if paid { transcoder.send(message) } else { Some(message) }) else { return };
        self.owed.keep(message);
        let Some(kind) = frame else { return };
        self.count_dropped();
        if kind == Kind::Video && !self.skipping {
            warn!("the transcoder does not keep up: pictures are dropped until the next key frame");
            self.skipping = true;
            self.doze.missed();
        }
    }

    pub(super) fn pay_owed(&mut self) {
        if let Some(transcoder) = &mut self.transcoder {
            self.owed.pay(|owed| transcoder.send(owed));
        }
    }

    pub(super) fn count_dropped(&mut self) {
        self.dropped += 1;
        self.observer.dropped(1);
    }

    pub(super) fn on_child(&mut self, message: FromWorker<Event>) {
        let message = match message {
            FromWorker::Event(event) => event,
            FromWorker::Gone(gone) => {
                self.lose_transcoder();
                if self.session.running() {
                    warn!(?gone, "the transcoder is gone");
                }
                return self.step(match gone {
                    Gone::Crashed(how) => Input::TranscoderCrashed(how),
                    Gone::NotStarted(how) => Input::TranscoderNotStarted(how),
                });
            }
        };
        match message {
            Event::VideoFormat { width, height, frame_rate } => self.on_video_format(width, height, frame_rate),
            Event::AudioFormat { sample_rate, channels } => {
                if self.facts.audio_format(sample_rate, channels) {
                    self.report_facts();
                }
                self.step(Input::Decodable(Kind::Audio));
            }
            Event::AccessUnit { layer, pts, key, data } => {
                let out = AccessUnit { pts, at: self.timeline.wall(pts, now()), key, data, level: None };
                self.on_picture(usize::from(layer), out);
            }
            Event::AudioPacket { pts, level, data } => self.on_audio(pts, level, data),
            Event::Unusable { kind, fault } => {
                warn!(kind = kind.as_str(), %fault, "this part of the source can't be used");
                self.step(Input::Unusable(kind, fault));
            }
            Event::Failed(fault) => self.step(Input::TranscoderFailed(fault)),
            Event::Finished => self.step(Input::TranscoderFinished),
        }
    }

    fn on_picture(&mut self, layer: usize, picture: AccessUnit) {
        let Some(comeback) = &mut self.comeback else { return self.show(layer, picture) };
        let pictures = comeback.picture(layer, picture, now());
        if !pictures.is_empty() {
            self.comeback = None;
        }
        pictures.into_iter().for_each(|(layer, picture)| self.show(layer, picture));
    }

    fn show(&mut self, layer: usize, picture: AccessUnit) {
        let at = picture.at;
        if let Some(room) = &self.room {
            room.send(Output::Video(layer), Media::AccessUnit(picture));
        }
        self.sent(layer + 1, at);
    }

    fn on_audio(&mut self, pts: MediaTime, level: i8, data: bytes::Bytes) {
        let at = self.timeline.wall(pts, now());
        if let Some(room) = &self.room {
            let packet = AccessUnit { pts, at, key: true, data, level: Some(level) };
            room.send(Output::Audio, Media::AccessUnit(packet));
        }
        self.sent(0, at);
    }

    fn on_video_format(&mut self, width: u32, height: u32, frame_rate: Option<f64>) {
        if self.facts.video_format(width, height, frame_rate) {
            debug!(width, height, frame_rate, "source picture changes");
            self.report_facts();
        }
        if self.layers.is_empty() {
            info!(width, height, frame_rate, "source picture");
        }
        if let Some(layers) = self.fit.picture((width, height), &self.layers, now()) {
            self.use_layers(layers);
        }
        self.step(Input::Decodable(Kind::Video));
    }

    /// Layers may be due to follow a change of the source's size.
    pub(super) fn fit_layers(&mut self) {
        if self.fit.due().is_some_and(|due| now() >= due)
            && let Some(layers) = self.fit.tick(&self.layers, now())
        {
            self.use_layers(layers);
        }
    }

    fn use_layers(&mut self, layers: Vec<Layer>) {
        if self.layers.is_empty() {
            self.wanted = vec![true; layers.len()];
        } else {
            let sizes: Vec<_> = layers.iter().map(|l| (l.width, l.height)).collect();
            info!(?sizes, "the layers follow the size of the source");
            if let Some(room) = &self.room {
                room.resized(layers.clone());
            }
        }
        self.layers = layers;
        self.tell_child(Command::Layers(self.layers.clone()));
    }

    /// An encoded frame went to the room: `output` 0 is sound, above it layers.
    pub(super) fn sent(&mut self, output: usize, at: Instant) {
        if !self.connected {
            return;
        }
        let now = now();
        if let Some(sampled) = self.sampled.get_mut(output)
            && sampled.is_none_or(|last| now.saturating_duration_since(last) >= LATENCY_EVERY)
        {
            *sampled = Some(now);
            let layer = output.checked_sub(1).and_then(|layer| self.layers.get(layer));
            self.observer.latency(layer.map(|l| l.quality), now.saturating_duration_since(at));
        }
        if self.session.status() == Status::Buffering {
            self.step(Input::MediaOut);
        }
    }
}
