//! From a container's bytes to tracks: demultiplexer and parsers of GStreamer, plugged together by what the bytes are.
//!
//! No pipeline stands around them (see [`worker::pad_chain`]): bytes go in at a pad of ours, either pulled by the demultiplexer from
//! any place of a file, or pushed as they come; access units come out at pads of ours, in the demultiplexer's own thread.

use crate::access_unit::AccessUnit;
use crate::caps::{self, Plan, Stream};
use crate::track_queues::{Kept, Stage};
use gstreamer::{self as gst, prelude::*};
use media::RaslFilter;
use media::au_detector::{AuDetector, SliceSyntax};
use media::mpegts::filter::Filter;
use media::mpegts::pcr::PcrGate;
use media::mpegts::scte35::Splice;
use model::{Kind, MediaTime, Rotation};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use timing::rebase::Rebase;
use worker::Error;
use worker::pad_chain::element;

/// Elements in one chain: a container in a container (ID3 before MP3) needs a few, and more is an attack.
const DEEPEST: usize = 24;

/// Bytes that the kind of a file is told by: an MPEG-TS needs some packets, and everything else less.
pub(crate) const HEAD: usize = 64 << 10;

/// The field of a kind's caps that says how much of its pictures is cropped, as VP6's decoder wants to know it.
pub(crate) const CROP: &str = "ingress-crop";

/// What reads a file at any place: offset and length to bytes, fewer only at the end of the file.
pub(crate) type Reader = Box<dyn FnMut(u64, usize) -> Result<Vec<u8>, String> + Send>;

/// Moves timestamps: what is to be added to a frame's to get those of the source's timeline, in nanoseconds.
pub(crate) type Shift = Arc<dyn Fn(Stamp) -> i64 + Send + Sync>;

/// A frame's time as a demultiplexer says it, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) kind: Kind,
    /// When it is decoded, or shown if that is all that is known.
    pub(crate) at: i64,
    /// How long after that it has been shown, as far as that is known.
    pub(crate) lasts: i64,
    /// By how much less `at` is than the container's own time, which counts from elsewhere than where this begins.
    pub(crate) less: i64,
}

/// What every pad's function needs.
struct Context {
    stage: Stage,
    bus: gst::Bus,
    shift: Shift,
    pulls: bool,
    crop: Option<u8>,
    elements: Mutex<Vec<gst::Element>>,
    tails: Mutex<Vec<gst::Pad>>,
    tracks: Tracks,
    /// Those of `tracks` that another demultiplexer or another pad began and that may be gone on with.
    adopt: Mutex<Vec<(Kind, usize)>>,
}

/// A running demultiplexer. Dropping it stops it.
pub(crate) struct Demux {
    context: Arc<Context>,
    head: gst::Pad,
    /// What is done to an MPEG-TS that is pushed.
    ts: Option<Mutex<Filter>>,
}

/// The tracks of one stream, which one demultiplexer after the other may fill: their kinds and numbers on the stage.
#[derive(Clone, Debug)]
pub(crate) struct Tracks {
    stage: Stage,
    all: Arc<Mutex<Vec<(Kind, usize)>>>,
    complete: Arc<AtomicBool>,
}

impl Tracks {
    /// None yet, on this stage.
    pub(crate) fn new(stage: &Stage) -> Self {
        Self { stage: stage.clone(), all: Arc::default(), complete: Arc::default() }
    }

    /// The stream has come to its end.
    pub(crate) fn end(&self) {
        for (_, track) in lock(&self.all).iter() {
            self.stage.end(*track);
        }
        self.complete();
    }

    /// A stream is there that can't be played.
    pub(crate) fn unknown(&self, what: String) {
        self.stage.add_unknown(what);
    }

    /// No further track will come.
    pub(crate) fn complete(&self) {
        if !self.complete.swap(true, Ordering::Relaxed) {
            self.stage.complete();
        }
    }
}

/// Timestamps as they are.
pub(crate) fn unshifted() -> Shift {
    Arc::new(|_| 0)
}

/// Timestamps of which the first becomes `at` (nanoseconds).
pub(crate) fn shifted(at: i64) -> Shift {
    let rebase = Rebase::new(at);
    Arc::new(move |stamp| rebase.offset(stamp.at))
}

