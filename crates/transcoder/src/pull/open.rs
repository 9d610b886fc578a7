//! Opening an address: what it is decides how it is read.

use super::demux::{self, Demux, HEAD, Tracks};
use super::stage::Stage;
use super::{hls, rtsp, srt};
use fetch::{Address, Client, RangeFile, Response, Scheme, playlist};
use gstreamer as gst;
use model::PullJob;

/// A source that plays.
pub(crate) struct Source {
    /// Where its tracks are.
    pub(crate) stage: Stage,
    /// Whether it comes in real time, so that it must not be held up.
    pub(crate) live: bool,
    /// What must live as long.
    pub(crate) _parts: Vec<Box<dyn Send>>,
}

/// Opens the job's address.
///
/// # Errors
/// Why it can't be played, in words.
pub(crate) fn open(job: &PullJob) -> Result<Source, String> {
    let told = |e: fetch::Error| e.to_string();
    let address = Address::parse(&job.url).map_err(told)?;
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

fn http(job: &PullJob, client: Client, address: Address, mut response: Response) -> Result<Source, String> {
    let size = response.range.and_then(|(_, whole)| whole).or(response.length);
    if let (Some(size), Some(allowed)) = (size, job.limits.file_size)
        && size > allowed
    {
        return Err(fetch::Error::TooLarge { size, allowed }.to_string());
    }
    let mut head = Vec::new();
    while head.len() < HEAD {
        match response.next_piece(HEAD - head.len()).map_err(|e| e.to_string())? {
            Some(piece) => head.extend(piece),
            None => break,
        }
    }
    if playlist::is_playlist(&head) {
        return hls::open(job, client, response, head);
    }
    let kind = kind(&head, &response.content_type)?;
    match RangeFile::open(client, address, response, &head) {
        Ok(file) => seekable(file, &kind),
        Err(response) => streamed(*response, head, &kind),
    }
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
    demux::kind_of(head)
        .filter(|caps| caps.structure(0).is_some_and(|s| !s.name().starts_with("text/")))
        .ok_or_else(words)
}

fn seekable(mut file: RangeFile, kind: &gst::Caps) -> Result<Source, String> {
    let stage = Stage::new(false);
    let length = file.length();
    let reader = Box::new(move |at, most| file.read(at, most).map_err(|e| e.to_string()));
    let demux = Demux::pull(&Tracks::new(&stage), kind, length, reader)?;
    Ok(Source { stage, live: false, _parts: vec![Box::new(demux)] })
}

fn streamed(mut response: Response, head: Vec<u8>, kind: &gst::Caps) -> Result<Source, String> {
    let stage = Stage::new(false);
    let tracks = Tracks::new(&stage);
    let demux = Demux::push(&tracks, demux::unshifted(), kind)?;
    let fed = stage.clone();
    let feed = move || {
        let mut piece = Some(head);
        while let Some(bytes) = piece {
            if !demux.bytes(bytes) {
                break;
            }
            piece = match response.next_piece(HEAD) {
                Ok(piece) => piece,
                Err(e) => return fed.fail(e.to_string()),
            };
        }
        demux.end();
        tracks.end();
    };
    std::thread::Builder::new().name("feed".into()).spawn(feed).map_err(|e| e.to_string())?;
    Ok(Source { stage, live: false, _parts: Vec::new() })
}
