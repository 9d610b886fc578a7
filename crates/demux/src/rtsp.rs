//! RTSP: cameras. GStreamer's client speaks it, through a relay of ours that logs in and connects only where the guard allows.

mod markers;
mod streams;

use crate::fault::{internal, lost, of_fetch, of_worker, unplayable};
use crate::reconnect::{self, Connection, Outcome};
use crate::source::Source;
use crate::sync::lock;
use crate::track_queues::TrackQueues;
use fetch::{Address, Relay, check_host};
use gstreamer::{self as gst, prelude::*};
use ipc::demux::Job;
use model::{Fault, PullGuard};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use streams::Streams;
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
        let Some(to) = relay.redirect() else { return concealed(end, &relay, connection) };
        match relay.server().redirected(&to) {
            Ok(next) => at = next,
            Err(e) => return Outcome::Failed(of_fetch(e)),
        }
    }
    Outcome::Failed(of_fetch(fetch::Error::Redirects(MAX_REDIRECTS)))
}

/// How it ended, in words that tell nothing about the ports of a private network: that the relay could connect must not show.
fn concealed(end: Outcome, relay: &Relay, connection: &Connection) -> Outcome {
    match end {
        Outcome::Lost(why) if relay.is_inside() && connection.arrivals.last().is_none() => {
            eprintln!("{why}");
            Outcome::Lost(of_fetch(fetch::Error::Inside { host: relay.server().authority(), retry: true }))
        }
        end => end,
    }
}

fn once(relay: &Relay, timeout: Duration, protocol: &str, connection: &Connection) -> Outcome {
    let source = match element("rtspsrc") {
        Ok(source) => source,
        Err(e) => return Outcome::Failed(of_worker(e)),
    };
    source.set_property("location", relay.location());
    let own_name = source.property_value("user-agent").get::<Option<String>>().ok().flatten().unwrap_or_default();
    source.set_property("user-agent", relay.client_name(&own_name));
    let micros = timeout.as_micros().to_string();
    let settings = [
        ("latency", REORDERING_MS),
        ("protocols", protocol),
        // Over TCP nothing is lost, and what queues up while this machine is busy must not be.
        ("drop-on-latency", if protocol == "udp" { "true" } else { "false" }),
        // Times as the sender stamped them. The other modes even out arrivals, and take frames that are sent in another order than they
        // are shown for late ones; uneven arrivals are evened out by the jitter delay.
        ("buffer-mode", "none"),
        ("timeout", &micros),
        ("tcp-timeout", &micros),
        ("teardown-timeout", "100000000"),
        // The relay does that: this client sends none while packets flow.
        ("do-rtsp-keep-alive", "false"),
    ];
    set_known(&source, &settings);
    play(&source, relay, connection, timeout)
}

fn play(source: &gst::Element, relay: &Relay, connection: &Connection, timeout: Duration) -> Outcome {
    let (ends, ended) = sync_channel(4);
    let pipeline = gst::Pipeline::new();
    let Some(bus) = pipeline.bus() else { return Outcome::Failed(internal("the media pipeline has no bus")) };
    if pipeline.add(source).is_err() {
        return Outcome::Failed(internal("the media pipeline can't be built"));
    }
    let client = source.downgrade();
    let told = ends.clone();
    bus.set_sync_handler(move |_, message| {
        tell(&client, &told, message);
        gst::BusSyncReply::Drop
    });
    let streams = Arc::new(Streams::new(connection, ends));
    let selected = Arc::clone(&streams);
    let (recorded, portable) = (relay.ends_later(), connection.portable.clone());
    source.connect("select-stream", false, move |args| {
        // Its description has come.
        portable.set(!recorded());
        let caps = args.get(2).and_then(|caps| caps.get::<gst::Caps>().ok());
        Some(caps.is_some_and(|caps| selected.select(&caps)).to_value())
    });
    let (added, bin) = (Arc::clone(&streams), pipeline.downgrade());
    source.connect_pad_added(move |_, pad| {
        if let Some(bin) = bin.upgrade() {
            added.add(&bin, pad);
        }
    });
    let begun = Instant::now();
    let started = pipeline.set_state(gst::State::Playing);
    let end = if started.is_err() {
        ended.recv_timeout(CHECK_EVERY).unwrap_or_else(|_| Outcome::Lost(lost("RTSP: the connection failed")))
    } else {
        last_of(&ended, connection, begun, timeout)
    };
    let _ = pipeline.set_state(gst::State::Null);
    streams.stop();
    bus.unset_sync_handler();
    match (end, streams.nothing_wanted()) {
        (_, Some(fault)) => Outcome::Failed(fault),
        // A recording ends like that. A camera says it before it restarts.
        (Outcome::Finished, None) if !relay.ends() => Outcome::Parted(lost("RTSP: the camera has ended its stream")),
        (end, None) => end,
    }
}

/// Tells what a message of the bus means for the connection, if it ends it. What stands behind a stream does not.
fn tell(client: &gst::glib::WeakRef<gst::Element>, ends: &SyncSender<Outcome>, message: &gst::Message) {
    let of_client = || {
        let (client, from) = (client.upgrade()?, message.src()?);
        Some(from == client.upcast_ref::<gst::Object>() || from.has_as_ancestor(&client))
    };
    let end = match message.view() {
        gst::MessageView::Error(e) if of_client() == Some(false) => {
            eprintln!("a stream breaks: {} {:?}", e.error(), e.debug());
            None
        }
        gst::MessageView::Error(e) => Some(outcome(&e.error(), e.debug().as_deref())),
        // The client only warns of this, and would wait for more.
        gst::MessageView::Warning(w) if w.debug().is_some_and(|text| text.contains("closed the connection")) => {
            Some(Outcome::Lost(lost("RTSP: the server closed the connection")))
        }
        _ => None,
    };
    if let Some(end) = end {
        let _ = ends.try_send(end);
    }
}

/// Waits for the end of a connection, or for nothing to come for `timeout`.
fn last_of(ended: &Receiver<Outcome>, connection: &Connection, begun: Instant, timeout: Duration) -> Outcome {
    loop {
        match ended.recv_timeout(CHECK_EVERY) {
            Ok(end) => return end,
            Err(RecvTimeoutError::Disconnected) => return Outcome::Lost(lost("RTSP: the connection ended")),
            Err(RecvTimeoutError::Timeout) => {}
        }
        let last = connection.arrivals.last().map_or(begun, |last| last.max(begun));
        if last.elapsed() > timeout {
            return Outcome::Lost(lost(format!("RTSP: nothing came for {timeout:?}")));
        }
    }
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