/// What these first bytes of something are.
pub(crate) fn kind_of(head: &[u8]) -> Option<gst::Caps> {
    gst::SliceTypeFind::type_find(head).1
}

/// Whether these first bytes are enough to be sure of what they are.
pub(crate) fn surely(head: &[u8]) -> bool {
    gst::SliceTypeFind::type_find(head).0 >= gst::TypeFindProbability::Likely
}

/// Whether this is an MPEG-TS: it plays as it comes, and splice points lie in it.
pub(crate) fn is_ts(kind: &gst::CapsRef) -> bool {
    kind.structure(0).is_some_and(|s| s.name() == "video/mpegts")
}

impl Demux {
    /// Opens something of this kind whose bytes can be read at any place.
    ///
    /// # Errors
    /// If nothing here can open it, in words.
    pub(crate) fn pull(tracks: &Tracks, kind: &gst::Caps, length: u64, reader: Reader) -> Result<Self, String> {
        let context = Context::new(tracks, unshifted(), true, Some(kind));
        let reader = Mutex::new(reader);
        let (stage, query) = (context.stage.clone(), move |query: &mut gst::QueryRef| answer(query, length));
        let head = gst::Pad::builder(gst::PadDirection::Src)
            .query_function(move |pad, parent, q| query(q) || gst::Pad::query_default(pad, parent, q))
            .getrange_function(move |_, _, offset, buffer, size| {
                if offset >= length {
                    return Err(gst::FlowError::Eos);
                }
                let read = reader.lock().unwrap_or_else(PoisonError::into_inner)(offset, size as usize);
                let bytes = read.map_err(|fault| {
                    stage.fail(fault);
                    gst::FlowError::Error
                })?;
                match buffer {
                    Some(buffer) => {
                        buffer.copy_from_slice(0, &bytes).map_err(|_| gst::FlowError::Error)?;
                        buffer.set_size(bytes.len());
                        Ok(gst::PadGetRangeSuccess::FilledBuffer)
                    }
                    None => {
                        let mut new = gst::Buffer::from_mut_slice(bytes);
                        if let Some(b) = new.get_mut() {
                            b.set_offset(offset);
                        }
                        Ok(gst::PadGetRangeSuccess::NewBuffer(new))
                    }
                }
            })
            .build();
        plug(&context, &head, kind, 0)?;
        Ok(Self { context, head, ts: None })
    }

    /// Opens something of this kind whose bytes are pushed.
    ///
    /// # Errors
    /// If nothing here can open it, in words.
    pub(crate) fn push(tracks: &Tracks, shift: Shift, kind: &gst::Caps) -> Result<Self, String> {
        Self::push_with(tracks, shift, kind, None)
    }

    /// Opens an MPEG-TS whose bytes are pushed, and whose frames wait for its first clock reference.
    ///
    /// # Errors
    /// If nothing here can open it, in words.
    pub(crate) fn push_gated(tracks: &Tracks, shift: Shift, kind: &gst::Caps, gate: PcrGate) -> Result<Self, String> {
        Self::push_with(tracks, shift, kind, Some(gate))
    }

    fn push_with(tracks: &Tracks, shift: Shift, kind: &gst::Caps, gate: Option<PcrGate>) -> Result<Self, String> {
        let context = Context::new(tracks, shift, false, Some(kind));
        let head = gst::Pad::builder(gst::PadDirection::Src).build();
        head.set_active(true).map_err(|e| e.to_string())?;
        plug(&context, &head, kind, 0)?;
        head.push_event(gst::event::StreamStart::builder("0").build());
        head.push_event(gst::event::Caps::new(kind));
        head.push_event(gst::event::Segment::new(&gst::FormattedSegment::<gst::format::Bytes>::new()));
        let ts = is_ts(kind).then(|| {
            let filter = gate.map_or_else(Filter::default, |gate| Filter::default().with_pcr_gate(gate));
            // Packets with something before or after them, as files have them, do not come live.
            let bare = kind.structure(0).and_then(|s| s.get::<i32>("packetsize").ok()) == Some(188);
            Mutex::new(if bare && tracks.stage.is_live() { filter.with_terminator() } else { filter })
        });
        Ok(Self { context, head, ts })
    }

