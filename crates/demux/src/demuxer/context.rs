//! What the pads of one demultiplexer share, and the tracks that one demultiplexer after the other may fill.

use crate::container::VP6_CROP;
use crate::fault::unplayable;
use crate::sync::lock;
use crate::time_shift::TimeShift;
use crate::track_queues::TrackQueues;
use gstreamer::{self as gst, prelude::*};
use model::Kind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// What the functions of all pads need.
pub(super) struct Context {
    pub(super) queues: TrackQueues,
    pub(super) bus: gst::Bus,
    pub(super) shift: TimeShift,
    /// The demultiplexer reads a file by itself, in place of being fed.
    pub(super) pulls: bool,
    /// What a file says of the cropping of VP6.
    pub(super) crop: Option<u8>,
    pub(super) elements: Mutex<Vec<gst::Element>>,
    /// Pads of ours at the end of each chain.
    pub(super) tails: Mutex<Vec<gst::Pad>>,
    pub(super) tracks: Tracks,
    /// Those of `tracks` that another demultiplexer or pad began, and that a new pad may continue.
    pub(super) adopt: Mutex<Vec<(Kind, usize)>>,
}

/// The tracks of one stream, which one demultiplexer after the other may fill: their kinds, and their numbers in the queues.
#[derive(Clone, Debug)]
pub(crate) struct Tracks {
    pub(super) queues: TrackQueues,
    pub(super) all: Arc<Mutex<Vec<(Kind, usize)>>>,
    complete: Arc<AtomicBool>,
}

impl Tracks {
    /// None yet, in these queues.
    pub(crate) fn new(queues: &TrackQueues) -> Self {
        Self { queues: queues.clone(), all: Arc::default(), complete: Arc::default() }
    }

    /// The stream has come to its end.
    pub(crate) fn end(&self) {
        for (_, track) in lock(&self.all).iter() {
            self.queues.end(*track);
        }
        self.complete();
    }

    /// The source was joined anew: what comes next may be far after what came.
    pub(crate) fn rejoined(&self) {
        for (_, track) in lock(&self.all).iter() {
            self.queues.rejoined(*track);
        }
    }

    /// A stream is there that can't be played; `what` it is.
    pub(crate) fn unknown(&self, what: String) {
        self.queues.add_unknown(what);
    }

    /// No further track will come.
    pub(crate) fn complete(&self) {
        if !self.complete.swap(true, Ordering::Relaxed) {
            self.queues.complete();
        }
    }
}

impl Context {
    pub(super) fn new(tracks: &Tracks, shift: TimeShift, pulls: bool, kind: Option<&gst::Caps>) -> Arc<Self> {
        let crop =
            kind.and_then(|k| k.structure(0)?.get::<i32>(VP6_CROP).ok()).and_then(|crop| u8::try_from(crop).ok());
        let bus = gst::Bus::new();
        let queues = tracks.queues.clone();
        bus.set_sync_handler(move |_, message| {
            if let gst::MessageView::Error(error) = message.view() {
                queues.fail(unplayable(format!("it can't be read: {}", error.error().message())));
            }
            gst::BusSyncReply::Drop
        });
        Arc::new(Self {
            queues: tracks.queues.clone(),
            bus,
            shift,
            pulls,
            crop,
            elements: Mutex::default(),
            tails: Mutex::default(),
            adopt: Mutex::new(lock(&tracks.all).clone()),
            tracks: tracks.clone(),
        })
    }

    pub(super) fn add(&self, element: &gst::Element) {
        element.set_bus(Some(&self.bus));
        lock(&self.elements).push(element.clone());
    }
}
