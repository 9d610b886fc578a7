//! The ingest side of a session: the source, and what is done to its access units before anybody encodes or sends them.
//!
//! Access units with the source's timestamps go in; they come out on the session's timeline, and those that are to be decoded
//! when it is their time. This owns the source, its clock, what a new decoder has to be given, and every rule by which access
//! units are left out. It knows neither worker nor room.

use super::idle_decode_gate::IdleDecodeGate;
use crate::throttle::Throttle;
use crate::{KeyframeRequest, Source, SourceEvent};
use media::{GopCache, KeyframeGate};
use model::{Fault, Frame, Kind, MediaTime};
use std::time::{Duration, Instant};
use timing::frame_repeater::FrameRepeater;
use timing::ingest_clock::{IngestClock, MAX_LATENESS};
use tracing::warn;

#[cfg(test)]
mod tests;

/// How often the room is told a splice point. A source may send them in floods.
const SPLICE_INTERVAL: Duration = Duration::from_millis(250);

/// An access unit that was taken in.
#[derive(Debug)]
pub(super) struct Taken {
    /// On the session's timeline.
    pub(super) frame: Frame,
    /// Where it is late: the media time that should come now.
    pub(super) due: Option<MediaTime>,
    /// It is left out, because decoding can't start here.
    pub(super) dropped: bool,
}

/// See the [module](self).
pub(super) struct Ingest {
    source: Option<Source>,
    clock: IngestClock,
    gop: GopCache,
    /// The key frame from which access units were last given to a new worker.
    replayed: Option<MediaTime>,
    /// Closed after the decoder missed an access unit, up to the next key frame.
    gate: KeyframeGate,
    idle: IdleDecodeGate,
    repeater: FrameRepeater,
    /// The newest splice point.
    splice: Option<u32>,
    splices: Throttle,
}

impl Ingest {
    /// From this source.
    pub(super) fn new(source: Source) -> Self {
        Self {
            source: Some(source),
            clock: IngestClock::new(),
            gop: GopCache::default(),
            replayed: None,
            gate: KeyframeGate::open(),
            idle: IdleDecodeGate::default(),
            repeater: FrameRepeater::default(),
            splice: None,
            splices: Throttle::new(SPLICE_INTERVAL),
        }
    }

    /// The source's next event; `None` if it went away without an end. Pending while there is none. Cancel safe.
    pub(super) async fn recv(&mut self) -> Option<SourceEvent> {
        match &mut self.source {
            Some(source) => source.events.recv().await,
            None => std::future::pending().await,
        }
    }

    /// The source has ended by itself.
    pub(super) fn ended(&mut self) {
        self.source = None;
    }

    /// Lets go of the source, and tells it why.
    pub(super) fn stop(&mut self, fault: Option<Fault>) {
        if let Some(source) = self.source.take() {
            // A source that has gone by itself needs no reason.
            let _ = source.stop.send(fault);
        }
    }

    /// Goes on with another source, and tells the old one why. Its clock starts again, and what comes before its first key frame
    /// is of no use.
    pub(super) fn take_over(&mut self, source: Source, fault: Fault, now: Instant) {
        self.stop(Some(fault));
        self.source = Some(source);
        self.clock.restart();
        self.gop.clear();
        self.idle.restart(&[], now);
        self.gate.close();
    }

    /// Asks the source for a key frame of a passed-through layer.
    pub(super) fn request_keyframe(&self, layer: usize) {
        if let Some(source) = &self.source {
            source.keyframes.request(KeyframeRequest { layer });
        }
    }

    /// Tells the publisher what does not get through; empty when all does again. An input that reads no notices misses them.
    pub(super) fn notify(&self, text: &str) {
        if let Some(source) = &self.source {
            let _ = source.notices.try_send(text.to_owned());
        }
    }

    /// The video to come is coded in another way.
    pub(super) fn video_config(&mut self, now: Instant) {
        self.gop.clear();
        self.idle.restart(&[], now);
    }

