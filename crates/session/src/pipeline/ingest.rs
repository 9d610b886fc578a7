//! What comes from the source: put on the timeline and given to the transcoder, as far as somebody watches.

use super::{Driver, now};
use crate::lifecycle::Input;
use crate::workers::Worker;
use crate::{SourceEnd, SourceEvent, Status};
use ipc::transcode::Command;
use model::{Blame, Fault, Frame, Kind, Media, MediaTime};
use std::time::Instant;
use timing::ingest_clock::LATE;
use tracing::{debug, info};

impl Driver {
    pub(super) fn on_source(&mut self, event: Option<SourceEvent>) {
        match event {
            Some(SourceEvent::Media(Media::Announced(tracks))) => self.step(Input::Announced(tracks)),
            Some(SourceEvent::Media(Media::VideoConfig(config))) => {
                debug!(codec = ?config.codec, size = ?config.size, "source video");
                self.step(Input::Configured(Kind::Video));
                self.facts.video_codec(config.codec);
                self.gop.clear();
                self.doze.restart(&[], now());
                self.tell_child(Command::VideoConfig(config.clone()));
                self.video_config = Some(config);
            }
            Some(SourceEvent::Media(Media::AudioConfig(config))) => {
                debug!(codec = ?config.codec, rate = config.sample_rate, channels = config.channels, "source audio");
                self.step(Input::Configured(Kind::Audio));
                self.facts.audio_codec(config.codec);
                self.tell_child(Command::AudioConfig(config.clone()));
                self.audio_config = Some(config);
            }
            Some(SourceEvent::Media(Media::Frame(frame))) => self.on_frame(frame),
            Some(SourceEvent::Passthrough(passed)) => self.on_passed(passed),
            Some(SourceEvent::Splice(event)) => self.on_splice(event),
            Some(SourceEvent::Media(Media::Unusable(kind, text))) => {
                self.step(Input::Unusable(kind, Fault::new(Blame::Source, text)));
            }
            Some(SourceEvent::Ended(end)) => {
                self.source = None;
                self.step(Input::SourceEnded(end));
            }
            None => {
                self.source = None;
                let fault = Fault::transient(Blame::Us, "the connection's task ended unexpectedly; connect again");
                self.step(Input::SourceEnded(SourceEnd::Lost(fault)));
            }
        }
    }

    /// Shows the room whether what it sees is out of its network, as the Go ingress does.
    fn on_splice(&mut self, event: Option<u32>) {
        self.splice = event;
        if self.splices.news(now()) {
            self.show_splice();
        }
    }

    pub(super) fn show_splice(&self) {
        info!(event = self.splice, "splice point");
        if let Some(room) = &self.room {
            let value = self.splice.map(|e| e.to_string()).unwrap_or_default();
            room.set_attributes(vec![("ingress.outOfNetwork.eventID".to_owned(), value)]);
        }
    }

    fn on_frame(&mut self, mut frame: Frame) {
        let now = now();
        let placed = self.timeline.place(frame.kind, frame.dts, frame.pts, now);
        (frame.dts, frame.pts) = (placed.dts, placed.pts);
        let kind = frame.kind;
        if placed.late > LATE {
            self.catch_up(kind, placed.dts + MediaTime::from(placed.late));
        }
        self.facts.count(kind, frame.data.len(), now);
        if kind == Kind::Video {
            if frame.key {
                self.skipping = false;
            }
            self.gop.push(&frame);
        }
        if kind == Kind::Video && !self.skipping && placed.late <= LATE {
            self.still.picture(frame.pts, now);
        }
        match kind {
            Kind::Audio => self.tell_child(Command::Frame(frame)),
            Kind::Video if self.skipping => {
                self.doze.missed();
                self.count_dropped();
            }
            Kind::Video => {
                self.doze.push(frame);
                self.feed_pictures();
            }
        }
        self.step(Input::SourceFrame(kind));
    }

    /// When the last picture is to be shown once more; `None` while nobody would see it.
    pub(super) fn repeat_due(&self) -> Option<Instant> {
        let seen = self.session.status() == Status::Publishing && self.session.running() && self.wanted.contains(&true);
        // A full queue is waited for in peace.
        let takes = self.transcoder.as_ref().is_some_and(|t| !t.is_full());
        self.still.due().filter(|_| seen && takes && !self.skipping)
    }

    pub(super) fn repeat_picture(&mut self) {
        if self.repeat_due().is_some()
            && let Some(at) = self.still.repeat(now())
        {
            self.tell_child(Command::Repeat(at));
        }
    }

    /// Gives the transcoder the pictures whose time it is.
    pub(super) fn feed_pictures(&mut self) {
        let now = now();
        while !self.skipping {
            let full = self.transcoder.as_ref().is_some_and(Worker::is_full);
            if full && self.doze.may_wait() {
                break;
            }
            let Some(frame) = self.doze.next(now) else { break };
            self.tell_child(Command::Frame(frame));
        }
    }

    /// Somebody watches, or nobody any more: then pictures wait instead of being decoded.
    pub(super) fn watch(&mut self) {
        let watched = self.wanted.is_empty() || self.wanted.contains(&true);
        if let Some(latest) = self.doze.watched(watched, now()) {
            // Only the newest picture is worth showing.
            self.show_from(Kind::Video, latest);
        }
        self.feed_pictures();
    }

    /// What comes is late, and `due` is what should come now: what lies before is decoded, as later pictures build on it,
    /// but nobody sees it. So a stall costs the viewers its own length, and no delay afterwards.
    fn catch_up(&mut self, kind: Kind, due: MediaTime) {
        let from = due - MediaTime::from(LATE);
        // A new bound for every frame would be a message for each; a tenth of a second is fine enough.
        if self.show_from[kind as usize].is_none_or(|before| from > before + MediaTime::from_millis(100)) {
            self.show_from(kind, from);
        }
    }

    /// Bounds what is shown of one kind: never to before what was said already, as that much is behind a stall.
    pub(super) fn show_from(&mut self, kind: Kind, from: MediaTime) {
        let bound = &mut self.show_from[kind as usize];
        if bound.is_none_or(|before| from > before) {
            *bound = Some(from);
            self.tell_child(Command::ShowFrom(kind, from));
        }
    }
}
