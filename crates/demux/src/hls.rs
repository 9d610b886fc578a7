//! HLS: feeds segments to one demultiplexer after the other. A discontinuity takes a new one, whose tracks continue those before.
//! Renditions are aligned by [`timing::hls_clock`].

use crate::container::{self, HEAD};
use crate::demuxer::{Demultiplexer, Tracks};
use crate::fault::{of_fetch, unplayable};
use crate::source::Source;
use crate::sync::lock;
use crate::time_shift::{self, TimeShift};
use crate::track_queues::TrackQueues;
use fetch::hls::{Choice, Piece, Stream, choose};
use fetch::playlist::{self, Playlist};
use fetch::{Address, Client, Response};
use ipc::demux::Job;
use media::id3;
use media::mpegts::pcr::PcrGate;
use model::Fault;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;
use timing::hls_clock::{FrameTime, Rendition};

mod shared_clock;

use shared_clock::SharedClock;

/// Opens a playlist of which this much was read.
///
/// # Errors
/// Why it can't be played.
pub(crate) fn open(
    job: &Job,
    client: Client,
    asked: Address,
    mut response: Response,
    head: Vec<u8>,
) -> Result<Source, Fault> {
    let mut text = head;
    while let Some(piece) = response.next_piece(HEAD).map_err(of_fetch)? {
        text.extend(piece);
        if text.len() > playlist::MAX_TEXT {
            return Err(unplayable("the playlist is too long"));
        }
    }
    let base = response.address.clone();
    let reconnect = job.limits.reconnect;
    let mut streams = match playlist::parse(&text).map_err(of_fetch)? {
        Playlist::Media(_) => vec![Stream::new(client, asked, base, &text, reconnect).map_err(of_fetch)?],
        Playlist::Master(master) => {
            let choices = choose(&master, &base, job.largest).map_err(of_fetch)?;
            first_that_opens(&choices, |choice| {
                let mut streams = vec![Stream::open(client.clone(), &choice.main, reconnect)?];
                if let Some(audio) = choice.audio.as_ref().filter(|audio| **audio != choice.main) {
                    let mut audio = Stream::open(client.clone(), audio, reconnect)?;
                    audio.join(&streams[0]);
                    streams.push(audio);
                }
                Ok(streams)
            })
            .map_err(of_fetch)?
        }
    };
    let queues = TrackQueues::new();
    let mut begin = None;
    for stream in &mut streams {
        begin = stream.begin(begin);
        if let Some(from) = job.from.filter(|_| !stream.live()) {
            stream.skip_to(from.to_duration());
        }
    }
    let clock = SharedClock::default();
    // All join before the first comes to the end of a run.
    let renditions: Vec<Rendition> = streams.iter().map(|_| clock.join()).collect();
    for (i, (stream, rendition)) in streams.into_iter().zip(renditions).enumerate() {
        if i > 0 {
            queues.open();
        }
        let feeder = Feeder::new(&queues, &clock, rendition);
        queues.fill("feed", move || feeder.run(stream))?;
    }
    Ok(Source { queues, live: false, file: None })
}

/// Opens the first choice that can be; gives the fault of the best if none can.
fn first_that_opens<T>(
    choices: &[Choice],
    open: impl Fn(&Choice) -> Result<T, fetch::Error>,
) -> Result<T, fetch::Error> {
    let mut first = None;
    for choice in choices {
        match open(choice) {
            Ok(opened) => return Ok(opened),
            Err(e) if e.is_policy() => return Err(first.unwrap_or(e)),
            Err(e) => {
                eprintln!("a variant of the stream can't be opened: {e}");
                first.get_or_insert(e);
            }
        }
    }
    Err(first.unwrap_or(fetch::Error::Playlist("it lists nothing to play")))
}

/// Feeds the segments of one rendition.
struct Feeder {
    queues: TrackQueues,
    tracks: Tracks,
    /// The clock of all renditions, and how far this one has come.
    clock: SharedClock,
    rendition: Arc<Mutex<Rendition>>,
    demux: Option<Demultiplexer>,
    /// The first bytes, until they are recognised.
    head: Vec<u8>,
    /// Where the playlist says that the segment is.
    at: Duration,
    /// The discontinuity sequence number.
    number: u64,
    /// A segment has come.
    begun: bool,
    /// Every segment begins again: audio without a container.
    raw_audio: bool,
}

