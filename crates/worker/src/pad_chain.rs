//! A chain: linked GStreamer elements that the caller's own thread drives.
//!
//! No pipeline, clock, appsrc, queue or appsink stands around them: a buffer pushed in at the head runs through all elements
//! in the same call, and what comes out at the tail is there when the call returns. So every thread of the child is one of
//! ours, nothing waits for a hand-over between threads, a state change is a plain function call, and the order of things is
//! the same in every run. (GStreamer's own test harness drives elements in this way.)

use crate::error::Error;
use bytes::Bytes;
use gstreamer::{self as gst, prelude::*};
use gstreamer_video as gst_video;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What lies between session time and GStreamer time: GStreamer's has no negative values, but a decoding time may lie
/// below zero. An hour is more than any reordering.
const ZERO: i64 = 3_600_000_000_000;

/// Session time as GStreamer time; `None` more than an hour below zero.
pub fn to_clock(time: model::MediaTime) -> Option<gst::ClockTime> {
    u64::try_from(time.as_nanos().checked_add(ZERO)?).ok().map(gst::ClockTime::from_nseconds)
}

/// GStreamer time as session time.
pub fn from_clock(time: gst::ClockTime) -> model::MediaTime {
    model::MediaTime::from_nanos(i64::try_from(time.nseconds()).unwrap_or(i64::MAX).saturating_sub(ZERO))
}

/// What came out at the tail.
#[derive(Debug)]
pub enum Output {
    /// The buffers that follow look like this.
    Caps(gst::Caps),
    /// A buffer, and its time on the head's timeline (elements may move both buffer times and segment).
    Buffer(gst::Buffer, Option<gst::ClockTime>),
}

#[derive(Default)]
struct Tail {
    outputs: VecDeque<Output>,
    segment: Option<gst::FormattedSegment<gst::ClockTime>>,
    error: Option<String>,
}

type Shared = Arc<Mutex<Tail>>;

fn lock(tail: &Shared) -> MutexGuard<'_, Tail> {
    tail.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Linked elements between two pads of ours. They stop when it is dropped.
#[derive(Debug)]
pub struct PadChain {
    head: gst::Pad,
    tail: gst::Pad,
    elements: Vec<gst::Element>,
    shared: Shared,
}

impl std::fmt::Debug for Tail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tail").field("outputs", &self.outputs.len()).field("error", &self.error).finish_non_exhaustive()
    }
}

impl PadChain {
    /// Links `elements` in this order and starts them. `accepts` is what the tail takes.
    ///
    /// # Errors
    /// If they cannot be linked or started.
    pub fn new(elements: Vec<gst::Element>, accepts: &gst::Caps) -> Result<Self, Error> {
        let shared = Shared::default();
        let bus = errors_only(&shared);
        let head = gst::Pad::builder(gst::PadDirection::Src).build();
        let tail = tail_pad(&shared, accepts)?;
        let chain = Self { head, tail, elements, shared };
        chain.tail.set_active(true)?;
        let mut before = chain.head.clone();
        for element in &chain.elements {
            element.set_bus(Some(&bus));
            link(&before, &static_pad(element, "sink")?)?;
            before = static_pad(element, "src")?;
        }
        link(&before, &chain.tail)?;
        for element in chain.elements.iter().rev() {
            element.set_state(gst::State::Playing)?;
        }
        chain.head.set_active(true)?;
        chain.head.push_event(gst::event::StreamStart::builder("0").build());
        Ok(chain)
    }

    /// Says what the buffers that follow look like.
    ///
    /// # Errors
    /// If the first element does not take such buffers.
    pub fn caps(&self, caps: &gst::Caps) -> Result<(), Error> {
        if !self.head.push_event(gst::event::Caps::new(caps)) {
            return Err(self.failure(gst::FlowError::NotNegotiated));
        }
        if self.head.sticky_event::<gst::event::Segment>(0).is_none() {
            self.head.push_event(gst::event::Segment::new(&gst::FormattedSegment::<gst::ClockTime>::new()));
        }
        Ok(())
    }

    /// Pushes one buffer through all elements.
    ///
    /// # Errors
    /// If an element gives up; the chain is of no use after that.
    pub fn push(&self, buffer: gst::Buffer) -> Result<(), Error> {
        self.head.push(buffer).map(drop).map_err(|flow| self.failure(flow))
    }

    /// Lets all that is inside come out. Nothing can be pushed after that.
    pub fn drain(&self) {
        self.head.push_event(gst::event::Eos::new());
    }

    /// Asks the last element for a key frame at the next buffer.
    pub fn force_key_frame(&self) {
        self.tail.push_event(gst_video::UpstreamForceKeyUnitEvent::builder().all_headers(true).build());
    }

