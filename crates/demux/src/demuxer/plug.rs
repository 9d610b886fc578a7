//! Plugs GStreamer's elements together: containers, parsers, and pads of ours behind them.

use super::context::{Chain, Context};
use super::output;
use crate::caps::{self, ParserChain, Stream};
use crate::fault::{internal, of_worker, unplayable};
use crate::sync::lock;
use gstreamer::{self as gst, prelude::*};
use media::au_detector::{AuDetector, SliceSyntax};
use model::Fault;
use std::sync::{Arc, Mutex};
use worker::pad_chain::element;

/// The most containers in each other. Tags before audio (ID3, APE) need two or three; more is an attack.
const MAX_DEPTH: usize = 8;
/// The most streams at a time. A transponder's whole MPEG-TS has up to a hundred; more is an attack.
const MAX_STREAMS: usize = 256;

/// Answers what a demultiplexer asks of a file.
pub(super) fn answer_query(query: &mut gst::QueryRef, length: u64) -> bool {
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

/// Links what understands `kind` behind `pad`, which is `depth` containers from the source.
pub(super) fn plug(context: &Arc<Context>, pad: &gst::Pad, kind: &gst::CapsRef, depth: usize) -> Result<(), Fault> {
    if depth > MAX_DEPTH {
        return Err(unplayable("too many containers are nested in it"));
    }
    if context.prune() >= MAX_STREAMS {
        return Err(unplayable(format!("it has more than {MAX_STREAMS} streams")));
    }
    match caps::stream(kind) {
        Stream::Container(factory) => open_container(context, pad, factory, depth),
        Stream::Media(plan) if depth > 0 && !context.tracks.wants(plan.kind) => discard(context, pad),
        Stream::Media(plan) => parse(context, pad, &plan),
        Stream::Unknown(_) if depth == 0 && kind.structure(0).is_some_and(|s| s.name().starts_with("image/")) => {
            Err(unplayable("this is a still picture, and no media that can be played"))
        }
        Stream::Unknown(name) if depth == 0 => Err(unplayable(format!("{name} can't be opened here"))),
        Stream::Unknown(name) => {
            context.queues.add_unknown(caps::kind(kind), name);
            discard(context, pad)
        }
        Stream::Ignored if depth == 0 => Err(unplayable("this is not media")),
        Stream::Ignored => discard(context, pad),
    }?;
    // A file that is one stream has no demultiplexer to say that there is no other.
    if depth == 0 && matches!(caps::stream(kind), Stream::Media(_)) {
        context.tracks.complete();
    }
    Ok(())
}

/// Discards what nobody looks for: a demultiplexer fails if its only pad is not linked.
fn discard(context: &Arc<Context>, pad: &gst::Pad) -> Result<(), Fault> {
    let sink = gst::Pad::builder(gst::PadDirection::Sink).chain_function(|_, _, _| Ok(gst::FlowSuccess::Ok)).build();
    sink.set_active(true).map_err(internal)?;
    link(pad, &sink)?;
    context.add_chain(Chain { parsers: Vec::new(), tail: sink });
    Ok(())
}

fn open_container(context: &Arc<Context>, pad: &gst::Pad, factory: &str, depth: usize) -> Result<(), Fault> {
    let demux = element(factory).map_err(of_worker)?;
    context.add_container(&demux);
    let added = Arc::downgrade(context);
    demux.connect_pad_added(move |_, pad| {
        let Some(context) = added.upgrade() else { return };
        if pad.direction() == gst::PadDirection::Src {
            plug_when_known(&context, pad, depth + 1, Then::Nothing);
        }
    });
    let complete = Arc::downgrade(context);
    demux.connect_no_more_pads(move |_| {
        if let Some(context) = complete.upgrade() {
            context.tracks.complete();
        }
    });
    if let Some(only) = demux.static_pad("src") {
        plug_when_known(context, &only, depth + 1, Then::AllKnown);
    }
    start(pad, &demux)
}

/// What it means that a pad was plugged.
#[derive(Clone, Copy)]
pub(super) enum Then {
    /// Nothing: its demultiplexer says when it has no more.
    Nothing,
    /// Its element has no other.
    AllKnown,
    /// One of those that were waited for.
    OneMore,
}

/// Plugs a pad as soon as its caps are known.
pub(super) fn plug_when_known(context: &Arc<Context>, pad: &gst::Pad, depth: usize, then: Then) {
    let done = move |context: &Arc<Context>, kind: &gst::CapsRef, plugged: Result<(), Fault>| {
        if let Err(fault) = plugged {
            context.queues.add_unknown(caps::kind(kind), fault.text);
        }
        match then {
            Then::Nothing => {}
            Then::AllKnown => context.tracks.complete(),
            Then::OneMore => context.queues.complete(),
        }
    };
    if let Some(caps) = pad.current_caps() {
        return done(context, &caps, plug(context, pad, &caps, depth));
    }
    let context = Arc::downgrade(context);
    pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |pad, info| {
        let Some(gst::EventView::Caps(caps)) = info.event().map(|e| e.view()) else { return gst::PadProbeReturn::Ok };
        if let Some(context) = context.upgrade() {
            done(&context, caps.caps(), plug(&context, pad, caps.caps(), depth));
        }
        gst::PadProbeReturn::Remove
    });
}

