//! RTSP: cameras. GStreamer's client speaks it, through a relay of ours that logs in and connects only where the guard allows.

use crate::demuxer::{Demultiplexer, Tracks};
use crate::fault::{internal, lost, of_fetch, of_worker, unplayable};
use crate::reconnect::{self, Arrivals, Connection, Outcome};
use crate::source::Source;
use crate::sync::lock;
use crate::time_shift::TimeShift;
use crate::track_queues::TrackQueues;
use fetch::{Address, Relay, check_host};
use gstreamer::{self as gst, prelude::*};
use ipc::demux::Job;
use model::{Fault, PullGuard};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use worker::pad_chain::{element, set_known};

/// How long packets that come out of order are waited for, in milliseconds: part of the promise of 300 ms.
const REORDERING_MS: &str = "100";
/// Redirects to follow: a load balancer needs one.
const MAX_REDIRECTS: usize = 4;
/// How often it is checked whether a connection still brings something.
const CHECK_EVERY: Duration = Duration::from_millis(500);

/// Opens an RTSP address.
///
/// # Errors
/// Why it can't be opened.
pub(crate) fn open(job: &Job, address: Address) -> Result<Source, Fault> {
    check_host(&job.guard, &address.host()).map_err(of_fetch)?;
    let (guard, timeout) = (job.guard.clone(), job.limits.timeout);
    // TCP loses nothing and passes every firewall; a server without it is asked over UDP.
    let transport = Mutex::new(if address.to_string().starts_with("rtspu:") { "udp" } else { "tcp" });
    reconnect::source(&job.limits, TrackQueues::live(), move |connection| {
        let protocol = *lock(&transport);
        let outcome = connect(&address, &guard, timeout, protocol, &connection);
        if let Outcome::Lost(_) = &outcome
            && connection.arrivals.last().is_none()
            && !address.to_string().starts_with("rtspt:")
        {
            *lock(&transport) = if protocol == "tcp" { "udp" } else { "tcp" };
        }
        outcome
    })
}

fn connect(
    address: &Address,
    guard: &PullGuard,
    timeout: Duration,
    protocol: &str,
    connection: &Connection,
) -> Outcome {
    let mut at = address.clone();
    for _ in 0..=MAX_REDIRECTS {
        let relay = match Relay::open(guard, &at, timeout) {
            Ok(relay) => relay,
            Err(e @ (fetch::Error::Denied { .. } | fetch::Error::Tls { .. })) => return Outcome::Failed(of_fetch(e)),
            Err(e) => return Outcome::Lost(of_fetch(e)),
        };
        let end = once(&relay, timeout, protocol, connection);
        let Some(to) = relay.redirect() else { return end };
        match at.redirected(&to) {
            Ok(next) => at = next,
            Err(e) => return Outcome::Failed(of_fetch(e)),
        }
    }
    Outcome::Failed(of_fetch(fetch::Error::Redirects(MAX_REDIRECTS)))
}

fn once(relay: &Relay, timeout: Duration, protocol: &str, connection: &Connection) -> Outcome {
    let source = match element("rtspsrc") {
        Ok(source) => source,
        Err(e) => return Outcome::Failed(of_worker(e)),
    };
    source.set_property("location", relay.location());
    let micros = timeout.as_micros().to_string();
    let settings = [
        ("latency", REORDERING_MS),
        ("protocols", protocol),
        ("drop-on-latency", "true"),
        // Times as the sender stamped them. The other modes even out arrivals, and take frames that are sent in another order than they
        // are shown for late ones; uneven arrivals are evened out by the jitter delay.
        ("buffer-mode", "none"),
        ("timeout", &micros),
        ("tcp-timeout", &micros),
        ("teardown-timeout", "100000000"),
    ];
    set_known(&source, &settings);
    play(&source, connection, timeout)
}

fn play(source: &gst::Element, connection: &Connection, timeout: Duration) -> Outcome {
    let (ends, ended) = sync_channel(4);
    let pipeline = gst::Pipeline::new();
    let Some(bus) = pipeline.bus() else { return Outcome::Failed(internal("the media pipeline has no bus")) };
    let told: SyncSender<Outcome> = ends.clone();
    bus.set_sync_handler(move |_, message| {
        let end = match message.view() {
            gst::MessageView::Error(e) => Some(outcome(&e.error(), e.debug().as_deref())),
            gst::MessageView::Eos(_) => Some(Outcome::Finished),
            // The client only warns of this, and would wait for more.
            gst::MessageView::Warning(w) if w.debug().is_some_and(|text| text.contains("closed the connection")) => {
                Some(Outcome::Lost(lost("RTSP: the server closed the connection")))
            }
            _ => None,
        };
        if let Some(end) = end {
            let _ = told.try_send(end);
        }
        gst::BusSyncReply::Drop
    });
    let demuxes: Arc<Mutex<Vec<Demultiplexer>>> = Arc::default();
    if pipeline.add(source).is_err() {
        return Outcome::Failed(internal("the media pipeline can't be built"));
    }
    let streams = Streams {
        tracks: connection.tracks.clone(),
        shift: Arc::clone(&connection.shift),
        arrivals: connection.arrivals.clone(),
        demuxes,
        ends,
    };
    let (kept, bin) = (streams.demuxes.clone(), pipeline.downgrade());
    let complete = connection.tracks.clone();
    source.connect_no_more_pads(move |_| complete.complete());
    source.connect_pad_added(move |_, pad| {
        if let Some(bin) = bin.upgrade() {
            streams.add(&bin, pad);
        }
    });
    let begun = Instant::now();
    let started = pipeline.set_state(gst::State::Playing);
    let end = if started.is_err() {
        ended.recv_timeout(CHECK_EVERY).unwrap_or_else(|_| Outcome::Lost(lost("RTSP: the connection failed")))
    } else {
        loop {
            match ended.recv_timeout(CHECK_EVERY) {
                Ok(end) => break end,
                Err(RecvTimeoutError::Disconnected) => break Outcome::Lost(lost("RTSP: the connection ended")),
                Err(RecvTimeoutError::Timeout) => {}
            }
            let last = connection.arrivals.last().map_or(begun, |last| last.max(begun));
            if last.elapsed() > timeout {
                break Outcome::Lost(lost(format!("RTSP: nothing came for {timeout:?}")));
            }
        }
    };
    let _ = pipeline.set_state(gst::State::Null);
    lock(&kept).clear();
    bus.unset_sync_handler();
    end
}

