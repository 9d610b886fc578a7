//! RTSP: cameras. GStreamer's client does the talking, through a relay that goes where the guard lets it, and nowhere else, and
//! that logs in.

use crate::demuxer::{Demux, lock};
use crate::open::Source;
use crate::reconnect::{self, End, Run};
use crate::track_queues::Stage;
use fetch::{Address, Relay, check_host};
use gstreamer::{self as gst, prelude::*};
use ipc::demux::Job;
use model::PullGuard;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use worker::pad_chain::{element, set_known};

/// What packets that come out of order are waited for, in milliseconds: part of the promise of 300 ms.
const LATENCY: &str = "100";
/// Redirects to follow: a balancer in front of servers needs one.
const REDIRECTS: usize = 4;
/// How often a connection is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// Opens an RTSP address.
///
/// # Errors
/// Why it can't be, in words.
pub(crate) fn open(job: &Job, address: Address) -> Result<Source, String> {
    check_host(&job.guard, &address.host()).map_err(|e| e.to_string())?;
    let (guard, timeout) = (job.guard.clone(), job.limits.timeout);
    // TCP loses nothing and passes every firewall; what does not offer it is asked over UDP.
    let over = Mutex::new(if address.to_string().starts_with("rtspu:") { "udp" } else { "tcp" });
    reconnect::source(&job.limits, Stage::new(true), move |run| {
        let protocol = *lock(&over);
        let end = connect(&address, &guard, timeout, protocol, &run);
        if let End::Lost(_) = &end
            && run.pulse.last().is_none()
            && !address.to_string().starts_with("rtspt:")
        {
            *lock(&over) = if protocol == "tcp" { "udp" } else { "tcp" };
        }
        end
    })
}

fn connect(address: &Address, guard: &PullGuard, timeout: Duration, protocol: &str, run: &Run) -> End {
    let mut at = address.clone();
    for _ in 0..=REDIRECTS {
        let relay = match Relay::open(guard, &at, timeout) {
            Ok(relay) => relay,
            Err(e @ (fetch::Error::Denied { .. } | fetch::Error::Tls { .. })) => return End::Hopeless(e.to_string()),
            Err(e) => return End::Lost(e.to_string()),
        };
        let end = once(&relay, timeout, protocol, run);
        let Some(to) = relay.redirect() else { return end };
        match at.redirected(&to) {
            Ok(next) => at = next,
            Err(e) => return End::Hopeless(e.to_string()),
        }
    }
    End::Hopeless(fetch::Error::Redirects(REDIRECTS).to_string())
}

fn once(relay: &Relay, timeout: Duration, protocol: &str, run: &Run) -> End {
    let source = match element("rtspsrc") {
        Ok(source) => source,
        Err(e) => return End::Hopeless(e.to_string()),
    };
    source.set_property("location", relay.location());
    let micros = timeout.as_micros().to_string();
    let settings = [
        ("latency", LATENCY),
        ("protocols", protocol),
        ("drop-on-latency", "true"),
        // Times as the sender stamped them. The other modes even out how far arrivals lie behind them, which takes pictures that are
        // shown in another order than they are sent for late ones; what arrives unevenly is dealt with behind.
        ("buffer-mode", "none"),
        ("timeout", &micros),
        ("tcp-timeout", &micros),
        ("teardown-timeout", "100000000"),
    ];
    set_known(&source, &settings);
    play(&source, run, timeout)
}

