//! Opening an address: what it is decides how it is read.

use crate::demuxer::{self, Demux, HEAD, Tracks};
use crate::track_queues::Stage;
use crate::{hls, http_live, length, rtsp, srt};
use fetch::{Address, Client, RangeFile, Response, ResumableBody, Scheme, playlist};
use gstreamer as gst;
use ipc::demux::{self, Job};
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::time::Duration;

/// How long a stream without an end is waited for to be told for sure: radio of 32 kbit/s would take 16 seconds for all of [`HEAD`].
const EARLY: Duration = Duration::from_secs(1);

/// A source that plays.
pub(crate) struct Source {
    /// Where its tracks are.
    pub(crate) stage: Stage,
    /// Whether it comes in real time, so that it must not be held up.
    pub(crate) live: bool,
    /// What reads a file at any place, and can jump in it.
    pub(crate) file: Option<Demux>,
}

/// Opens the job's address.
///
/// # Errors
/// Why it can't be played, in words.
pub(crate) fn open(job: &Job) -> Result<Source, String> {
    let told = |e: fetch::Error| e.to_string();
    let demux::Source::Url(url) = &job.source else { return Err("nothing here takes bytes yet".into()) };
    let address = Address::parse(url).map_err(told)?;
    match address.scheme {
        Scheme::Http | Scheme::Https => {
            let client = Client::new(job.guard.clone(), &job.limits);
            let response = client.get(&address, Some((0, None))).map_err(told)?;
            http(job, client, address, response)
        }
        Scheme::Srt => srt::open(job, address),
        Scheme::Rtsp | Scheme::Rtsps => rtsp::open(job, address),
    }
}

fn http(job: &Job, client: Client, address: Address, mut response: Response) -> Result<Source, String> {
    let size = response.range.and_then(|(_, whole)| whole).or(response.length);
    if let (Some(size), Some(allowed)) = (size, job.limits.file_size)
        && size > allowed
    {
        return Err(fetch::Error::TooLarge { size, allowed }.to_string());
    }
    // A stream without an end is not waited for longer than it takes to know what it is.
    let endless = response.length.is_none() && response.range.is_none();
    let mut head = begins(&mut response, endless, client.small_file_timeout()).map_err(|e| e.to_string())?;
    if playlist::is_playlist(&head) {
        return hls::open(job, client, response, head);
    }
    response.clear_deadline().map_err(|e| e.to_string())?;
    let mut kind = kind(&head, &response.content_type)?;
    if let (Some(crop), Some(flv)) = (media::vp6::crop(&head), kind.make_mut().structure_mut(0)) {
        flv.set(demuxer::CROP, i32::from(crop));
    }
    let again = (client.clone(), address.clone());
    match RangeFile::open(client, address, response, &head) {
        Ok(mut file) if demuxer::is_ts(&kind) => {
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
            seekable(move |at, most| file.read(at, most).map_err(|e| e.to_string()), length, &kind)
        }
        Err(response) if index_last(&head) => {
            let length = response.length;
            let body = ResumableBody::new(again.0, again.1, *response, head.len() as u64);
            let (file, length) = spool(body, length, head, job.limits.temporary).map_err(|e| e.to_string())?;
            seekable(move |at, most| read_at(&file, at, most).map_err(|e| e.to_string()), length, &kind)
        }
        Err(mut response) => {
            let unsaid = endless && !length::is_told(&head);
            if unsaid && http_live::is_live(&mut response, &mut head).map_err(|e| e.to_string())? {
                return http_live::open(job, again.0, again.1, *response, head);
            }
            let mut body = ResumableBody::new(again.0, again.1, *response, head.len() as u64);
            let mut head = Some(head);
            streamed(move || head.take().map_or_else(|| body.next_piece(HEAD), |head| Ok(Some(head))), &kind)
        }
    }
}

/// The first bytes of a response, as many as it takes to tell what it is; what gives fewer than [`HEAD`] is told by those in the end.
fn begins(response: &mut Response, endless: bool, patience: Duration) -> Result<Vec<u8>, fetch::Error> {
    let mut head = Vec::new();
    let mut early = endless;
    response.set_deadline(if endless { EARLY } else { patience })?;
    while head.len() < HEAD && !(endless && demuxer::surely(&head)) {
        match response.next_piece(HEAD - head.len()) {
            Ok(Some(piece)) => head.extend(piece),
            Ok(None) => break,
            Err(fetch::Error::Slow { .. }) if !playlist::is_playlist(&head) && demuxer::kind_of(&head).is_some() => {
                break;
            }
            Err(fetch::Error::Slow { .. }) if std::mem::take(&mut early) => response.set_deadline(patience)?,
            Err(e) => return Err(e),
        }
    }
    Ok(head)
}