    /// Takes a pad of another element's, whose caps may come later.
    pub(crate) fn pad(tracks: &Tracks, shift: Shift, pad: &gst::Pad) -> Self {
        let context = Context::new(tracks, shift, false, None);
        // Other pads may be there already, and be known before this one.
        tracks.stage.open();
        later(&context, pad, 1, Then::OneMore);
        Self { context, head: pad.clone(), ts: None }
    }

    /// Hands over the next bytes; waits while enough is there. False if it takes no more.
    pub(crate) fn bytes(&self, bytes: Vec<u8>) -> bool {
        match &self.ts {
            Some(filter) => {
                let filtered = lock(filter).push(bytes);
                self.feed(filtered)
            }
            None => self.feed((bytes, Vec::new())),
        }
    }

    fn feed(&self, (bytes, splices): (Vec<u8>, Vec<Splice>)) -> bool {
        for splice in splices {
            self.context.stage.splice(splice.ahead, splice.event);
        }
        bytes.is_empty() || self.head.push(gst::Buffer::from_mut_slice(bytes)).is_ok()
    }

    /// The stream ends here: frames that still wait for a clock reference are demultiplexed without.
    pub(crate) fn finish(&self) {
        if let Some(filter) = &self.ts {
            let filtered = lock(filter).finish();
            self.feed(filtered);
        }
        self.end();
    }

    /// Goes on from the key frame before `to`; false if what this is does not let itself be jumped in.
    pub(crate) fn jump(&self, to: MediaTime) -> bool {
        let Some(demux) = lock(&self.context.elements).first().cloned() else { return false };
        let to = gst::ClockTime::from_nseconds(u64::try_from(to.as_nanos()).unwrap_or(0));
        let flags = gst::SeekFlags::FLUSH | gst::SeekFlags::KEY_UNIT | gst::SeekFlags::SNAP_BEFORE;
        let none = gst::ClockTime::NONE;
        demux.send_event(gst::event::Seek::new(1.0, flags, gst::SeekType::Set, to, gst::SeekType::None, none))
    }

    /// Nothing more comes: what is inside comes out.
    pub(crate) fn end(&self) {
        self.head.push_event(gst::event::Eos::new());
    }
}

