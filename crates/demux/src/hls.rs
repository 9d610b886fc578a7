//! HLS: segments to one demultiplexer after the other. What belongs together goes on in one; a discontinuity takes a new one,
//! whose tracks go on where those before ended. Sound that lies apart from its pictures is in step with them by [`super::clock`].

use crate::demuxer::{self, Demux, HEAD, Shift, Tracks, lock};
use crate::open::Source;
use crate::track_queues::Stage;
use fetch::hls::{Piece, Stream, choose};
use fetch::playlist::{self, Playlist};
use fetch::{Client, Response};
use ipc::demux::Job;
use media::id3;
use media::mpegts::pcr::PcrGate;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;
use timing::hls_clock::{FrameTime, Rendition};

mod shared_clock;

use shared_clock::SharedClock;

/// Opens a playlist of which this much was read.
///
/// # Errors
/// Why it can't be played, in words.
pub(crate) fn open(job: &Job, client: Client, mut response: Response, head: Vec<u8>) -> Result<Source, String> {
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
    let clock = SharedClock::default();
    // All of them before the first comes to the end of a run.
    let renditions: Vec<Rendition> = streams.iter().map(|_| clock.join()).collect();
    for (i, (stream, rendition)) in streams.into_iter().zip(renditions).enumerate() {
        if i > 0 {
            stage.open();
        }
        let feeder = Feeder::new(&stage, &clock, rendition);
        stage.fill("feed", move || feeder.run(stream))?;
    }
    Ok(Source { stage, live: false, file: None })
}

struct Feeder {
    stage: Stage,
    tracks: Tracks,
    /// The clock of all renditions, and how far this one is.
    clock: SharedClock,
    rendition: Arc<Mutex<Rendition>>,
    demux: Option<Demux>,
    head: Vec<u8>,
    at: Duration,
    number: u64,
    begun: bool,
    /// Every segment begins anew: sound without a container of its own.
    bare: bool,
}

impl Feeder {
    fn new(stage: &Stage, clock: &SharedClock, rendition: Rendition) -> Self {
        Self {
            stage: stage.clone(),
            tracks: Tracks::new(stage),
            clock: clock.clone(),
            rendition: Arc::new(Mutex::new(rendition)),
            demux: None,
            head: Vec::new(),
            at: Duration::ZERO,
            number: 0,
            begun: false,
            bare: false,
        }
    }

    fn run(mut self, mut stream: Stream) {
        loop {
            let done = match stream.next_piece() {
                Ok(Some(Piece::Segment { fresh, at, run })) => self.segment(fresh, at, run),
                Ok(Some(Piece::Bytes(bytes))) => self.bytes(bytes),
                Ok(None) => {
                    self.finish(true);
                    self.clock.leave();
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

    /// What waits for its clock reference is of no use if it breaks off here.
    fn finish(&mut self, whole: bool) {
        if let Some(demux) = self.demux.take() {
            if whole { demux.finish() } else { demux.end() }
        }
    }

    fn segment(&mut self, fresh: bool, at: Duration, number: u64) -> Result<bool, String> {
        // One of which only the beginning came before it broke is followed by something fresh.
        if !fresh && !self.head.is_empty() && self.demux.is_none() {
            return Err("a segment is not media that can be played".into());
        }
        if fresh || self.bare {
            self.finish(number != self.number);
            self.head.clear();
            self.at = at;
            if !self.begun {
                lock(&self.rendition).skip_to(nanos(at));
            } else if fresh && number == self.number {
                self.stage.rejoined();
            }
            (self.begun, self.number) = (true, number);
        }
        Ok(true)
    }

    /// False if nobody wants more.
    fn bytes(&mut self, bytes: Vec<u8>) -> Result<bool, String> {
        if let Some(demux) = &self.demux {
            return Ok(demux.bytes(bytes));
        }
        self.head.extend(bytes);
        let Some(kind) = demuxer::kind_of(&self.head) else {
            let enough = self.head.len() >= HEAD;
            return if enough { Err("a segment is not media that can be played".into()) } else { Ok(true) };
        };
        let name = kind.structure(0).map(|s| s.name().to_string()).unwrap_or_default();
        self.bare = name.starts_with("audio/") || name == "application/x-id3";
        let gate = demuxer::is_ts(&kind).then(PcrGate::default);
        let head = std::mem::take(&mut self.head);
        let shift = self.shift(&head, gate.as_ref().map(PcrGate::first_pcr));
        let demux = match gate {
            Some(gate) => Demux::push_gated(&self.tracks, shift, &kind, gate)?,
            None => Demux::push(&self.tracks, shift, &kind)?,
        };
        let wanted = demux.bytes(head);
        self.demux = Some(demux);
        Ok(wanted)
    }

    /// Where what begins like this is on the timeline; an MPEG-TS counts from its first clock reference.
    fn shift(&self, head: &[u8], first_pcr: Option<Arc<OnceLock<i64>>>) -> Shift {
        let bare = self.bare;
        let zero = if bare { id3::mpegts_timestamp(head) } else { Some(0) };
        // Nothing but the playlist says where this belongs.
        let Some(zero) = zero else { return demuxer::shifted(nanos(self.at)) };
        let (clock, rendition) = (self.clock.clone(), Arc::clone(&self.rendition));
        lock(&rendition).begin(self.number);
        Arc::new(move |stamp| {
            let pcr = first_pcr.as_ref().map(|first| first.get().map_or(0, |first| *first));
            let zero = stamp.less.saturating_add(pcr.unwrap_or(zero));
            let wraps = bare || pcr.is_some();
            let at = FrameTime { kind: stamp.kind, at: stamp.at.saturating_add(zero), lasts: stamp.lasts, wraps };
            clock.map(&mut lock(&rendition), at).saturating_sub(stamp.at)
        })
    }
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
