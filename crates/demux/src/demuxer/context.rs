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
    /// Demultiplexers and what opens containers, from the source on.
    pub(super) containers: Mutex<Vec<gst::Element>>,
    /// What stands behind the pads of those.
    chains: Mutex<Vec<Chain>>,
    pub(super) tracks: Tracks,
    /// Those of `tracks` that another demultiplexer or pad began, and that a new pad may continue.
    pub(super) adopt: Adoptable,
}

/// What stands behind one pad of a container: parsers, and a pad of ours behind the last.
pub(super) struct Chain {
    pub(super) parsers: Vec<gst::Element>,
    pub(super) tail: gst::Pad,
}

impl Chain {
    fn is_over(&self) -> bool {
        self.tail.pad_flags().contains(gst::PadFlags::EOS) || (self.parsers.is_empty() && !self.tail.is_linked())
    }

    fn stop(&self) {
        for parser in &self.parsers {
            let _ = parser.set_state(gst::State::Null);
        }
        let _ = self.tail.set_active(false);
    }
}

/// Tracks that another stream may go on in: their kinds, and their numbers in the queues.
type Adoptable = Arc<Mutex<Vec<(Kind, usize)>>>;

/// The tracks of one stream, which one demultiplexer after the other may fill: their kinds, and their numbers in the queues.
#[derive(Clone, Debug)]
pub(crate) struct Tracks {
    pub(super) queues: TrackQueues,
    pub(super) all: Adoptable,
    /// Those that were there when the connection began, for demultiplexers that stand side by side: each goes to one of them.
    earlier: Adoptable,
    complete: Arc<AtomicBool>,
    /// What is not played though it may come.
    without: Option<Kind>,
}

impl Tracks {
    /// None yet, in these queues.
    pub(crate) fn new(queues: &TrackQueues) -> Self {
        let (all, earlier, complete) = (Arc::default(), Arc::default(), Arc::default());
        Self { queues: queues.clone(), all, earlier, complete, without: None }
    }

    /// The same, for another connection to the source.
    pub(crate) fn joined_again(&self) -> Self {
        Self { earlier: self.snapshot(), ..self.clone() }
    }

    fn snapshot(&self) -> Adoptable {
        Arc::new(Mutex::new(lock(&self.all).clone()))
    }

    /// The same, but tracks of this kind are had from elsewhere.
    #[must_use]
    pub(crate) fn without(self, kind: Kind) -> Self {
        Self { without: Some(kind), ..self }
    }

    /// Whether tracks of this kind are to be played.
    pub(super) fn wants(&self, kind: Kind) -> bool {
        self.without != Some(kind)
    }

    /// The stream has come to its end.
    pub(crate) fn end(&self) {
        for (_, track) in lock(&self.all).iter() {
            self.queues.end(*track);
        }
        self.complete();
    }

    /// The source was joined again: what comes next may be far after what came.
    pub(crate) fn rejoined(&self) {
        for (_, track) in lock(&self.all).iter() {
            self.queues.rejoined(*track);
        }
    }

    /// A stream of this kind is there that can't be played; `what` it is.
    pub(crate) fn unknown(&self, kind: Option<Kind>, what: String) {
        self.queues.add_unknown(kind, what);
    }

    /// One more demultiplexer will take a pad of its own.
    pub(crate) fn expect(&self) {
        self.queues.open();
    }

    /// A pad that was expected brings nothing that can be played.
    pub(crate) fn expected_none(&self) {
        self.queues.complete();
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
            containers: Mutex::default(),
            chains: Mutex::default(),
            // One that takes a pad of its own stands beside others.
            adopt: if kind.is_some() { tracks.snapshot() } else { Arc::clone(&tracks.earlier) },
            tracks: tracks.clone(),
        })
    }

    pub(super) fn add_container(&self, element: &gst::Element) {
        element.set_bus(Some(&self.bus));
        lock(&self.containers).push(element.clone());
    }

    pub(super) fn add_chain(&self, chain: Chain) {
        for parser in &chain.parsers {
            parser.set_bus(Some(&self.bus));
        }
        lock(&self.chains).push(chain);
    }

    /// Stops chains whose stream has ended, and gives how many are left. A source may begin new streams for as long as it lasts: radio
    /// in Ogg does with each title.
    pub(super) fn prune(&self) -> usize {
        // Stopped outside the lock: an element that stops waits for its streaming thread.
        let (over, left): (Vec<_>, Vec<_>) = lock(&self.chains).drain(..).partition(Chain::is_over);
        let count = left.len();
        lock(&self.chains).extend(left);
        over.iter().for_each(Chain::stop);
        count
    }

    /// Stops everything, from the source on, so that nothing is pushed into what has stopped.
    pub(super) fn stop(&self) {
        for container in std::mem::take(&mut *lock(&self.containers)) {
            let _ = container.set_state(gst::State::Null);
        }
        std::mem::take(&mut *lock(&self.chains)).iter().for_each(Chain::stop);
    }
}