impl Feeder {
    fn new(queues: &TrackQueues, clock: &SharedClock, rendition: Rendition) -> Self {
        Self {
            queues: queues.clone(),
            tracks: Tracks::new(queues),
            clock: clock.clone(),
            rendition: Arc::new(Mutex::new(rendition)),
            demux: None,
            head: Vec::new(),
            at: Duration::ZERO,
            number: 0,
            begun: false,
            raw_audio: false,
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
                Err(e) => Err(of_fetch(e)),
            };
            match done {
                Ok(true) => {}
                Ok(false) => return,
                Err(fault) => return self.queues.fail(fault),
            }
        }
    }

    /// Ends the demultiplexer; `complete`: nothing is missing at the end of what it was fed.
    fn finish(&mut self, complete: bool) {
        if let Some(demux) = self.demux.take() {
            if complete { demux.finish() } else { demux.end() }
        }
    }

    fn segment(&mut self, fresh: bool, at: Duration, number: u64) -> Result<bool, Fault> {
        // A segment that broke off is followed by a fresh start, so this one was complete and not recognised.
        if !fresh && !self.head.is_empty() && self.demux.is_none() {
            return Err(unplayable("a segment is not media that can be played"));
        }
        if fresh || self.raw_audio {
            self.finish(number != self.number);
            self.head.clear();
            self.at = at;
            if !self.begun {
                lock(&self.rendition).skip_to(nanos(at));
            } else if fresh && number == self.number {
                self.tracks.rejoined();
            }
            (self.begun, self.number) = (true, number);
        }
        Ok(true)
    }

    /// False if nobody wants more.
    fn bytes(&mut self, bytes: Vec<u8>) -> Result<bool, Fault> {
        if let Some(demux) = &self.demux {
            return Ok(demux.push_bytes(bytes));
        }
        self.head.extend(bytes);
        let Some(kind) = container::detect(&self.head) else {
            let enough = self.head.len() >= HEAD;
            return if enough { Err(unplayable("a segment is not media that can be played")) } else { Ok(true) };
        };
        let name = kind.structure(0).map(|s| s.name().to_string()).unwrap_or_default();
        self.raw_audio = name.starts_with("audio/") || name == "application/x-id3";
        let gate = container::is_mpegts(&kind).then(PcrGate::default);
        let head = std::mem::take(&mut self.head);
        let shift = self.shift(&head, gate.as_ref().map(PcrGate::first_pcr));
        let demux = match gate {
            Some(gate) => Demultiplexer::push_gated(&self.tracks, shift, &kind, gate)?,
            None => Demultiplexer::push(&self.tracks, shift, &kind)?,
        };
        let wanted = demux.push_bytes(head);
        self.demux = Some(demux);
        Ok(wanted)
    }

    /// Where what begins like this is on the timeline; an MPEG-TS counts from its first clock reference.
    fn shift(&self, head: &[u8], first_pcr: Option<Arc<OnceLock<i64>>>) -> TimeShift {
        let raw_audio = self.raw_audio;
        let zero = if raw_audio { id3::mpegts_timestamp(head) } else { Some(0) };
        // Only the playlist says where this belongs.
        let Some(zero) = zero else { return time_shift::rebased(nanos(self.at)) };
        let (clock, rendition) = (self.clock.clone(), Arc::clone(&self.rendition));
        lock(&rendition).begin(self.number);
        Arc::new(move |stamp| {
            let pcr = first_pcr.as_ref().map(|first| first.get().map_or(0, |first| *first));
            let zero = stamp.container_offset.saturating_add(pcr.unwrap_or(zero));
            let wraps = raw_audio || pcr.is_some();
            let at = FrameTime { kind: stamp.kind, at: stamp.at.saturating_add(zero), duration: stamp.duration, wraps };
            clock.map(&mut lock(&rendition), at).saturating_sub(stamp.at)
        })
    }
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
