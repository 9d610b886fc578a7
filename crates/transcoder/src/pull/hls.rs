//! HLS: segments to one demultiplexer after the other. What belongs together goes on in one; a discontinuity takes a new one,
//! whose tracks go on where those before ended.

use super::demux::{self, Demux, HEAD, Tracks};
use super::open::Source;
use super::stage::Stage;
use fetch::hls::{Piece, Stream, choose};
use fetch::playlist::{self, Playlist};
use fetch::{Client, Response};
use model::PullJob;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Opens a playlist of which this much was read.
///
/// # Errors
/// Why it can't be played, in words.
pub(super) fn open(job: &PullJob, client: Client, mut response: Response, head: Vec<u8>) -> Result<Source, String> {
    let told = |e: fetch::Error| e.to_string();
    let mut text = head;
    while let Some(piece) = response.next_piece(HEAD).map_err(told)? {
        text.extend(piece);
        if text.len() > playlist::MAX_TEXT {
            return Err("the playlist is too long".into());
        }
    }
    let base = response.address.clone();
    let reconnect = job.limits.reconnect;
    let mut streams = match playlist::parse(&text).map_err(told)? {
        Playlist::Media(_) => vec![Stream::new(client, base, &text, reconnect).map_err(told)?],
        Playlist::Master(master) => {
            let choice = choose(&master, &base, job.largest).map_err(told)?;
            let mut streams = vec![Stream::open(client.clone(), &choice.main, reconnect).map_err(told)?];
            if let Some(sound) = choice.sound.filter(|s| *s != choice.main) {
                streams.push(Stream::open(client, &sound, reconnect).map_err(told)?);
            }
            streams
        }
    };
    let stage = Stage::new(false);
    let mut begin = None;
    for stream in &mut streams {
        begin = stream.begin(begin);
        if let Some(from) = job.from.filter(|_| !stream.live()) {
            stream.skip_to(from.to_duration());
        }
    }
    let clock = Arc::default();
    for (i, stream) in streams.into_iter().enumerate() {
        if i > 0 {
            stage.open();
        }
        let feeder = Feeder::new(&stage, &clock);
        stage.fill("feed", move || feeder.run(stream))?;
    }
    Ok(Source { stage, live: false, file: None })
}

struct Feeder {
    stage: Stage,
    tracks: Tracks,
    /// The first timestamp of the first run, where sound and picture that lie apart have one clock.
    clock: Arc<OnceLock<i64>>,
    demux: Option<Demux>,
    head: Vec<u8>,
    at: Duration,
    first: bool,
    /// Every segment begins anew: sound without a container of its own.
    bare: bool,
}

impl Feeder {
    fn new(stage: &Stage, clock: &Arc<OnceLock<i64>>) -> Self {
        Self {
            stage: stage.clone(),
            tracks: Tracks::new(stage),
            clock: Arc::clone(clock),
            demux: None,
            head: Vec::new(),
            at: Duration::ZERO,
            first: true,
            bare: false,
        }
    }

    fn run(mut self, mut stream: Stream) {
        loop {
            let done = match stream.next_piece() {
                Ok(Some(Piece::Segment { fresh, at })) => self.segment(fresh, at),
                Ok(Some(Piece::Bytes(bytes))) => self.bytes(bytes),
                Ok(None) => {
                    self.finish();
                    return self.tracks.end();
                }
                Err(e) => Err(e.to_string()),
            };
            match done {
                Ok(true) => {}
                Ok(false) => return,
                Err(fault) => return self.stage.fail(fault),
            }
        }
    }

    fn finish(&mut self) {
        if let Some(demux) = self.demux.take() {
            demux.end();
        }
    }

    fn segment(&mut self, fresh: bool, at: Duration) -> Result<bool, String> {
        // One of which only the beginning came before it broke is followed by something fresh.
        if !fresh && !self.head.is_empty() && self.demux.is_none() {
            return Err("a segment is not media that can be played".into());
        }
        if fresh || self.bare {
            self.finish();
            self.head.clear();
            self.at = at;
        }
        Ok(true)
    }

    /// False if nobody wants more.
    fn bytes(&mut self, bytes: Vec<u8>) -> Result<bool, String> {
        if let Some(demux) = &self.demux {
            return Ok(demux.bytes(bytes));
        }
        self.head.extend(bytes);
        let Some(kind) = demux::kind_of(&self.head) else {
            let enough = self.head.len() >= HEAD;
            return if enough { Err("a segment is not media that can be played".into()) } else { Ok(true) };
        };
        let name = kind.structure(0).map(|s| s.name().to_string()).unwrap_or_default();
        self.bare = name.starts_with("audio/") || name == "application/x-id3";
        let first = if std::mem::take(&mut self.first) && name == "video/quicktime" {
            Arc::clone(&self.clock)
        } else {
            Arc::default()
        };
        let at = i64::try_from(self.at.as_nanos()).unwrap_or(i64::MAX);
        let demux = Demux::push(&self.tracks, demux::shifted(first, at), &kind)?;
        let wanted = demux.bytes(std::mem::take(&mut self.head));
        self.demux = Some(demux);
        Ok(wanted)
    }
}