/// Whether an MP4 that begins like this has its media before its index (ISO 14496-12 §4.2): it can only be played from its end.
fn index_last(head: &[u8]) -> bool {
    let mut at = 0usize;
    while let Some(start) = head.get(at..at.saturating_add(16)) {
        let size = u32::from_be_bytes([start[0], start[1], start[2], start[3]]);
        match (&start[4..8], size) {
            (b"mdat", _) => return true,
            (b"ftyp" | b"free" | b"skip" | b"wide" | b"uuid" | b"pdin", 8..) => at = at.saturating_add(size as usize),
            _ => return false,
        }
    }
    false
}

/// Brings a whole file to the disk, where nobody else finds it.
fn spool(mut body: ResumableBody, length: Option<u64>, head: Vec<u8>, most: u64) -> Result<(File, u64), fetch::Error> {
    let too_large = |size| fetch::Error::TooLarge { size, allowed: most };
    if let Some(size) = length.filter(|size| *size > most) {
        return Err(too_large(size));
    }
    let path = std::env::temp_dir().join(format!("ingress-{}.part", std::process::id()));
    let opened = File::options().read(true).write(true).create_new(true).open(&path);
    let mut file = opened.map_err(fetch::Error::Temporary)?;
    std::fs::remove_file(&path).map_err(fetch::Error::Temporary)?;
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

/// The kind of something that begins like this, or words for what it is instead.
fn kind(head: &[u8], content_type: &str) -> Result<gst::Caps, String> {
    let words = || {
        let said =
            if content_type.is_empty() { String::new() } else { format!(" (the server calls it {content_type})") };
        format!("this is not media that can be played{said}")
    };
    if head.is_empty() {
        return Err("the file is empty".into());
    }
    demuxer::kind_of(head)
        .filter(|caps| caps.structure(0).is_some_and(|s| !s.name().starts_with("text/")))
        .ok_or_else(words)
}

fn seekable(
    reader: impl FnMut(u64, usize) -> Result<Vec<u8>, String> + Send + 'static,
    length: u64,
    kind: &gst::Caps,
) -> Result<Source, String> {
    let stage = Stage::new(false);
    let demux = Demux::pull(&Tracks::new(&stage), kind, length, Box::new(reader))?;
    Ok(Source { stage, live: false, file: Some(demux) })
}

/// Plays what `more` gives, piece by piece until `None`.
fn streamed(
    mut more: impl FnMut() -> Result<Option<Vec<u8>>, fetch::Error> + Send + 'static,
    kind: &gst::Caps,
) -> Result<Source, String> {
    let stage = Stage::new(false);
    let tracks = Tracks::new(&stage);
    let demux = Demux::push(&tracks, demuxer::unshifted(), kind)?;
    let fed = stage.clone();
    let feed = move || {
        loop {
            match more() {
                Ok(Some(bytes)) => {
                    if !demux.bytes(bytes) {
                        break;
                    }
                }
                Ok(None) => break,
                Err(e) => return fed.fail(e.to_string()),
            }
        }
        demux.end();
        tracks.end();
    };
    stage.fill("feed", feed)?;
    Ok(Source { stage, live: false, file: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_at_the_end_is_seen() {
        let file = |boxes: &[(&str, usize)]| -> Vec<u8> {
            let one = |(name, size): &(&str, usize)| {
                let mut b = (*size as u32).to_be_bytes().to_vec();
                b.extend(name.as_bytes());
                b.resize(*size, 0);
                b
            };
            boxes.iter().flat_map(one).collect()
        };
        assert!(index_last(&file(&[("ftyp", 32), ("free", 8), ("mdat", 100)])));
        assert!(!index_last(&file(&[("ftyp", 32), ("moov", 80), ("mdat", 100)])));
        assert!(!index_last(&file(&[("ftyp", 4)])) && !index_last(&[]) && !index_last(&[0; 100]));
    }
}
