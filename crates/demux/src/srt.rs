//! SRT: a connection that carries MPEG-TS or another container, as its caller or its listener.

use crate::container::{self, HEAD};
use crate::demuxer::Demultiplexer;
use crate::fault::{internal, lost, misconfigured, of_fetch, of_worker, unplayable};
use crate::reconnect::{self, Connection, Outcome};
use crate::source::Source;
use crate::sync::lock;
use crate::track_queues::TrackQueues;
use fetch::{Address, guard_listener, resolve};
use gstreamer::{self as gst, prelude::*};
use ipc::demux::Job;
use model::{Fault, PullGuard, PullLimits};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use worker::pad_chain::{element, set_known};

/// A connection that ends so soon after data has been closed by the other side. One that broke was silent for libsrt's idle time (5 s)
/// before.
const CLOSED_WITHIN: Duration = Duration::from_secs(3);
/// How often it is checked whether a connection still brings something.
const CHECK_EVERY: Duration = Duration::from_millis(500);

/// Opens an SRT address.
///
/// # Errors
/// Why it can't be opened.
pub(crate) fn open(job: &Job, address: Address) -> Result<Source, Fault> {
    let options = Options::of(&address)?;
    let (guard, limits) = (job.guard.clone(), job.limits.clone());
    options.check(&guard, &address)?;
    reconnect::source(&job.limits, TrackQueues::live_over_srt(), move |connection| {
        connect(&options, &address, &guard, &limits, &connection)
    })
}

/// The longest latency in milliseconds: nobody waits for a minute.
const MAX_LATENCY: u32 = 60_000;

/// What an address asks for.
#[derive(Debug)]
struct Options {
    listens: bool,
    port: u16,
    /// Properties of `srtsrc`, and their values.
    set: Vec<(&'static str, String)>,
}

impl Options {
    fn of(address: &Address) -> Result<Self, Fault> {
        let mut options = Self { listens: false, port: address.port(), set: Vec::new() };
        if options.port == 0 {
            return Err(misconfigured("the SRT URL names no port"));
        }
        for (name, value) in address.query() {
            match name.as_str() {
                "mode" if value == "listener" => options.listens = true,
                "mode" if value == "caller" || value.is_empty() => {}
                "mode" => return Err(misconfigured("the SRT URL's mode must be caller or listener")),
                "passphrase" if (10..=79).contains(&value.len()) => options.set.push(("passphrase", value)),
                "passphrase" => return Err(misconfigured("the SRT URL's passphrase must have 10 to 79 characters")),
                "latency" => {
                    let latency = latency(&value).ok_or_else(|| {
                        misconfigured("the SRT URL's latency must be a number of milliseconds, 60000 at most")
                    })?;
                    options.set.push(("latency", latency.to_string()));
                }
                // As `srtsrc` names them, too.
                "pbkeylen" if ["16", "24", "32"].contains(&value.as_str()) => options.set.push(("pbkeylen", value)),
                "pbkeylen" if value == "0" => {}
                "pbkeylen" => return Err(misconfigured("the SRT URL's pbkeylen must be 16, 24 or 32")),
                "streamid" if value.len() <= 512 => options.set.push(("streamid", value)),
                "streamid" => return Err(misconfigured("the SRT URL's streamid must have 512 characters at most")),
                _ => {}
            }
        }
        Ok(options)
    }