fn play(source: &gst::Element, run: &Run, timeout: Duration) -> End {
    let (ends, ended) = sync_channel(4);
    let pipeline = gst::Pipeline::new();
    let Some(bus) = pipeline.bus() else { return End::Hopeless("the media pipeline has no bus".into()) };
    let told: SyncSender<End> = ends.clone();
    bus.set_sync_handler(move |_, message| {
        let end = match message.view() {
            gst::MessageView::Error(e) => Some(words(&e.error(), e.debug().as_deref())),
            gst::MessageView::Eos(_) => Some(End::Finished),
            _ => None,
        };
        if let Some(end) = end {
            let _ = told.try_send(end);
        }
        gst::BusSyncReply::Drop
    });
    let demuxes: Arc<Mutex<Vec<Demux>>> = Arc::default();
    if pipeline.add(source).is_err() {
        return End::Hopeless("the media pipeline can't be built".into());
    }
    let streams = Streams { run: (run.tracks.clone(), Arc::clone(&run.shift), run.pulse.clone()), demuxes, ends };
    let (kept, bin) = (streams.demuxes.clone(), pipeline.downgrade());
    let complete = run.tracks.clone();
    source.connect_no_more_pads(move |_| complete.complete());
    source.connect_pad_added(move |_, pad| {
        if let Some(bin) = bin.upgrade() {
            streams.add(&bin, pad);
        }
    });
    let begun = Instant::now();
    let started = pipeline.set_state(gst::State::Playing);
    let end = if started.is_err() {
        ended.recv_timeout(LOOK).unwrap_or_else(|_| End::Lost("RTSP: the connection failed".into()))
    } else {
        loop {
            match ended.recv_timeout(LOOK) {
                Ok(end) => break end,
                Err(RecvTimeoutError::Disconnected) => break End::Lost("RTSP: the connection ended".into()),
                Err(RecvTimeoutError::Timeout) => {}
            }
            let last = run.pulse.last().map_or(begun, |last| last.max(begun));
            if last.elapsed() > timeout {
                break End::Lost(format!("RTSP: nothing came for {timeout:?}"));
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
    run: (crate::demuxer::Tracks, crate::demuxer::Shift, reconnect::Pulse),
    demuxes: Arc<Mutex<Vec<Demux>>>,
    ends: SyncSender<End>,
}

impl Streams {
    fn add(&self, bin: &gst::Pipeline, pad: &gst::Pad) {
        let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
        let name = caps.structure(0).and_then(|s| s.get::<String>("encoding-name").ok()).unwrap_or_default();
        let Some(factory) = depayloader(&name.to_ascii_uppercase()) else {
            self.run.0.unknown(format!("RTP {name}"));
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
            let _ = self.ends.try_send(End::Hopeless(fault));
        }
    }

    fn link(&self, bin: &gst::Pipeline, pad: &gst::Pad, factory: &str) -> Result<(), String> {
        let depay = element(factory).map_err(|e| e.to_string())?;
        // A picture with a hole would be shown with it: better the next key frame.
        set_known(&depay, &[("wait-for-keyframe", "false"), ("request-keyframe", "false")]);
        let whole = element("capsfilter").map_err(|e| e.to_string())?;
        whole.set_property("caps", whole_pictures(factory));
        bin.add_many([&depay, &whole]).map_err(|e| e.to_string())?;
        depay.link(&whole).map_err(|e| e.to_string())?;
        let pulse = self.run.2.clone();
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
            pulse.beat();
            gst::PadProbeReturn::Ok
        });
        let src = whole.static_pad("src").ok_or("a filter has no pad")?;
        lock(&self.demuxes).push(Demux::pad(&self.run.0, Arc::clone(&self.run.1), &src));
        for element in [&whole, &depay] {
            element.sync_state_with_parent().map_err(|e| e.to_string())?;
        }
        let sink = depay.static_pad("sink").ok_or("a depayloader has no pad")?;
        pad.link(&sink).map(drop).map_err(|e| e.to_string())
    }
}

/// What this depayloader is to give. By default it gives parts of pictures, and what puts them together sees that one has ended
/// only when the next begins; of the packets the last is marked (RFC 6184 §5.1).
fn whole_pictures(depayloader: &str) -> gst::Caps {
    match depayloader {
        "rtph264depay" => gst::Caps::builder("video/x-h264").field("alignment", "au").build(),
        "rtph265depay" => gst::Caps::builder("video/x-h265").field("alignment", "au").build(),
        _ => gst::Caps::new_any(),
    }
}

/// What takes RTP packets of this encoding apart (the names are those of SDP, upper case).
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

/// Words for what the client says, and whether trying again may help.
fn words(error: &gst::glib::Error, debug: Option<&str>) -> End {
    let debug = debug.unwrap_or_default();
    match error.kind::<gst::ResourceError>() {
        Some(gst::ResourceError::NotFound) => End::Hopeless("RTSP: the server knows no such stream (404)".into()),
        Some(gst::ResourceError::NotAuthorized) => End::Hopeless("RTSP: the login is missing or wrong".into()),
        _ if debug.contains("Not Found") => End::Hopeless("RTSP: the server knows no such stream (404)".into()),
        _ if debug.contains("Unauthorized") => End::Hopeless("RTSP: the login is missing or wrong".into()),
        Some(gst::ResourceError::OpenRead | gst::ResourceError::OpenReadWrite) => {
            End::Lost("RTSP: the server can't be reached".into())
        }
        Some(gst::ResourceError::Read | gst::ResourceError::Write) => {
            End::Lost("RTSP: the server hung up, or does not speak RTSP".into())
        }
        _ => End::Lost(format!("RTSP: {}", error.message())),
    }
}
