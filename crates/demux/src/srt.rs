//! SRT: a connection that carries MPEG-TS (or whatever else), called or waited for.

use crate::demuxer::{self, Demux, HEAD};
use crate::open::Source;
use crate::reconnect::{self, End, Run};
use crate::track_queues::Stage;
use fetch::{Address, guard_listener, resolve};
use gstreamer::{self as gst, prelude::*};
use ipc::demux::Job;
use model::{PullGuard, PullLimits};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use worker::pad_chain::{element, set_known};

/// A connection that ends while data still came has been closed by its other side; one that broke was silent for libsrt's
/// idle time (5 s) before.
const GOODBYE: Duration = Duration::from_secs(3);
/// How often the silence of a connection is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// Opens an SRT address.
///
/// # Errors
/// Why it can't be, in words.
pub(crate) fn open(job: &Job, address: Address) -> Result<Source, String> {
    let options = Options::of(&address)?;
    let (guard, limits) = (job.guard.clone(), job.limits.clone());
    options.check(&guard, &address)?;
    reconnect::source(&job.limits, Stage::over_srt(), move |run| connect(&options, &address, &guard, &limits, &run))
}

/// What an address asks for.
#[derive(Debug)]
struct Options {
    listens: bool,
    port: u16,
    /// Names of `srtsrc`'s properties, and their values.
    set: Vec<(&'static str, String)>,
}

impl Options {
    fn of(address: &Address) -> Result<Self, String> {
        let mut options = Self { listens: false, port: address.port(), set: Vec::new() };
        if options.port == 0 {
            return Err("the SRT URL names no port".into());
        }
        for (name, value) in address.query() {
            match name.as_str() {
                "mode" if value == "listener" => options.listens = true,
                "mode" if value == "caller" || value.is_empty() => {}
                "mode" => return Err("the SRT URL's mode must be caller or listener".into()),
                "passphrase" if (10..=79).contains(&value.len()) => options.set.push(("passphrase", value)),
                "passphrase" => return Err("the SRT URL's passphrase must have 10 to 79 characters".into()),
                "latency" => {
                    let latency = value.parse::<u32>().ok().filter(|ms| *ms <= 60_000);
                    let latency =
                        latency.ok_or("the SRT URL's latency must be a number of milliseconds, 60000 at most")?;
                    options.set.push(("latency", latency.to_string()));
                }
                "pbkeylen" if ["0", "16", "24", "32"].contains(&value.as_str()) => {
                    let name = match value.as_str() {
                        "16" => "aes-128",
                        "24" => "aes-192",
                        "32" => "aes-256",
                        _ => "no-key",
                    };
                    options.set.push(("pbkeylen", name.into()));
                }
                "pbkeylen" => return Err("the SRT URL's pbkeylen must be 16, 24 or 32".into()),
                "streamid" if value.len() <= 512 => options.set.push(("streamid", value)),
                "streamid" => return Err("the SRT URL's streamid must have 512 characters at most".into()),
                _ => {}
            }
        }
        Ok(options)
    }