fn start(pad: &gst::Pad, element: &gst::Element) -> Result<(), Fault> {
    let sink = static_pad(element, "sink")?;
    link(pad, &sink)?;
    play(element)
}

fn play(element: &gst::Element) -> Result<(), Fault> {
    element.set_state(gst::State::Playing).map(drop).map_err(|e| of_worker(e.into()))
}

fn static_pad(element: &gst::Element, name: &str) -> Result<gst::Pad, Fault> {
    element.static_pad(name).ok_or_else(|| internal(format!("{} has no pad {name}", element.name())))
}

/// What does not link does not fit: the source says something that its streams are not.
fn link(from: &gst::Pad, to: &gst::Pad) -> Result<(), Fault> {
    let linked = from.link_full(to, gst::PadLinkCheck::CAPS);
    linked.map(drop).map_err(|e| unplayable(format!("{} does not link to {}: {e}", from.name(), to.name())))
}

/// Parsers, and a pad of ours behind them.
fn parse(context: &Arc<Context>, pad: &gst::Pad, plan: &ParserChain) -> Result<(), Fault> {
    let adopted = {
        let mut adopt = lock(&context.adopt);
        adopt.iter().position(|(kind, _)| *kind == plan.kind).map(|i| adopt.remove(i).1)
    };
    if let Some(track) = adopted {
        context.queues.adopt(track);
    }
    let track = adopted.unwrap_or_else(|| {
        let track = context.queues.add(plan.kind, plan.reordered);
        lock(&context.tracks.all).push((plan.kind, track));
        track
    });
    let tail = output::pad(context, plan.kind, track, plan.accepts).map_err(of_worker)?;
    tail.set_active(true).map_err(internal)?;
    let parsers: Vec<gst::Element> =
        plan.elements.iter().map(|f| element(f)).collect::<Result<_, _>>().map_err(of_worker)?;
    context.add_chain(Chain { parsers: parsers.clone(), tail: tail.clone() });
    let mut end = tail;
    for parser in parsers.iter().rev() {
        // Parameter sets again before key frames: a decoder may begin at any of them.
        if parser.find_property("config-interval").is_some() {
            parser.set_property_from_str("config-interval", "-1");
        }
        link(&static_pad(parser, "src")?, &end)?;
        end = static_pad(parser, "sink")?;
    }
    link(pad, &end)?;
    // Not before all is linked: as it starts, the first parser looks whether it can read a file by itself.
    for parser in parsers.iter().rev() {
        play(parser)?;
    }
    if context.queues.is_live() {
        tell_alignment(pad);
    }
    Ok(())
}

/// Tells a parser behind an MPEG-TS that it gets whole access units, once that is seen: it would hold each until the next begins.
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
