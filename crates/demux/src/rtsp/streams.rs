//! The streams of an RTSP connection: which are asked for, and what stands behind each. One that breaks ends alone.

use super::markers::{self, Markers};
use crate::demuxer::{Demultiplexer, Tracks};
use crate::fault::{internal, of_worker, unplayable};
use crate::reconnect::{Arrivals, Connection, Outcome};
use crate::sync::lock;
use crate::time_shift::TimeShift;
use gstreamer::{self as gst, prelude::*};
use model::{Fault, Kind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex};
use worker::pad_chain::{element, set_known};

/// Where the streams of a connection go.
pub(super) struct Streams {
    tracks: Tracks,
    shift: TimeShift,
    arrivals: Arrivals,
    running: Arc<Mutex<Running>>,
    /// How many are asked for.
    wanted: AtomicUsize,
    /// Those that nothing here can play.
    refused: Mutex<Vec<String>>,
    /// How many have come, and are not over.
    left: Arc<AtomicUsize>,
    ends: SyncSender<Outcome>,
}

/// What stands behind the streams.
#[derive(Default)]
struct Running {
    demuxes: Vec<Demultiplexer>,
    shields: Vec<[gst::Pad; 2]>,
}

impl Streams {
    /// None yet. When all are over, `ends` is told.
    pub(super) fn new(connection: &Connection, ends: SyncSender<Outcome>) -> Self {
        Self {
            tracks: connection.tracks.clone(),
            shift: Arc::clone(&connection.shift),
            arrivals: connection.arrivals.clone(),
            running: Arc::default(),
            wanted: AtomicUsize::new(0),
            refused: Mutex::default(),
            left: Arc::default(),
            ends,
        }
    }

    /// Whether to ask for a described stream. All of them are described before the first comes.
    pub(super) fn select(&self, caps: &gst::CapsRef) -> bool {
        let (kind, name) = described(caps);
        if depayloader(&name).is_some() {
            self.tracks.expect();
            self.wanted.fetch_add(1, Ordering::Relaxed);
            return true;
        }
        self.tracks.unknown(kind, format!("RTP {name}"));
        lock(&self.refused).push(name);
        false
    }

    /// Why nothing is asked for, if that is so.
    pub(super) fn nothing_wanted(&self) -> Option<Fault> {
        let refused = lock(&self.refused);
        let none = self.wanted.load(Ordering::Relaxed) == 0 && !refused.is_empty();
        none.then(|| unplayable(format!("none of its codecs can be decoded here: RTP {}", refused.join(", "))))
    }

    /// A stream comes.
    pub(super) fn add(&self, bin: &gst::Pipeline, pad: &gst::Pad) {
        // No stream is described any more.
        self.tracks.complete();
        let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
        let (kind, name) = described(&caps);
        let linked = match depayloader(&name) {
            Some(factory) => self.link(bin, pad, factory, (kind, &name)),
            None => Err(unplayable(format!("RTP {name}"))),
        };
        if let Err(fault) = linked {
            eprintln!("a stream is left out: {fault}");
            self.tracks.unknown(kind, fault.text);
            self.tracks.expected_none();
        }
    }

    fn link(
        &self,
        bin: &gst::Pipeline,
        pad: &gst::Pad,
        factory: &str,
        (kind, name): (Option<Kind>, &str),
    ) -> Result<(), Fault> {
        let depay = element(factory).map_err(of_worker)?;
        // The decoder's own gate waits for a key frame, and gives up where none comes.
        set_known(&depay, &[("wait-for-keyframe", "false"), ("request-keyframe", "false")]);
        let whole = element("capsfilter").map_err(of_worker)?;
        whole.set_property("caps", access_unit_caps(factory));
        bin.add_many([&depay, &whole]).map_err(internal)?;
        depay.link(&whole).map_err(internal)?;
        let src = whole.static_pad("src").ok_or_else(|| internal("a filter has no pad"))?;
        lock(&self.running).demuxes.push(Demultiplexer::attach(&self.tracks, Arc::clone(&self.shift), &src));
        for element in [&whole, &depay] {
            element.sync_state_with_parent().map_err(internal)?;
        }
        let sink = depay.static_pad("sink").ok_or_else(|| internal("a depayloader has no pad"))?;
        let markers = matches!(factory, "rtph264depay" | "rtph265depay").then(Markers::default);
        let (tracks, what) = (self.tracks.clone(), format!("RTP {name}"));
        let breaks = move || {
            tracks.unknown(kind, what.clone());
            tracks.expected_none();
        };
        let (left, ends) = (Arc::clone(&self.left), self.ends.clone());
        left.fetch_add(1, Ordering::Relaxed);
        let over = move || {
            if left.fetch_sub(1, Ordering::Relaxed) == 1 {
                let _ = ends.try_send(Outcome::Finished);
            }
        };
        let shield = shield(self.arrivals.clone(), markers, breaks, over)?;
        let [shield_sink, shield_src] = &shield;
        shield_src.link(&sink).map_err(internal)?;
        pad.link(shield_sink).map_err(|e| unplayable(format!("RTSP: {factory} does not take this stream: {e}")))?;
        lock(&self.running).shields.push(shield);
        Ok(())
    }

