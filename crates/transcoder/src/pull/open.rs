//! Opening an address: what it is decides how it is read.

use super::demux::{self, Demux, HEAD, Joins};
use super::stage::Stage;
use fetch::{Address, Client, RangeFile, Response, Scheme};
use gstreamer as gst;
use model::PullJob;

/// A source that plays.
pub(crate) struct Source {
    /// Where its tracks are.
    pub(crate) stage: Stage,
    /// Whether it comes in real time, so that it must not be held up.
    pub(crate) live: bool,
    _parts: Vec<Box<dyn Send>>,
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
        _ => Err("unsupported URL type".into()),
    }
}

fn http(job: &PullJob, client: Client, address: Address, response: Response) -> Result<Source, String> {
    let size = response.range.and_then(|(_, whole)| whole).or(response.length);
    if let (Some(size), Some(allowed)) = (size, job.limits.file_size)
        && size > allowed
    {
        return Err(fetch::Error::TooLarge { size, allowed }.to_string());
    }
    match RangeFile::open(client, address, response) {
        Ok(file) => seekable(file),
        Err(response) => streamed(*response),
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

fn seekable(mut file: RangeFile) -> Result<Source, String> {
    let head = file.read(0, HEAD).map_err(|e| e.to_string())?;
    let kind = kind(&head, file.content_type())?;
    let stage = Stage::new(false);
    let length = file.length();
    let reader = Box::new(move |at, most| file.read(at, most).map_err(|e| e.to_string()));
    let demux = Demux::pull(Joins::new(&stage), &kind, length, reader)?;
    Ok(Source { stage, live: false, _parts: vec![Box::new(demux)] })
}

fn streamed(mut response: Response) -> Result<Source, String> {
    let mut head = Vec::new();
    while head.len() < HEAD {
        match response.next_piece(HEAD).map_err(|e| e.to_string())? {
            Some(piece) => head.extend(piece),
            None => break,
        }
    }
    let kind = kind(&head, &response.content_type)?;
    let stage = Stage::new(false);
    let demux = Demux::push(Joins::new(&stage), &kind)?;
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
        fed.end_all();
    };
    std::thread::Builder::new().name("feed".into()).spawn(feed).map_err(|e| e.to_string())?;
    Ok(Source { stage, live: false, _parts: Vec::new() })
}
