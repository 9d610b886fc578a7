//! From a container's bytes to tracks: demultiplexer and parsers of GStreamer, plugged together by what the bytes are.
//!
//! No pipeline stands around them (see [`worker::pad_chain`]). Bytes go in at a pad of ours, either pulled by the demultiplexer from any
//! offset of a file, or pushed as they come. Access units come out at pads of ours, in the demultiplexer's own thread.

mod context;
mod output;
mod plug;

pub(crate) use context::Tracks;

use crate::container::is_mpegts;
use crate::fault::{internal, unplayable};
use crate::sync::lock;
use crate::time_shift::{self, TimeShift};
use context::Context;
use gstreamer::{self as gst, prelude::*};
use media::mpegts::filter::Filter;
use media::mpegts::pcr::PcrGate;
use media::mpegts::scte35::Splice;
use model::{Fault, MediaTime};
use plug::{Then, plug, plug_when_known};
use std::sync::{Arc, Mutex};

/// Reads a file at any offset: offset and length to bytes, fewer only at the end of the file.
pub(crate) type Reader = Box<dyn FnMut(u64, usize) -> Result<Vec<u8>, Fault> + Send>;

/// A running demultiplexer. Dropping it stops it.
pub(crate) struct Demultiplexer {
    context: Arc<Context>,
    head: gst::Pad,
    /// What is done to an MPEG-TS that is pushed.
    mpegts: Option<Mutex<Filter>>,
}

impl Demultiplexer {
    /// Opens something of this kind whose bytes can be read at any offset.
    ///
    /// # Errors
    /// If nothing here can open it.
    pub(crate) fn pull(tracks: &Tracks, kind: &gst::Caps, length: u64, reader: Reader) -> Result<Self, Fault> {
        let context = Context::new(tracks, time_shift::none(), true, Some(kind));
        let reader = Mutex::new(reader);
        let (queues, query) =
            (context.queues.clone(), move |query: &mut gst::QueryRef| plug::answer_query(query, length));
        let head = gst::Pad::builder(gst::PadDirection::Src)
            .query_function(move |pad, parent, q| query(q) || gst::Pad::query_default(pad, parent, q))
            .getrange_function(move |_, _, offset, buffer, size| {
                if offset >= length {
                    return Err(gst::FlowError::Eos);
                }
                let read = lock(&reader)(offset, size as usize);
                let bytes = read.map_err(|fault| {
                    queues.fail(fault);
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
        Ok(Self { context, head, mpegts: None })
    }

    /// Opens something of this kind whose bytes are pushed.
    ///
    /// # Errors
    /// If nothing here can open it.
    pub(crate) fn push(tracks: &Tracks, shift: TimeShift, kind: &gst::Caps) -> Result<Self, Fault> {
        Self::push_with(tracks, shift, kind, None)
    }

    /// Opens an MPEG-TS whose bytes are pushed, and whose frames wait for its first clock reference.
    ///
    /// # Errors
    /// If nothing here can open it.
    pub(crate) fn push_gated(
        tracks: &Tracks,
        shift: TimeShift,
        kind: &gst::Caps,
        gate: PcrGate,
    ) -> Result<Self, Fault> {
        Self::push_with(tracks, shift, kind, Some(gate))
    }

    fn push_with(tracks: &Tracks, shift: TimeShift, kind: &gst::Caps, gate: Option<PcrGate>) -> Result<Self, Fault> {
        let context = Context::new(tracks, shift, false, Some(kind));
        let head = gst::Pad::builder(gst::PadDirection::Src).build();
        head.set_active(true).map_err(internal)?;
        plug(&context, &head, kind, 0)?;
        head.push_event(gst::event::StreamStart::builder("0").build());
        head.push_event(gst::event::Caps::new(kind));
        head.push_event(gst::event::Segment::new(&gst::FormattedSegment::<gst::format::Bytes>::new()));
        let mpegts = is_mpegts(kind).then(|| {
            let filter = gate.map_or_else(Filter::default, |gate| Filter::default().with_pcr_gate(gate)).with_mender();
            // Packets with something before or after them, as files have them, do not come live.
            let bare = kind.structure(0).and_then(|s| s.get::<i32>("packetsize").ok()) == Some(188);
            Mutex::new(if bare && tracks.queues.is_live() { filter.with_terminator() } else { filter })
        });
        Ok(Self { context, head, mpegts })
    }

    /// Takes a pad of another element, whose caps may come later. The queues are to be opened for it before.
    pub(crate) fn attach(tracks: &Tracks, shift: TimeShift, pad: &gst::Pad) -> Self {
        let context = Context::new(tracks, shift, false, None);
        plug_when_known(&context, pad, 1, Then::OneMore);
        Self { context, head: pad.clone(), mpegts: None }
    }

    /// Hands over the next bytes; waits while enough is there. False if no more are wanted.
    pub(crate) fn push_bytes(&self, bytes: Vec<u8>) -> bool {
        match &self.mpegts {
            Some(filter) => {
                let (filtered, scrambled) = {
                    let mut filter = lock(filter);
                    let before = filter.programme();
                    let filtered = filter.push(bytes);
                    if let Some(programme) = filter.programme().filter(|_| before.is_none()) {
                        eprintln!("it carries several programmes: number {programme} is played");
                    }
                    (filtered, filter.is_scrambled())
                };
                if scrambled {
                    self.context
                        .queues
                        .fail(unplayable("its pictures and sound are scrambled: it can only be played with a key"));
                }
                self.feed(filtered)
            }
            None => self.feed((bytes, Vec::new())),
        }
    }

    fn feed(&self, (bytes, splices): (Vec<u8>, Vec<Splice>)) -> bool {
        for splice in splices {
            self.context.queues.splice(splice.ahead, splice.event);
        }
        bytes.is_empty() || self.head.push(gst::Buffer::from_mut_slice(bytes)).is_ok()
    }

    /// Ends a stream that is complete: what still waits for a clock reference is demultiplexed without one.
    pub(crate) fn finish(&self) {
        if let Some(filter) = &self.mpegts {
            let filtered = lock(filter).finish();
            self.feed(filtered);
        }
        self.end();
    }

    /// How long it is by what it says, in nanoseconds.
    pub(crate) fn duration(&self) -> Option<i64> {
        let demux = lock(&self.context.containers).first().cloned()?;
        let duration = demux.query_duration::<gst::ClockTime>().filter(|duration| !duration.is_zero())?;
        i64::try_from(duration.nseconds()).ok()
    }

    /// Goes on from the key frame before `to`; false if it can't seek.
    pub(crate) fn seek(&self, to: MediaTime) -> bool {
        let Some(demux) = lock(&self.context.containers).first().cloned() else { return false };
        let to = gst::ClockTime::from_nseconds(u64::try_from(to.as_nanos()).unwrap_or(0));
        let flags = gst::SeekFlags::FLUSH | gst::SeekFlags::KEY_UNIT | gst::SeekFlags::SNAP_BEFORE;
        let none = gst::ClockTime::NONE;
        demux.send_event(gst::event::Seek::new(1.0, flags, gst::SeekType::Set, to, gst::SeekType::None, none))
    }

    /// Nothing more comes: what is inside comes out. What still waits for a clock reference is dropped.
    pub(crate) fn end(&self) {
        self.head.push_event(gst::event::Eos::new());
    }
}

impl Drop for Demultiplexer {
    fn drop(&mut self) {
        self.context.stop();
        let _ = self.head.set_active(false);
        self.context.bus.unset_sync_handler();
    }
}

#[cfg(test)]
mod tests;