    /// Stops what stands behind the streams. Nothing must come any more.
    pub(super) fn stop(&self) {
        let running = std::mem::take(&mut *lock(&self.running));
        for pad in running.shields.iter().flatten() {
            let _ = pad.set_active(false);
        }
    }
}

/// Two pads, the first of which takes packets and the second gives them on. Whatever becomes of them there, who sends them hears nothing
/// of it: a stream that breaks would end all others with it. `breaks` is called when it does, `over` at its end.
fn shield(
    arrivals: Arrivals,
    markers: Option<Markers>,
    breaks: impl Fn() + Send + Sync + 'static,
    over: impl Fn() + Send + Sync + 'static,
) -> Result<[gst::Pad; 2], Fault> {
    let src = gst::Pad::builder(gst::PadDirection::Src).build();
    let (out, events) = (src.clone(), src.clone());
    let state = Mutex::new((markers, false));
    let sink = gst::Pad::builder(gst::PadDirection::Sink)
        .chain_function(move |_, _, mut buffer| {
            arrivals.note();
            let (markers, broken) = &mut *lock(&state);
            if *broken {
                return Ok(gst::FlowSuccess::Ok);
            }
            if let Some(markers) = markers
                && buffer.map_readable().is_ok_and(|packet| markers.is_false(&packet))
                && let Ok(mut packet) = buffer.make_mut().map_writable()
            {
                markers::clear(&mut packet);
            }
            match out.push(buffer) {
                Err(error @ (gst::FlowError::NotNegotiated | gst::FlowError::Error | gst::FlowError::NotSupported)) => {
                    *broken = true;
                    breaks();
                    eprintln!("a stream can't be read and is left out: {error:?}");
                    Ok(gst::FlowSuccess::Ok)
                }
                other => other,
            }
        })
        .event_function(move |_, _, event| {
            let ends = event.type_() == gst::EventType::Eos;
            events.push_event(event);
            if ends {
                over();
            }
            true
        })
        .build();
    let pads = [sink, src];
    for pad in &pads {
        pad.set_active(true).map_err(internal)?;
    }
    Ok(pads)
}

/// Kind and name, in upper case, of what SDP describes.
fn described(caps: &gst::CapsRef) -> (Option<Kind>, String) {
    let s = caps.structure(0);
    let text = |field: &str| s.and_then(|s| s.get::<String>(field).ok()).unwrap_or_default();
    let kind = match text("media").as_str() {
        "audio" => Some(Kind::Audio),
        "video" => Some(Kind::Video),
        _ => None,
    };
    (kind, text("encoding-name").to_ascii_uppercase())
}

/// What this depayloader is to give. By default it gives parts of access units, and a parser sees the end of one only when the next
/// begins; but its last packet is marked (RFC 6184 §5.1). Behind start codes, so that NAL units are found which a camera sends as one.
fn access_unit_caps(depayloader: &str) -> gst::Caps {
    let whole =
        |name: &str| gst::Caps::builder(name).field("alignment", "au").field("stream-format", "byte-stream").build();
    match depayloader {
        "rtph264depay" => whole("video/x-h264"),
        "rtph265depay" => whole("video/x-h265"),
        _ => gst::Caps::new_any(),
    }
}

/// The depayloader for an encoding (its name in SDP, upper case).
fn depayloader(encoding: &str) -> Option<&'static str> {
    Some(match encoding {
        "H264" => "rtph264depay",
        "H265" => "rtph265depay",
        "VP8" => "rtpvp8depay",
        "VP9" => "rtpvp9depay",
        "MP4V-ES" => "rtpmp4vdepay",
        "MPV" => "rtpmpvdepay",
        "MP2T" => "rtpmp2tdepay",
        "MPEG4-GENERIC" => "rtpmp4gdepay",
        "MP4A-LATM" => "rtpmp4adepay",
        "MPA" => "rtpmpadepay",
        "PCMU" => "rtppcmudepay",
        "PCMA" => "rtppcmadepay",
        "OPUS" => "rtpopusdepay",
        "AC3" => "rtpac3depay",
        "L16" => "rtpL16depay",
        _ => return None,
    })
}
