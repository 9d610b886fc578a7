//! Opens the source of a job: what it is decides how it is read.

use crate::container::{self, HEAD};
use crate::declared_duration;
use crate::demuxer::{Demultiplexer, Tracks};
use crate::fault::{of_fetch, unplayable};
use crate::source::{Portable, Source};
use crate::track_queues::TrackQueues;
use crate::{hls, http_live, rtsp, srt, time_shift};
use fetch::{Address, Client, RangeFile, Response, ResumableBody, Scheme, playlist};
use gstreamer as gst;
use ipc::demux::Job;
use model::Fault;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;
use worker::Temporary;

/// How long a stream without an end may take to be recognised for certain: radio of 32 kbit/s would take 16 seconds for all of [`HEAD`].
const CERTAIN_WITHIN: Duration = Duration::from_secs(1);

/// Opens the job's URL. `temporary` is where a file goes that has to be there whole.
///
/// # Errors
/// Why it can't be played.
pub(crate) fn open(job: &Job, url: &str, temporary: &mut Temporary) -> Result<Source, Fault> {
    let address = Address::parse(url).map_err(of_fetch)?;
    match address.scheme {
        Scheme::Http | Scheme::Https => {
            let client = Client::new(job.guard.clone(), &job.limits);
            let response = client.get(&address, Some((0, None))).map_err(of_fetch)?;
            http(job, client, address, response, temporary)
        }
        Scheme::Srt => srt::open(job, address),
        Scheme::Rtsp | Scheme::Rtsps => rtsp::open(job, address),
    }
}

fn http(
    job: &Job,
    client: Client,
    address: Address,
    mut response: Response,
    temporary: &mut Temporary,
) -> Result<Source, Fault> {
    let size = response.range.and_then(|(_, whole)| whole).or(response.length);
    if let (Some(size), Some(allowed)) = (size, job.limits.file_size)
        && size > allowed
    {
        return Err(of_fetch(fetch::Error::TooLarge { size, allowed }));
    }
    // A stream without an end is not read for longer than it takes to recognise it.
    let endless = response.length.is_none() && response.range.is_none();
    let mut head = read_head(&mut response, endless, client.small_file_timeout()).map_err(of_fetch)?;
    if playlist::is_playlist(&head) {
        // Also one whose end is not known beforehand: it is small.
        response.set_deadline(client.small_file_timeout()).map_err(of_fetch)?;
        return hls::open(job, client, address, response, head);
    }
    response.clear_deadline().map_err(of_fetch)?;
    let mut kind = detect(&head, &response.content_type)?;
    if let (Some(crop), Some(flv)) = (media::vp6::crop(&head), kind.make_mut().structure_mut(0)) {
        flv.set(container::VP6_CROP, i32::from(crop));
    }
    let again = (client.clone(), address.clone());
    match RangeFile::open(client, address, response, &head) {
        Ok(mut file) if container::is_mpegts(&kind) => {
            let mut at = 0;
            let more = move || {
                let piece = file.read(at, HEAD)?;
                at += piece.len() as u64;
                Ok(Some(piece).filter(|p| !p.is_empty()))
            };
            streamed(more, &kind)
        }
        Ok(mut file) => {
            let length = file.length();
            seekable(move |at, most| file.read(at, most).map_err(of_fetch), length, &kind)
        }
        Err(response) if container::has_index_last(&head) => {
            let length = response.length;
            let body = ResumableBody::new(again.0, again.1, *response, head.len() as u64);
            let (file, length) = spool(body, length, head, job.limits.temporary, temporary).map_err(of_fetch)?;
            seekable(
                move |at, most| read_at(&file, at, most).map_err(|e| of_fetch(fetch::Error::Temporary(e))),
                length,
                &kind,
            )
        }
        Err(mut response) => {
            let may_be_live = endless && !declared_duration::is_declared(&head);
            if may_be_live && http_live::is_live(&mut response, &mut head).map_err(of_fetch)? {
                return http_live::open(job, again.0, again.1, *response, head);
            }
            let mut body = ResumableBody::new(again.0, again.1, *response, head.len() as u64);
            let mut head = Some(head);
            streamed(move || head.take().map_or_else(|| body.next_piece(HEAD), |head| Ok(Some(head))), &kind)
        }
    }
}