    fn check(&self, guard: &PullGuard, address: &Address) -> Result<(), Fault> {
        let host = address.host();
        let checked = if self.listens { guard_listener(guard, &host) } else { fetch::check_host(guard, &host) };
        checked.map_err(of_fetch)
    }
}

/// What comes over a connection, before and after it is recognised.
struct Feed {
    demux: Option<Demultiplexer>,
    head: Vec<u8>,
}

fn connect(
    options: &Options,
    address: &Address,
    guard: &PullGuard,
    limits: &PullLimits,
    connection: &Connection,
) -> Outcome {
    let source = match element("srtsrc") {
        Ok(source) => source,
        Err(e) => return Outcome::Failed(of_worker(e)),
    };
    let host = if options.listens {
        address.host()
    } else {
        match resolve(guard, &address.host(), options.port, address.is_from_outside(), limits.timeout) {
            Ok(found) => found.first().map(|a| a.ip().to_string()).unwrap_or_default(),
            Err(e @ fetch::Error::Denied { .. }) => return Outcome::Failed(of_fetch(e)),
            Err(e) => return Outcome::Lost(of_fetch(e)),
        }
    };
    if options.listens {
        source.set_property("uri", format!("srt://:{}?mode=listener", options.port));
        source.set_property("localaddress", host);
    } else {
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        source.set_property("uri", format!("srt://{host}:{}?mode=caller", options.port));
    }
    // Reconnecting is done here, by the limits of the configuration.
    set_known(&source, &[("auto-reconnect", "false"), ("wait-for-connection", "true")]);
    for (name, value) in &options.set {
        set_known(&source, &[(name, value)]);
    }
    let (ends, ended) = sync_channel(4);
    let pipeline = gst::Pipeline::new();
    if pipeline.add(&source).is_err() {
        return Outcome::Failed(internal("the media pipeline can't be built"));
    }
    let tail = match tail(&pipeline, &source, connection, &ends) {
        Ok(tail) => tail,
        Err(fault) => return Outcome::Failed(fault),
    };
    // Who calls this machine does not call another.
    connection.portable.set(!options.listens);
    let begun = Instant::now();
    // It asks its pipeline for a clock.
    let end = match pipeline.set_state(gst::State::Playing) {
        Ok(_) => wait(&source, &ended, connection, begun, limits, options.listens),
        Err(_) => Some(ended.try_recv().unwrap_or_else(|_| Outcome::Lost(lost("SRT: the connection failed")))),
    };
    let Some(end) = end else {
        // GStreamer 1.22 frees memory twice when it stops waiting for a caller. No attempt follows that could need the port.
        std::mem::forget(pipeline);
        return Outcome::Failed(lost("SRT: nobody connected"));
    };
    let _ = pipeline.set_state(gst::State::Null);
    let _ = tail.set_active(false);
    end
}

/// How the connection ended; `None` if a listener waits for a caller in vain.
fn wait(
    source: &gst::Element,
    ended: &Receiver<Outcome>,
    connection: &Connection,
    begun: Instant,
    limits: &PullLimits,
    listens: bool,
) -> Option<Outcome> {
    let before = connection.arrivals.last();
    loop {
        match ended.recv_timeout(CHECK_EVERY) {
            Ok(Outcome::Lost(why)) => {
                let last = connection.arrivals.last().filter(|last| Some(*last) != before);
                return Some(match last {
                    Some(last) if last.elapsed() < CLOSED_WITHIN => Outcome::Finished,
                    _ => Outcome::Lost(why),
                });
            }
            Ok(end) => return Some(end),
            Err(RecvTimeoutError::Disconnected) => return Some(Outcome::Lost(lost("SRT: the connection ended"))),
            Err(RecvTimeoutError::Timeout) => {}
        }
        let last = connection.arrivals.last().filter(|last| Some(*last) != before);
        // A caller waits for an answer; a listener waits for as long as a source may be lost.
        let fault = match last {
            Some(last) if last.elapsed() > limits.timeout => format!("SRT: nothing came for {:?}", limits.timeout),
            None if listens && begun.elapsed() > limits.timeout + limits.reconnect => return None,
            None if !listens && begun.elapsed() > limits.timeout => match is_connected(source) {
                true => "SRT: it is connected, but the other side sends nothing: has it a picture?".into(),
                false => "SRT: the other side does not answer".into(),
            },
            _ => continue,
        };
        return Some(Outcome::Lost(lost(fault)));
    }
}

/// Whether the other side has answered: its statistics have a round trip then.
fn is_connected(source: &gst::Element) -> bool {
    source.property::<gst::Structure>("stats").get::<f64>("rtt-ms").is_ok_and(|rtt| rtt > 0.0)
}

/// A pad that takes what the connection brings; how it ends goes to `ends`.
fn tail(
    pipeline: &gst::Pipeline,
    source: &gst::Element,
    connection: &Connection,
    ends: &SyncSender<Outcome>,
) -> Result<gst::Pad, Fault> {
    let told = ends.clone();
    let bus = pipeline.bus().ok_or_else(|| internal("the media pipeline has no bus"))?;
    bus.set_sync_handler(move |_, message| {
        if let gst::MessageView::Error(error) = message.view() {
            let _ = told.try_send(Outcome::Lost(fault(&error.error().to_string(), error.debug().as_deref())));
        }
        gst::BusSyncReply::Drop
    });
    let feed = Mutex::new(Feed { demux: None, head: Vec::new() });
    let (tracks, shift, arrivals) =
        (connection.tracks.clone(), Arc::clone(&connection.shift), connection.arrivals.clone());
    let (bad, eos) = (ends.clone(), ends.clone());
    let tail = gst::Pad::builder(gst::PadDirection::Sink)
        .chain_function(move |_, _, buffer| {
            arrivals.note();
            let Ok(map) = buffer.map_readable() else { return Ok(gst::FlowSuccess::Ok) };
            let mut feed = lock(&feed);
            if let Some(demux) = &feed.demux {
                return if demux.push_bytes(map.to_vec()) {
                    Ok(gst::FlowSuccess::Ok)
                } else {
                    Err(gst::FlowError::Eos)
                };
            }
            feed.head.extend_from_slice(&map);
            match container::detect(&feed.head) {
                Some(kind) => match Demultiplexer::push(&tracks, Arc::clone(&shift), &kind) {
                    Ok(demux) => {
                        let head = std::mem::take(&mut feed.head);
                        demux.push_bytes(head);
                        feed.demux = Some(demux);
                    }
                    Err(fault) => {
                        let _ = bad.try_send(Outcome::Failed(fault));
                        return Err(gst::FlowError::Error);
                    }
                },
                None if feed.head.len() > HEAD => {
                    let _ = bad
                        .try_send(Outcome::Failed(unplayable("what comes over SRT is not media that can be played")));
                    return Err(gst::FlowError::Error);
                }
                None => {}
            }
            Ok(gst::FlowSuccess::Ok)
        })
        .event_function(move |_, _, event| {
            if let gst::EventView::Eos(_) = event.view() {
                let _ = eos.try_send(Outcome::Lost(lost("SRT: the connection ended")));
            }
            true
        })
        .build();
    tail.set_active(true).map_err(internal)?;
    let src = source.static_pad("src").ok_or_else(|| internal("srtsrc has no pad"))?;
    src.link_full(&tail, gst::PadLinkCheck::CAPS).map_err(internal)?;
    Ok(tail)
}

/// A latency in milliseconds. FFmpeg's URLs have microseconds (its protocol documentation): what would be more than a minute is taken for
/// those. `None` for more than a minute of them.
fn latency(value: &str) -> Option<u32> {
    let number = value.parse::<u32>().ok()?;
    let milliseconds = if number > MAX_LATENCY { number / 1_000 } else { number };
    (milliseconds <= MAX_LATENCY).then_some(milliseconds)
}

/// What libsrt says, as a fault.
fn fault(error: &str, debug: Option<&str>) -> Fault {
    let all = format!("{error} {}", debug.unwrap_or_default()).to_ascii_lowercase();
    let known = [
        ("rejected", "SRT: the other side refused the connection (stream id, passphrase or version)"),
        ("passphrase", "SRT: the passphrase is missing or wrong"),
        ("timed out", "SRT: the other side does not answer"),
        ("timeout", "SRT: the other side does not answer"),
        ("bind", "SRT: the address can't be listened on: is it another machine's, or in use?"),
        ("refused", "SRT: the other side does not answer"),
    ];
    let found = known.iter().find(|(sign, _)| all.contains(sign));
    lost(found.map_or_else(|| format!("SRT: the connection failed ({error})"), |(_, text)| (*text).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_may_be_microseconds() {
        let of = |value| latency(value);
        assert_eq!(
            [of("120"), of("60000"), of("200000"), of("60000000")],
            [Some(120), Some(60_000), Some(200), Some(60_000)]
        );
        assert_eq!([of("60001000"), of("-1"), of("soon"), of("")], [None; 4]);
    }
}