impl Drop for Demux {
    fn drop(&mut self) {
        let elements = std::mem::take(&mut *lock(&self.context.elements));
        // From the source's side on, so that nothing is pushed into what has stopped.
        for element in &elements {
            let _ = element.set_state(gst::State::Null);
        }
        for tail in lock(&self.context.tails).drain(..) {
            let _ = tail.set_active(false);
        }
        let _ = self.head.set_active(false);
        self.context.bus.unset_sync_handler();
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Context {
    fn new(tracks: &Tracks, shift: Shift, pulls: bool, kind: Option<&gst::Caps>) -> Arc<Self> {
        let crop = kind.and_then(|k| k.structure(0)?.get::<i32>(CROP).ok()).and_then(|crop| u8::try_from(crop).ok());
        let bus = gst::Bus::new();
        let stage = tracks.stage.clone();
        bus.set_sync_handler(move |_, message| {
            if let gst::MessageView::Error(error) = message.view() {
                stage.fail(format!("it can't be read: {}", error.error().message()));
            }
            gst::BusSyncReply::Drop
        });
        Arc::new(Self {
            stage: tracks.stage.clone(),
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

    fn add(&self, element: &gst::Element) {
        element.set_bus(Some(&self.bus));
        lock(&self.elements).push(element.clone());
    }
}

/// What a demultiplexer asks of a file.
fn answer(query: &mut gst::QueryRef, length: u64) -> bool {
    let bytes = gst::format::Bytes::from_u64(length);
    match query.view_mut() {
        gst::QueryViewMut::Scheduling(q) => {
            q.set(gst::SchedulingFlags::SEEKABLE, 1, -1, 0);
            q.add_scheduling_modes([gst::PadMode::Pull, gst::PadMode::Push]);
            true
        }
        gst::QueryViewMut::Duration(q) if q.format() == gst::Format::Bytes => {
            q.set(bytes);
            true
        }
        gst::QueryViewMut::Seeking(q) if q.format() == gst::Format::Bytes => {
            q.set(true, gst::format::Bytes::ZERO, bytes);
            true
        }
        _ => false,
    }
}

/// Links what understands `kind` behind `pad`.
fn plug(context: &Arc<Context>, pad: &gst::Pad, kind: &gst::CapsRef, depth: usize) -> Result<(), String> {
    let told = |e: Error| e.to_string();
    if lock(&context.elements).len() >= DEEPEST {
        return Err("too many streams lie in one another in it".into());
    }
    match caps::stream(kind) {
        Stream::Container(factory) => open(context, pad, factory, depth).map_err(told),
        Stream::Media(plan) => finish(context, pad, &plan).map_err(told),
        Stream::Unknown(_) if depth == 0 && kind.structure(0).is_some_and(|s| s.name().starts_with("image/")) => {
            Err("this is a still picture, and no media that can be played".into())
        }
        Stream::Unknown(name) if depth == 0 => Err(format!("{name} can't be opened here")),
        Stream::Unknown(name) => {
            context.stage.add_unknown(name);
            swallow(context, pad).map_err(told)
        }
        Stream::Ignored if depth == 0 => Err("this is not media".into()),
        Stream::Ignored => swallow(context, pad).map_err(told),
    }?;
    // A file that is one stream has no demultiplexer to say so.
    if depth == 0 && matches!(caps::stream(kind), Stream::Media(_)) {
        context.tracks.complete();
    }
    Ok(())
}

/// Lets come what nobody looks for: a pad without an end is a fault to a demultiplexer that has no other.
fn swallow(context: &Arc<Context>, pad: &gst::Pad) -> Result<(), Error> {
    let sink = gst::Pad::builder(gst::PadDirection::Sink).chain_function(|_, _, _| Ok(gst::FlowSuccess::Ok)).build();
    sink.set_active(true)?;
    link(pad, &sink)?;
    lock(&context.tails).push(sink);
    Ok(())
}

fn open(context: &Arc<Context>, pad: &gst::Pad, factory: &str, depth: usize) -> Result<(), Error> {
    let demux = element(factory)?;
    context.add(&demux);
    let added = Arc::downgrade(context);
    demux.connect_pad_added(move |_, pad| {
        let Some(context) = added.upgrade() else { return };
        if pad.direction() == gst::PadDirection::Src {
            later(&context, pad, depth + 1, Then::Nothing);
        }
    });
    let complete = Arc::downgrade(context);
    demux.connect_no_more_pads(move |_| {
        if let Some(context) = complete.upgrade() {
            context.tracks.complete();
        }
    });
    if let Some(only) = demux.static_pad("src") {
        later(context, &only, depth + 1, Then::AllKnown);
    }
    start(pad, &demux)
}

/// What it means that a pad was plugged.
#[derive(Clone, Copy)]
enum Then {
    /// Nothing: its demultiplexer says when it has no more.
    Nothing,
    /// Its element has no other.
    AllKnown,
    /// One of those that were waited for.
    OneMore,
}

/// Plugs a pad as soon as its caps are known.
fn later(context: &Arc<Context>, pad: &gst::Pad, depth: usize, then: Then) {
    let tell = move |context: &Arc<Context>, fault: Result<(), String>| {
        if let Err(fault) = fault {
            context.stage.add_unknown(fault);
        }
        match then {
            Then::Nothing => {}
            Then::AllKnown => context.tracks.complete(),
            Then::OneMore => context.stage.complete(),
        }
    };
    if let Some(caps) = pad.current_caps() {
        return tell(context, plug(context, pad, &caps, depth));
    }
    let context = Arc::downgrade(context);
    pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |pad, info| {
        let Some(gst::EventView::Caps(caps)) = info.event().map(|e| e.view()) else { return gst::PadProbeReturn::Ok };
        if let Some(context) = context.upgrade() {
            tell(&context, plug(&context, pad, caps.caps(), depth));
        }
        gst::PadProbeReturn::Remove
    });
}

fn start(pad: &gst::Pad, element: &gst::Element) -> Result<(), Error> {
    let sink = element.static_pad("sink").ok_or_else(|| Error::NoElement(format!("{}.sink", element.name())))?;
    link(pad, &sink)?;
    element.set_state(gst::State::Playing)?;
    Ok(())
}

fn link(from: &gst::Pad, to: &gst::Pad) -> Result<(), Error> {
    from.link_full(to, gst::PadLinkCheck::CAPS)
        .map(drop)
        .map_err(|e| gst::glib::bool_error!("{} does not link to {}: {e}", from.name(), to.name()).into())
}

/// Parsers, and a pad of ours behind them.
fn finish(context: &Arc<Context>, pad: &gst::Pad, plan: &Plan) -> Result<(), Error> {
    let kept = Kept { kind: plan.kind, rank: 0, reorders: plan.reorders };
    let adopted = {
        let mut adopt = lock(&context.adopt);
        adopt.iter().position(|(kind, _)| *kind == plan.kind).map(|i| adopt.remove(i).1)
    };
    let track = adopted.unwrap_or_else(|| {
        let track = context.stage.add(kept);
        lock(&context.tracks.all).push((plan.kind, track));
        track
    });
    let tail = tail(context, plan.kind, track, plan.accepts)?;
    tail.set_active(true)?;
    let parsers: Vec<gst::Element> = plan.elements.iter().map(|f| element(f)).collect::<Result<_, _>>()?;
    let mut end = tail.clone();
    for parser in parsers.iter().rev() {
        context.add(parser);
        // Parameter sets again before key frames: what decodes may begin at any of them.
        if parser.find_property("config-interval").is_some() {
            parser.set_property_from_str("config-interval", "-1");
        }
        let src = parser.static_pad("src").ok_or_else(|| Error::NoElement("a parser's pad".into()))?;
        link(&src, &end)?;
        parser.set_state(gst::State::Playing)?;
        end = parser.static_pad("sink").ok_or_else(|| Error::NoElement("a parser's pad".into()))?;
    }
    lock(&context.tails).push(tail);
    link(pad, &end)?;
    if context.stage.is_live() {
        tell_alignment(pad);
    }
    Ok(())
}

/// Lets a parser behind an MPEG-TS know that it gets whole pictures, once that is seen: it would hold each until the next begins.
fn tell_alignment(pad: &gst::Pad) {
    let Some(caps) = pad.current_caps() else { return };
    let Some(s) = caps.structure(0).filter(|s| s.get::<&str>("stream-format") == Ok("byte-stream")) else { return };
    let Some(syntax) = SliceSyntax::of(s.name()).filter(|_| !s.has_field("alignment")) else { return };
    let detector = Mutex::new(AuDetector::new(syntax));
    pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        let Some(map) = info.buffer().and_then(|b| b.map_readable().ok()) else { return gst::PadProbeReturn::Ok };
        if let (Some(whole), Some(parser)) = (lock(&detector).push(&map), pad.peer()) {
            let mut caps = caps.clone();
            if whole {
                caps.make_mut().set("alignment", "au");
            }
            parser.send_event(gst::event::Caps::new(&caps));
        }
        gst::PadProbeReturn::Ok
    });
}

#[derive(Default)]
struct Flow {
    segment: Option<gst::FormattedSegment<gst::ClockTime>>,
    caps: Option<gst::Caps>,
    rotation: Rotation,
    leading: RaslFilter,
}

impl Flow {
    /// What a buffer holds, unless it builds on pictures that did not come.
    fn unit(&mut self, kind: Kind, buffer: &gst::Buffer, shift: &Shift) -> Option<AccessUnit> {
        let unit = unit(kind, buffer, self.segment.as_ref()?, shift)?;
        // Of fields and further pictures of a packet only decoding times are known, which say nothing of this.
        let said = kind == Kind::Video && (unit.key || buffer.pts().is_some());
        (!said || self.leading.admits(unit.key, media_time(unit.pts))).then_some(unit)
    }
}

fn tail(context: &Arc<Context>, kind: Kind, track: usize, accepts: &str) -> Result<gst::Pad, Error> {
    let accepts = gst::Caps::from_str(accepts)?;
    let template = gst::PadTemplate::new("sink", gst::PadDirection::Sink, gst::PadPresence::Always, &accepts)?;
    let mut flow = Flow::default();
    // The decoder may be one that goes on: what comes first here follows nothing that it knows.
    flow.leading.missed();
    let flow = Arc::new(Mutex::new(flow));
    let (chain, events) = (Arc::clone(&flow), flow);
    let (stage, shift) = (context.stage.clone(), Arc::clone(&context.shift));
    let told = context.stage.clone();
    // A demultiplexer that reads a file by itself says when a track ends; of others the feeder knows.
    let (last, crop) = (context.pulls, context.crop);
    let ended = Arc::downgrade(context);
    Ok(gst::Pad::builder_from_template(&template)
        .chain_function(move |_, _, buffer| {
            let unit = lock(&chain).unit(kind, &buffer, &shift);
            let wanted = unit.is_none_or(|unit| stage.push(track, unit));
            if wanted { Ok(gst::FlowSuccess::Ok) } else { Err(gst::FlowError::Eos) }
        })
        .event_function(move |_, _, event| {
            match event.view() {
                gst::EventView::Caps(caps) => {
                    let mut flow = lock(&events);
                    if flow.caps.as_deref() != Some(caps.caps()) {
                        flow.caps = Some(caps.caps_owned());
                        if let Some((config, rank)) = caps::config(caps.caps(), flow.rotation, crop) {
                            told.config(track, config, rank);
                        }
                    }
                }
                gst::EventView::Tag(tag) => {
                    let mut flow = lock(&events);
                    if let Some(rotation) = caps::rotation(tag.tag()).filter(|rotation| *rotation != flow.rotation) {
                        flow.rotation = rotation;
                        if let Some((config, rank)) = flow.caps.as_ref().and_then(|c| caps::config(c, rotation, crop)) {
                            told.config(track, config, rank);
                        }
                    }
                }
                gst::EventView::Segment(s) => lock(&events).segment = s.segment().downcast_ref().cloned(),
                gst::EventView::FlushStart(_) => told.jump_begins(),
                gst::EventView::FlushStop(_) => {
                    lock(&events).leading.missed();
                    told.jump_ends(track);
                }
                gst::EventView::Eos(_) if last => told.end(track),
                // Radio in Ogg begins anew with each title, with pads of its own.
                gst::EventView::Eos(_) => {
                    if let Some(context) = ended.upgrade() {
                        lock(&context.adopt).push((kind, track));
                    }
                }
                _ => {}
            }
            true
        })
        .build())
}

fn unit(
    kind: Kind,
    buffer: &gst::Buffer,
    segment: &gst::FormattedSegment<gst::ClockTime>,
    shift: &Shift,
) -> Option<AccessUnit> {
    if buffer.flags().contains(gst::BufferFlags::HEADER) && buffer.pts().is_none() {
        return None;
    }
    let ns = |t: gst::ClockTime| i64::try_from(t.nseconds()).unwrap_or(i64::MAX);
    let signed = |time| match time {
        gst::Signed::Positive(t) => ns(t),
        gst::Signed::Negative(t) => -ns(t),
    };
    let running = |time: gst::ClockTime| segment.to_running_time_full(time).map(signed);
    let dts = buffer.dts().and_then(running);
    let pts = buffer.pts().and_then(running).or(dts)?;
    let key = !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
    let data = caps::bytes_of(buffer)?;
    if data.is_empty() {
        return None;
    }
    let at = dts.unwrap_or(pts);
    let lasts = pts.saturating_sub(at).saturating_add(buffer.duration().map_or(0, ns));
    let own = buffer.dts().or(buffer.pts()).and_then(|time| segment.to_stream_time_full(time)).map(signed);
    let less = own.map_or(0, |own| own.saturating_sub(at));
    let by = shift(Stamp { kind, at, lasts, less });
    let (dts, pts) = (dts.map(|d| d.saturating_add(by)), pts.saturating_add(by));
    Some(AccessUnit { pts, dts: dts.map(|d| d.min(pts)), key, data })
}

/// Nanoseconds as media time.
pub(crate) fn media_time(ns: i64) -> MediaTime {
    MediaTime::from_nanos(ns)
}

#[cfg(test)]
mod tests;