/// The first bytes of a response, as many as it takes to recognise it. A server that sends fewer than [`HEAD`] within `timeout` is judged
/// by those.
fn read_head(response: &mut Response, endless: bool, timeout: Duration) -> Result<Vec<u8>, fetch::Error> {
    let mut head = Vec::new();
    let mut early = endless;
    response.set_deadline(if endless { CERTAIN_WITHIN } else { timeout })?;
    while head.len() < HEAD && !(endless && container::is_certain(&head)) {
        match response.next_piece(HEAD - head.len()) {
            Ok(Some(piece)) => head.extend(piece),
            Ok(None) => break,
            Err(fetch::Error::Slow { .. }) if !playlist::is_playlist(&head) && container::detect(&head).is_some() => {
                break;
            }
            Err(fetch::Error::Slow { .. }) if std::mem::take(&mut early) => response.set_deadline(timeout)?,
            Err(e) => return Err(e),
        }
    }
    Ok(head)
}

/// Downloads a whole file to the temporary one.
fn spool(
    mut body: ResumableBody,
    length: Option<u64>,
    head: Vec<u8>,
    most: u64,
    temporary: &mut Temporary,
) -> Result<(File, u64), fetch::Error> {
    let too_large = |size| fetch::Error::TooLarge { size, allowed: most };
    if most == 0 {
        return Err(fetch::Error::NoTemporary);
    }
    if let Some(size) = length.filter(|size| *size > most) {
        return Err(too_large(size));
    }
    let mut file = temporary.take().map_err(fetch::Error::Temporary)?;
    let (mut length, mut piece) = (0, Some(head));
    while let Some(bytes) = piece {
        length += bytes.len() as u64;
        if length > most {
            return Err(too_large(length));
        }
        file.write_all(&bytes).map_err(fetch::Error::Temporary)?;
        piece = body.next_piece(HEAD)?;
    }
    Ok((file, length))
}

fn read_at(file: &File, at: u64, most: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; most];
    let mut got = 0;
    while got < most {
        match file.read_at(&mut bytes[got..], at + got as u64)? {
            0 => break,
            n => got += n,
        }
    }
    bytes.truncate(got);
    Ok(bytes)
}

/// What begins like this.
fn detect(head: &[u8], content_type: &str) -> Result<gst::Caps, Fault> {
    let unknown = || {
        let called =
            if content_type.is_empty() { String::new() } else { format!(" (the server calls it {content_type})") };
        unplayable(format!("this is not media that can be played{called}"))
    };
    if head.is_empty() {
        return Err(unplayable("the file is empty"));
    }
    container::detect(head)
        .filter(|caps| caps.structure(0).is_some_and(|s| !s.name().starts_with("text/")))
        .ok_or_else(unknown)
}

/// Plays what `reader` gives of a file of this length, at any offset.
fn seekable(
    reader: impl FnMut(u64, usize) -> Result<Vec<u8>, Fault> + Send + 'static,
    length: u64,
    kind: &gst::Caps,
) -> Result<Source, Fault> {
    let queues = TrackQueues::new();
    let demux = Demultiplexer::pull(&Tracks::new(&queues), kind, length, Box::new(reader))?;
    Ok(Source { queues, live: false, file: Some(Arc::new(demux)), portable: Portable::default() })
}

/// Plays what `more` gives, piece by piece until `None`.
fn streamed(
    mut more: impl FnMut() -> Result<Option<Vec<u8>>, fetch::Error> + Send + 'static,
    kind: &gst::Caps,
) -> Result<Source, Fault> {
    let queues = TrackQueues::new();
    let tracks = Tracks::new(&queues);
    let demux = Arc::new(Demultiplexer::push(
        &tracks,
        if container::is_mpegts(kind) { time_shift::together() } else { time_shift::none() },
        kind,
    )?);
    let (fed, file) = (queues.clone(), Arc::clone(&demux));
    let feed = move || {
        loop {
            match more() {
                Ok(Some(bytes)) => {
                    if !demux.push_bytes(bytes) {
                        break;
                    }
                }
                Ok(None) => break,
                Err(e) => return fed.fail(of_fetch(e)),
            }
        }
        demux.end();
        tracks.end();
    };
    queues.fill("feed", feed)?;
    Ok(Source { queues, live: false, file: Some(file), portable: Portable::default() })
}