/// Where the streams of a connection go.
struct Streams {
    tracks: Tracks,
    shift: TimeShift,
    arrivals: Arrivals,
    demuxes: Arc<Mutex<Vec<Demultiplexer>>>,
    ends: SyncSender<Outcome>,
}

impl Streams {
    fn add(&self, bin: &gst::Pipeline, pad: &gst::Pad) {
        let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
        let name = caps.structure(0).and_then(|s| s.get::<String>("encoding-name").ok()).unwrap_or_default();
        let Some(factory) = depayloader(&name.to_ascii_uppercase()) else {
            self.tracks.unknown(format!("RTP {name}"));
            let _ = element("fakesink").map(|sink| {
                set_known(&sink, &[("sync", "false"), ("async", "false")]);
                if bin.add(&sink).is_ok() && sink.sync_state_with_parent().is_ok() {
                    sink.static_pad("sink").map(|s| pad.link(&s))
                } else {
                    None
                }
            });
            return;
        };
        if let Err(fault) = self.link(bin, pad, factory) {
            let _ = self.ends.try_send(Outcome::Failed(fault));
        }
    }

    fn link(&self, bin: &gst::Pipeline, pad: &gst::Pad, factory: &str) -> Result<(), Fault> {
        let depay = element(factory).map_err(of_worker)?;
        // The decoder's own gate waits for a key frame, and gives up where none comes.
        set_known(&depay, &[("wait-for-keyframe", "false"), ("request-keyframe", "false")]);
        let whole = element("capsfilter").map_err(of_worker)?;
        whole.set_property("caps", access_unit_caps(factory));
        bin.add_many([&depay, &whole]).map_err(internal)?;
        depay.link(&whole).map_err(internal)?;
        let arrivals = self.arrivals.clone();
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
            arrivals.note();
            gst::PadProbeReturn::Ok
        });
        let src = whole.static_pad("src").ok_or_else(|| internal("a filter has no pad"))?;
        lock(&self.demuxes).push(Demultiplexer::attach(&self.tracks, Arc::clone(&self.shift), &src));
        for element in [&whole, &depay] {
            element.sync_state_with_parent().map_err(internal)?;
        }
        let sink = depay.static_pad("sink").ok_or_else(|| internal("a depayloader has no pad"))?;
        pad.link(&sink).map(drop).map_err(|e| unplayable(format!("RTSP: {factory} does not take this stream: {e}")))
    }
}

/// What this depayloader is to give. By default it gives parts of access units, and a parser sees the end of one only when the next
/// begins; but its last packet is marked (RFC 6184 §5.1).
fn access_unit_caps(depayloader: &str) -> gst::Caps {
    match depayloader {
        "rtph264depay" => gst::Caps::builder("video/x-h264").field("alignment", "au").build(),
        "rtph265depay" => gst::Caps::builder("video/x-h265").field("alignment", "au").build(),
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

/// What the client says, and whether another attempt may help.
fn outcome(error: &gst::glib::Error, debug: Option<&str>) -> Outcome {
    let debug = debug.unwrap_or_default();
    match error.kind::<gst::ResourceError>() {
        Some(gst::ResourceError::NotFound) => {
            Outcome::Failed(unplayable("RTSP: the server knows no such stream (404)"))
        }
        Some(gst::ResourceError::NotAuthorized) => Outcome::Failed(unplayable("RTSP: the login is missing or wrong")),
        _ if debug.contains("Not Found") => Outcome::Failed(unplayable("RTSP: the server knows no such stream (404)")),
        _ if debug.contains("Unauthorized") => Outcome::Failed(unplayable("RTSP: the login is missing or wrong")),
        Some(gst::ResourceError::OpenRead | gst::ResourceError::OpenReadWrite) => {
            Outcome::Lost(lost("RTSP: the server can't be reached"))
        }
        Some(gst::ResourceError::Read | gst::ResourceError::Write) => {
            Outcome::Lost(lost("RTSP: the server hung up, or does not speak RTSP"))
        }
        _ => Outcome::Lost(lost(format!("RTSP: {}", error.message()))),
    }
}
