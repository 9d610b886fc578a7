//! Streams over HTTP that have no end: radio (Icecast, SHOUTcast), MPEG-TS and FLV of cameras and of other media servers. They
//! are live: played as they come, and asked for again when they break.

use crate::demuxer::{self, Demux, HEAD};
use crate::open::Source;
use crate::reconnect::{self, End, Run};
use crate::track_queues::Stage;
use fetch::{Address, Client, Response};
use ipc::demux::Job;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How long is looked at a server that says nothing of length or liveness.
const LOOK: Duration = Duration::from_millis(500);
/// What sends more than this meanwhile (16 Mbit/s) sends a file as fast as it can. What a server sends of a live stream at once
/// is the last picture group, some hundred kilobytes.
const FAST: usize = 1 << 20;
/// Bytes by which it is told that an answer is that of before from its beginning: the head of a live stream may be the same again
/// (some kilobytes of parameters), but not what follows.
const SAME: usize = 32 << 10;

/// Whether a response of unknown length, whose head was read, is that of a live stream; more of it comes to `head` meanwhile.
///
/// # Errors
/// If it breaks.
pub(crate) fn is_live(response: &mut Response, head: &mut Vec<u8>) -> Result<bool, fetch::Error> {
    if response.radio {
        return Ok(true);
    }
    let (begun, before) = (Instant::now(), head.len());
    while begun.elapsed() < LOOK {
        match response.next_piece(HEAD)? {
            Some(piece) => head.extend(piece),
            None => return Ok(false),
        }
        if head.len() - before >= FAST {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Plays a stream whose first answer has come, and of which `head` was read.
///
/// # Errors
/// If the system has no threads left.
pub(crate) fn open(
    job: &Job,
    client: Client,
    to: Address,
    response: Response,
    head: Vec<u8>,
) -> Result<Source, String> {
    // Radio may begin with the same again, and is none that has an end.
    let beginning = head.get(..SAME).filter(|_| !response.radio).map(<[u8]>::to_vec);
    let first = Mutex::new(Some((response, head)));
    reconnect::source(&job.limits, Stage::over_http(), move |run| {
        if let Some((response, head)) = demuxer::lock(&first).take() {
            return feed(response, head, &run);
        }
        let again = client.get(&to, None).map_err(|e| fault(&e)).and_then(|mut response| {
            let mut head = Vec::new();
            while let Some(beginning) = &beginning
                && head.len() < SAME
                && beginning.starts_with(&head)
                && let Some(piece) = response.next_piece(SAME - head.len()).map_err(|e| fault(&e))?
            {
                head.extend(piece);
            }
            Ok((response, head))
        });
        match again {
            Ok((_, head)) if beginning.as_ref() == Some(&head) => End::Finished,
            Ok((response, head)) => feed(response, head, &run),
            Err(end) => end,
        }
    })
}

/// What is wrong may pass, but for what was decided here: a stream that is gone comes back under the same name.
fn fault(error: &fetch::Error) -> End {
    if error.is_policy() { End::Hopeless(error.to_string()) } else { End::Lost(error.to_string()) }
}

fn feed(mut response: Response, mut head: Vec<u8>, run: &Run) -> End {
    let mut demux: Option<Demux> = None;
    loop {
        if let Some(demux) = &demux {
            if !demux.bytes(std::mem::take(&mut head)) {
                return End::Finished;
            }
            run.pulse.beat();
        } else if let Some(kind) = demuxer::kind_of(&head) {
            match Demux::push(&run.tracks, run.shift.clone(), &kind) {
                Ok(new) => demux = Some(new),
                Err(fault) => return End::Hopeless(fault),
            }
            continue;
        } else if head.len() >= HEAD {
            return End::Lost("what comes is not media that can be played".into());
        }
        match response.next_piece(HEAD) {
            Ok(Some(piece)) => head.extend(piece),
            // A body that says where it ends has ended; one that does not may have broken.
            Ok(None) if response.until_close() => {
                return End::Lost(format!("{} ended the stream", response.address.authority()));
            }
            Ok(None) => {
                demux.iter().for_each(Demux::end);
                return End::Finished;
            }
            Err(e) => return fault(&e),
        }
    }
}
