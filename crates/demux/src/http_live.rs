//! Live streams over HTTP, which have no end: radio (Icecast, SHOUTcast), MPEG-TS and FLV of cameras and other media servers. They are
//! played as they come, and requested again when they break.

use crate::container::{self, HEAD};
use crate::demuxer::Demultiplexer;
use crate::fault::{lost, of_fetch};
use crate::reconnect::{self, Connection, Outcome};
use crate::source::Source;
use crate::sync::lock;
use crate::track_queues::TrackQueues;
use fetch::{Address, Client, Response};
use ipc::demux::Job;
use model::Fault;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How long a server is watched that gives neither a length nor a sign of being live.
const LIVENESS_WINDOW: Duration = Duration::from_millis(500);
/// A server that sends more than this meanwhile (bytes; 16 Mbit/s) sends a file as fast as it can. Of a live stream it sends the last
/// GOP at once, some hundred kilobytes.
const MAX_LIVE_BYTES: usize = 1 << 20;
/// Bytes by which an answer is recognised as the same as before: the first kilobytes of a live stream (its parameters) may be the same
/// again, but not what follows.
const SAME_START: usize = 32 << 10;

/// Whether a response of unknown length, of which `head` was read, is a live stream. What comes meanwhile is appended to `head`.
///
/// # Errors
/// If the connection breaks.
pub(crate) fn is_live(response: &mut Response, head: &mut Vec<u8>) -> Result<bool, fetch::Error> {
    if response.radio {
        return Ok(true);
    }
    let (begun, before) = (Instant::now(), head.len());
    while begun.elapsed() < LIVENESS_WINDOW {
        match response.next_piece(HEAD)? {
            Some(piece) => head.extend(piece),
            None => return Ok(false),
        }
        if head.len() - before >= MAX_LIVE_BYTES {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Plays a stream whose first answer has come, and of which `head` was read.
///
/// # Errors
/// If the system has no threads left.
pub(crate) fn open(job: &Job, client: Client, to: Address, response: Response, head: Vec<u8>) -> Result<Source, Fault> {
    // Radio may begin with the same again, and has no end.
    let beginning = head.get(..SAME_START).filter(|_| !response.radio).map(<[u8]>::to_vec);
    let first = Mutex::new(Some((response, head)));
    reconnect::source(&job.limits, TrackQueues::live_over_http(), move |connection| {
        if let Some((response, head)) = lock(&first).take() {
            return feed(response, head, &connection);
        }
        let again = client.get(&to, None).map_err(outcome).and_then(|mut response| {
            let mut head = Vec::new();
            while let Some(beginning) = &beginning
                && head.len() < SAME_START
                && beginning.starts_with(&head)
                && let Some(piece) = response.next_piece(SAME_START - head.len()).map_err(outcome)?
            {
                head.extend(piece);
            }
            Ok((response, head))
        });
        match again {
            Ok((_, head)) if beginning.as_ref() == Some(&head) => Outcome::Finished,
            Ok((response, head)) => feed(response, head, &connection),
            Err(outcome) => outcome,
        }
    })
}

/// Any error may pass but our own refusals: a stream that is gone comes back under the same name.
fn outcome(error: fetch::Error) -> Outcome {
    if error.is_policy() { Outcome::Failed(of_fetch(error)) } else { Outcome::Lost(of_fetch(error)) }
}

fn feed(mut response: Response, mut head: Vec<u8>, connection: &Connection) -> Outcome {
    let mut demux: Option<Demultiplexer> = None;
    connection.portable.set(true);
    loop {
        if let Some(demux) = &demux {
            if !demux.push_bytes(std::mem::take(&mut head)) {
                return Outcome::Finished;
            }
            connection.arrivals.note();
        } else if let Some(kind) = container::detect(&head) {
            match Demultiplexer::push(&connection.tracks, connection.shift.clone(), &kind) {
                Ok(new) => demux = Some(new),
                Err(fault) => return Outcome::Failed(fault),
            }
            continue;
        } else if head.len() >= HEAD {
            return Outcome::Lost(lost("what comes is not media that can be played"));
        }
        match response.next_piece(HEAD) {
            Ok(Some(piece)) => head.extend(piece),
            // A body with a length or chunks has ended; one that ends with its connection may have broken.
            Ok(None) if response.until_close() => {
                return Outcome::Lost(lost(format!("{} ended the stream", response.address.authority())));
            }
            Ok(None) => {
                demux.iter().for_each(Demultiplexer::end);
                return Outcome::Finished;
            }
            Err(e) => return outcome(e),
        }
    }
}