    /// Takes in an access unit. Video that is to be decoded is then to be taken with [`Ingest::next_picture`].
    pub(super) fn frame(&mut self, mut frame: Frame, now: Instant) -> Taken {
        let placed = self.clock.map(frame.kind, frame.dts, frame.pts, now);
        (frame.dts, frame.pts) = (placed.dts, placed.pts);
        let late = placed.late > MAX_LATENESS;
        let due = late.then(|| placed.dts + MediaTime::from(placed.late));
        let mut dropped = false;
        if frame.kind == Kind::Video {
            dropped = !self.gate.admits(frame.key);
            self.gop.push(&frame);
            if dropped {
                self.idle.missed();
            } else {
                if !late {
                    self.repeater.picture(frame.pts, now);
                }
                self.idle.push(frame.clone());
            }
        }
        Taken { frame, due, dropped }
    }

    /// The next access unit of video to decode. `full`: the decoder takes none just now.
    pub(super) fn next_picture(&mut self, full: bool, now: Instant) -> Option<Frame> {
        if self.gate.is_closed() || (full && self.idle.may_wait()) {
            return None;
        }
        self.idle.next(now)
    }

    /// The decoder did not take an access unit of video: those before the next key frame are of no use.
    pub(super) fn overflow(&mut self) {
        if !self.gate.is_closed() {
            warn!("the transcoder does not keep up: video is dropped until the next key frame");
            self.gate.close();
            self.idle.missed();
        }
    }

    /// Whether anybody watches what is decoded. Gives the newest of the pictures that waited for that: only that one is worth
    /// showing.
    pub(super) fn watched(&mut self, watched: bool, now: Instant) -> Option<MediaTime> {
        self.idle.watched(watched, now)
    }

    /// Starts over for a new decoder, with what was sent since the last key frame. Gives the first picture to show.
    pub(super) fn replay(&mut self, now: Instant) -> Option<MediaTime> {
        // Once: a picture that the decoder dies of would be among them, and kill the next one, too.
        let key = self.gop.frames().first().map(|frame| frame.dts);
        if key.is_some() && std::mem::replace(&mut self.replayed, key) == key {
            warn!("these pictures were given to the transcoder that crashed: waiting for the next key frame");
            self.gop.clear();
        }
        self.idle.restart(self.gop.frames(), now);
        let latest = self.gop.latest();
        // What was dropped on the way to the decoder before is among these.
        self.gate = if latest.is_some() { KeyframeGate::open() } else { KeyframeGate::closed() };
        latest.map(|latest| self.repeater.repeated().map_or(latest, |shown| shown.max(latest)))
    }

    /// When the last picture is to be shown once more.
    pub(super) fn repeat_due(&self) -> Option<Instant> {
        self.repeater.due().filter(|_| !self.gate.is_closed())
    }

    /// For when to show the last picture once more, if that is due.
    pub(super) fn repeat(&mut self, now: Instant) -> Option<MediaTime> {
        self.repeater.repeat(now)
    }

    /// Whether a track's timestamps stand still while it goes on coming.
    pub(super) fn stands_still(&self, kind: Kind, now: Instant) -> bool {
        self.clock.stands_still(kind, now)
    }

    /// The wall clock of a media time.
    pub(super) fn wall(&self, at: MediaTime, now: Instant) -> Instant {
        self.clock.wall(at, now)
    }

    /// A splice point. Gives what to tell the room now.
    pub(super) fn splice(&mut self, event: Option<u32>, now: Instant) -> Option<Option<u32>> {
        self.splice = event;
        self.splices.changed(now).then_some(event)
    }

    /// When to call [`Ingest::splice_tick`].
    pub(super) fn splice_due(&self) -> Option<Instant> {
        self.splices.due()
    }

    /// Gives the newest splice point, if the room is to be told now.
    pub(super) fn splice_tick(&mut self, now: Instant) -> Option<Option<u32>> {
        self.splices.tick(now).then_some(self.splice)
    }
}
