//! The pads of ours behind the parsers: buffers become access units on the source's timeline.

use super::context::Context;
use crate::access_unit::AccessUnit;
use crate::caps;
use crate::sync::lock;
use crate::time_shift::{FrameStamp, TimeShift};
use gstreamer as gst;
use media::RaslFilter;
use model::{Kind, MediaTime, Rotation};
use std::str::FromStr;
use std::sync::{Arc, Mutex};
use worker::Error;

/// What is known of the track that comes in at a pad.
#[derive(Default)]
struct Flow {
    segment: Option<gst::FormattedSegment<gst::ClockTime>>,
    caps: Option<gst::Caps>,
    rotation: Rotation,
    rasl: RaslFilter,
}

impl Flow {
    /// What a buffer holds, unless it references frames that did not come.
    fn unit(&mut self, kind: Kind, buffer: &gst::Buffer, shift: &TimeShift) -> Option<AccessUnit> {
        let unit = unit(kind, buffer, self.segment.as_ref()?, shift)?;
        // Fields, and further frames of a packet, have a DTS only, which does not reveal the display order.
        let known = kind == Kind::Video && (unit.key || buffer.pts().is_some());
        (!known || self.rasl.admits(unit.key, MediaTime::from_nanos(unit.pts))).then_some(unit)
    }
}

/// The pad for a track of these queues; `accepts` are the caps that its parser is to give.
pub(super) fn pad(context: &Arc<Context>, kind: Kind, track: usize, accepts: &str) -> Result<gst::Pad, Error> {
    let accepts = gst::Caps::from_str(accepts)?;
    let template = gst::PadTemplate::new("sink", gst::PadDirection::Sink, gst::PadPresence::Always, &accepts)?;
    let mut flow = Flow::default();
    // The decoder may be one that goes on: the first frames here reference nothing that it has.
    flow.rasl.missed();
    let flow = Arc::new(Mutex::new(flow));
    let (chain, events) = (Arc::clone(&flow), flow);
    let (queues, shift) = (context.queues.clone(), Arc::clone(&context.shift));
    let told = context.queues.clone();
    // A demultiplexer that reads a file by itself tells when a track ends; of others the feeder knows.
    let (last, crop) = (context.pulls, context.crop);
    let ended = Arc::downgrade(context);
    Ok(gst::Pad::builder_from_template(&template)
        .chain_function(move |_, _, buffer| {
            let unit = lock(&chain).unit(kind, &buffer, &shift);
            let wanted = unit.is_none_or(|unit| queues.push(track, unit));
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
                gst::EventView::FlushStart(_) => told.seek_begins(),
                gst::EventView::FlushStop(_) => {
                    lock(&events).rasl.missed();
                    told.seek_ends(track);
                }
                gst::EventView::Eos(_) if last => told.end(track),
                // Radio in Ogg begins again with each title, and an MPEG-TS with each change of its programme, with pads of their own.
                gst::EventView::Eos(_) => {
                    told.release(track);
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
    shift: &TimeShift,
) -> Option<AccessUnit> {
    // Headers alone. A key frame is marked as one, too, and has at least a DTS, though not more without a container.
    if buffer.flags().contains(gst::BufferFlags::HEADER) && buffer.dts_or_pts().is_none() {
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
    let duration = pts.saturating_sub(at).saturating_add(buffer.duration().map_or(0, ns));
    let own = buffer.dts().or(buffer.pts()).and_then(|time| segment.to_stream_time_full(time)).map(signed);
    let container_offset = own.map_or(0, |own| own.saturating_sub(at));
    let by = shift(FrameStamp { kind, at, duration, container_offset });
    let (dts, pts) = (dts.map(|d| d.saturating_add(by)), pts.saturating_add(by));
    Some(AccessUnit { pts, dts: dts.map(|d| d.min(pts)), key, data })
}