    /// The next of what came out.
    pub fn next_output(&self) -> Option<Output> {
        lock(&self.shared).outputs.pop_front()
    }

    fn failure(&self, flow: gst::FlowError) -> Error {
        Error::Flow { flow, text: lock(&self.shared).error.take() }
    }
}

impl Drop for PadChain {
    fn drop(&mut self) {
        // Failing to stop leaves nothing else to try.
        for element in &self.elements {
            let _ = element.set_state(gst::State::Null);
        }
        let _ = self.head.set_active(false);
        let _ = self.tail.set_active(false);
    }
}

/// A bus that keeps the text of the first error and drops all else at once: nobody reads a queue of messages here, so one
/// would grow for as long as the stream lasts.
fn errors_only(shared: &Shared) -> gst::Bus {
    let bus = gst::Bus::new();
    let shared = Arc::clone(shared);
    bus.set_sync_handler(move |_, message| {
        if let gst::MessageView::Error(error) = message.view() {
            lock(&shared).error.get_or_insert_with(|| error.error().message().to_owned());
        }
        gst::BusSyncReply::Drop
    });
    bus
}

fn tail_pad(shared: &Shared, accepts: &gst::Caps) -> Result<gst::Pad, Error> {
    let template = gst::PadTemplate::new("sink", gst::PadDirection::Sink, gst::PadPresence::Always, accepts)?;
    let (chain, event) = (Arc::clone(shared), Arc::clone(shared));
    Ok(gst::Pad::builder_from_template(&template)
        .chain_function(move |_, _, buffer| {
            let mut tail = lock(&chain);
            let time = match (&tail.segment, buffer.pts()) {
                (Some(segment), Some(pts)) => segment.to_running_time(pts),
                (_, pts) => pts,
            };
            tail.outputs.push_back(Output::Buffer(buffer, time));
            Ok(gst::FlowSuccess::Ok)
        })
        .event_function(move |_, _, e| {
            match e.view() {
                gst::EventView::Caps(caps) => lock(&event).outputs.push_back(Output::Caps(caps.caps_owned())),
                gst::EventView::Segment(s) => lock(&event).segment = s.segment().downcast_ref().cloned(),
                _ => {}
            }
            true
        })
        .query_function(|pad, parent, query| {
            if let gst::QueryViewMut::Allocation(q) = query.view_mut() {
                // With this a decoder writes into padded pictures of its own; without, it copies each one.
                q.add_allocation_meta::<gst_video::VideoMeta>(None);
                return true;
            }
            gst::Pad::query_default(pad, parent, query)
        })
        .build())
}

fn static_pad(element: &gst::Element, name: &str) -> Result<gst::Pad, Error> {
    element.static_pad(name).ok_or_else(|| Error::NoElement(format!("{}.{name}", element.name())))
}

fn link(from: &gst::Pad, to: &gst::Pad) -> Result<(), Error> {
    // The elements have no common parent, which the default checks ask for.
    from.link_full(to, gst::PadLinkCheck::CAPS)
        .map(drop)
        .map_err(|e| gst::glib::bool_error!("{} does not link to {}: {e}", from.name(), to.name()).into())
}

/// A buffer's bytes where they lie, for as long as somebody needs them; `None` if they can't be read.
pub fn into_bytes(buffer: gst::Buffer) -> Option<Bytes> {
    buffer.into_mapped_buffer_readable().ok().map(Bytes::from_owner)
}

/// Makes an element by its factory's name.
///
/// # Errors
/// [`Error::NoElement`] if it is not installed.
pub fn element(factory: &str) -> Result<gst::Element, Error> {
    gst::ElementFactory::make(factory).build().map_err(|_| Error::NoElement(factory.to_owned()))
}

/// Makes the first element of `factories` that is installed; `what` is for the error.
///
/// # Errors
/// [`Error::NoElement`] if none is.
pub fn first_element(what: &str, factories: &[&str]) -> Result<gst::Element, Error> {
    factories
        .iter()
        .find_map(|f| gst::ElementFactory::find(f)?.create().build().ok())
        .ok_or_else(|| Error::NoElement(what.to_owned()))
}

/// Sets those of the properties that the element has: their set differs between elements and between GStreamer's versions.
pub fn set_known(element: &gst::Element, properties: &[(&str, &str)]) {
    for (name, value) in properties {
        let Some(known) = element.find_property(name) else { continue };
        // Texts are taken as they are. Of all else only what the property takes is set: setting anything else would panic.
        if known.value_type() == gst::glib::Type::STRING {
            element.set_property(name, *value);
            continue;
        }
        match gst::glib::Value::deserialize(value, known.value_type()) {
            Ok(read) => element.set_property_from_value(name, &read),
            Err(_) => eprintln!("{}: {name} does not take {value:?}", element.name()),
        }
    }
}