    fn check(&self, guard: &PullGuard, address: &Address) -> Result<(), String> {
        let host = address.host();
        let checked = if self.listens { guard_listener(guard, &host) } else { fetch::check_host(guard, &host) };
        checked.map_err(|e| e.to_string())
    }
}

/// What comes from an SRT connection before and after it is known what it is.
struct Feed {
    demux: Option<Demux>,
    head: Vec<u8>,
}

fn connect(options: &Options, address: &Address, guard: &PullGuard, limits: &PullLimits, run: &Run) -> End {
    let source = match element("srtsrc") {
        Ok(source) => source,
        Err(e) => return End::Hopeless(e.to_string()),
    };
    let host = if options.listens {
        address.host()
    } else {
        match resolve(guard, &address.host(), options.port, limits.timeout) {
            Ok(found) => found.first().map(|a| a.ip().to_string()).unwrap_or_default(),
            Err(e @ fetch::Error::Denied { .. }) => return End::Hopeless(e.to_string()),
            Err(e) => return End::Lost(e.to_string()),
        }
    };
    if options.listens {
        source.set_property("uri", format!("srt://:{}?mode=listener", options.port));
        source.set_property("localaddress", host);
    } else {
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        source.set_property("uri", format!("srt://{host}:{}?mode=caller", options.port));
    }
    // A break is to be seen here, where it is known for how long to try again.
    set_known(&source, &[("auto-reconnect", "false"), ("wait-for-connection", "true")]);
    for (name, value) in &options.set {
        set_known(&source, &[(name, value)]);
    }
    let (ends, ended) = sync_channel(4);
    let pipeline = gst::Pipeline::new();
    if pipeline.add(&source).is_err() {
        return End::Hopeless("the media pipeline can't be built".into());
    }
    let tail = match tail(&pipeline, &source, run, &ends) {
        Ok(tail) => tail,
        Err(fault) => return End::Hopeless(fault),
    };
    let begun = Instant::now();
    // It asks its pipeline for a clock.
    let end = match pipeline.set_state(gst::State::Playing) {
        Ok(_) => wait(&ended, run, begun, limits, options.listens),
        Err(_) => ended.try_recv().unwrap_or_else(|_| End::Lost("SRT: the connection failed".into())),
    };
    if options.listens && run.pulse.last().is_none() {
        // GStreamer 1.22 frees memory twice when it stops waiting for a caller. Nothing comes after this but the end.
        std::mem::forget(pipeline);
        return end;
    }
    let _ = pipeline.set_state(gst::State::Null);
    let _ = tail.set_active(false);
    end
}

fn wait(ended: &Receiver<End>, run: &Run, begun: Instant, limits: &PullLimits, listens: bool) -> End {
    let before = run.pulse.last();
    loop {
        match ended.recv_timeout(LOOK) {
            Ok(End::Lost(why)) => {
                let last = run.pulse.last().filter(|last| Some(*last) != before);
                return match last {
                    Some(last) if last.elapsed() < GOODBYE => End::Finished,
                    _ => End::Lost(why),
                };
            }
            Ok(end) => return end,
            Err(RecvTimeoutError::Disconnected) => return End::Lost("SRT: the connection ended".into()),
            Err(RecvTimeoutError::Timeout) => {}
        }
        let last = run.pulse.last().filter(|last| Some(*last) != before);
        // Who called has somebody to wait for; who listens waits for as long as a source may be lost.
        let fault = match last {
            Some(last) if last.elapsed() > limits.timeout => format!("SRT: nothing came for {:?}", limits.timeout),
            None if listens && begun.elapsed() > limits.timeout + limits.reconnect => "SRT: nobody connected".into(),
            None if !listens && begun.elapsed() > limits.timeout => "SRT: the other side does not answer".into(),
            _ => continue,
        };
        return End::Lost(fault);
    }
}

/// A pad that takes what the connection brings; how it ends goes to `ends`.
fn tail(
    pipeline: &gst::Pipeline,
    source: &gst::Element,
    run: &Run,
    ends: &SyncSender<End>,
) -> Result<gst::Pad, String> {
    let told = ends.clone();
    let bus = pipeline.bus().ok_or("the media pipeline has no bus")?;
    bus.set_sync_handler(move |_, message| {
        if let gst::MessageView::Error(error) = message.view() {
            let _ = told.try_send(End::Lost(words(&error.error().to_string(), error.debug().as_deref())));
        }
        gst::BusSyncReply::Drop
    });
    let feed = Mutex::new(Feed { demux: None, head: Vec::new() });
    let (tracks, shift, pulse) = (run.tracks.clone(), Arc::clone(&run.shift), run.pulse.clone());
    let (bad, eos) = (ends.clone(), ends.clone());
    let tail = gst::Pad::builder(gst::PadDirection::Sink)
        .chain_function(move |_, _, buffer| {
            pulse.beat();
            let Ok(map) = buffer.map_readable() else { return Ok(gst::FlowSuccess::Ok) };
            let mut feed = demuxer::lock(&feed);
            if let Some(demux) = &feed.demux {
                return if demux.bytes(map.to_vec()) { Ok(gst::FlowSuccess::Ok) } else { Err(gst::FlowError::Eos) };
            }
            feed.head.extend_from_slice(&map);
            match demuxer::kind_of(&feed.head) {
                Some(kind) => match Demux::push(&tracks, Arc::clone(&shift), &kind) {
                    Ok(demux) => {
                        let head = std::mem::take(&mut feed.head);
                        demux.bytes(head);
                        feed.demux = Some(demux);
                    }
                    Err(fault) => {
                        let _ = bad.try_send(End::Hopeless(fault));
                        return Err(gst::FlowError::Error);
                    }
                },
                None if feed.head.len() > HEAD => {
                    let _ = bad.try_send(End::Hopeless("what comes over SRT is not media that can be played".into()));
                    return Err(gst::FlowError::Error);
                }
                None => {}
            }
            Ok(gst::FlowSuccess::Ok)
        })
        .event_function(move |_, _, event| {
            if let gst::EventView::Eos(_) = event.view() {
                let _ = eos.try_send(End::Lost("SRT: the connection ended".into()));
            }
            true
        })
        .build();
    tail.set_active(true).map_err(|e| e.to_string())?;
    let src = source.static_pad("src").ok_or("srtsrc has no pad")?;
    src.link_full(&tail, gst::PadLinkCheck::CAPS).map_err(|e| e.to_string())?;
    Ok(tail)
}

/// Words for what libsrt says.
fn words(error: &str, debug: Option<&str>) -> String {
    let all = format!("{error} {}", debug.unwrap_or_default()).to_ascii_lowercase();
    let known = [
        ("rejected", "SRT: the other side refused the connection (stream id, passphrase or version)"),
        ("passphrase", "SRT: the passphrase is missing or wrong"),
        ("timed out", "SRT: the other side does not answer"),
        ("timeout", "SRT: the other side does not answer"),
        ("bind", "SRT: the address can't be listened on: is it another's, or in use?"),
        ("refused", "SRT: the other side does not answer"),
    ];
    let found = known.iter().find(|(sign, _)| all.contains(sign));
    found.map_or_else(|| format!("SRT: the connection failed ({error})"), |(_, words)| (*words).to_owned())
}
