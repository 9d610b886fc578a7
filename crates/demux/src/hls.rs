//! HLS: feeds segments to one demultiplexer after the other. A discontinuity takes a new one, whose tracks continue those before.
//! Renditions are aligned by [`timing::hls_clock`].

use crate::container::{self, HEAD};
use crate::demuxer::{Demultiplexer, Tracks};
use crate::fault::{of_fetch, unplayable};
use crate::source::{Portable, Source};
use crate::sync::lock;
use crate::time_shift::{self, TimeShift};
use crate::track_queues::TrackQueues;
use fetch::hls::{Piece, Stream, choose};
use fetch::playlist::{self, Playlist};
use fetch::{Address, Client, Response};
use ipc::demux::Job;
use media::id3;
use media::mpegts::pcr::PcrGate;
use model::{Fault, Kind};
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
    response: Response,
    head: Vec<u8>,
) -> Result<Source, Fault> {
    let queues = TrackQueues::new();
    let (base, text) = whole(&client, &asked, response, head).map_err(of_fetch)?;
    let mut streams = streams(job, client, asked, base, &text, &queues).map_err(of_fetch)?;
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
    let (separate_audio, portable) = (streams.len() > 1, Portable::default());
    for (i, (stream, rendition)) in streams.into_iter().zip(renditions).enumerate() {
        if i > 0 {
            queues.open();
        }
        let tracks = Tracks::new(&queues);
        // The audio that was chosen is the other one.
        let tracks = if i == 0 && separate_audio { tracks.without(Kind::Audio) } else { tracks };
        // The pictures' playlist tells.
        let told = if i == 0 { portable.clone() } else { Portable::default() };
        told.set(stream.live());
        let feeder = Feeder::new(&queues, tracks, &clock, rendition, told);
        queues.fill("feed", move || feeder.run(stream))?;
    }
    Ok(Source { queues, live: false, file: None, portable })
}

/// The whole text of a playlist, and where it came from. One that breaks off is fetched again, also where the server gives less than it has
/// to whom asks for a range.
fn whole(
    client: &Client,
    asked: &Address,
    mut response: Response,
    head: Vec<u8>,
) -> Result<(Address, Vec<u8>), fetch::Error> {
    let mut text = head;
    let length = response.range.and_then(|(_, whole)| whole);
    let complete = loop {
        match response.next_piece(HEAD) {
            Ok(Some(piece)) => text.extend(piece),
            Ok(None) => break length.is_none_or(|length| text.len() as u64 >= length),
            Err(fetch::Error::Broken(..) | fetch::Error::Truncated(_)) => break false,
            Err(e) => return Err(e),
        }
        if text.len() > playlist::MAX_TEXT {
            return Err(fetch::Error::Playlist("it is too long"));
        }
    };
    if complete {
        return Ok((response.address.clone(), text));
    }
    drop(response);
    client.get_small(asked, None, playlist::MAX_TEXT)
}

/// The streams to play: one, or pictures and sound.
fn streams(
    job: &Job,
    client: Client,
    asked: Address,
    base: Address,
    text: &[u8],
    queues: &TrackQueues,
) -> Result<Vec<Stream>, fetch::Error> {
    let reconnect = job.limits.reconnect;
    let context = playlist::Context { query: asked.query(), ..playlist::Context::default() };
    let master = match playlist::parse_in(text, &context)? {
        Playlist::Media(_) => return Ok(vec![Stream::new(client, asked, base, text, reconnect)?]),
        Playlist::Master(master) => master,
    };
    let choices = choose(&master, &base, job.largest)?;
    let opened = fetch::hls::open(&client, &choices, &master.variables, reconnect)?;
    if let Some(fault) = opened.without_audio {
        eprintln!("the stream is played without its separate audio: {fault}");
        queues.add_missing(Kind::Audio, format!("its playlist can't be opened ({fault})"));
    }
    Ok([opened.main].into_iter().chain(opened.audio).collect())
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
    /// What came was media before.
    recognised: bool,
    /// The rest of the segment is left out.
    skipping: bool,
    /// Segments that were left out.
    missing: u32,
    live: bool,
    /// A playlist that has come to its end would be played from its beginning elsewhere.
    portable: Portable,
}

impl Feeder {
    fn new(
        queues: &TrackQueues,
        tracks: Tracks,
        clock: &SharedClock,
        rendition: Rendition,
        portable: Portable,
    ) -> Self {
        Self {
            queues: queues.clone(),
            tracks,
            clock: clock.clone(),
            rendition: Arc::new(Mutex::new(rendition)),
            demux: None,
            head: Vec::new(),
            at: Duration::ZERO,
            number: 0,
            begun: false,
            raw_audio: false,
            recognised: false,
            skipping: false,
            missing: 0,
            live: false,
            portable,
        }
    }

    fn run(mut self, mut stream: Stream) {
        loop {
            self.live = stream.live();
            self.portable.set(self.live);
            let done = match stream.next_piece() {
                Ok(Some(Piece::Segment { fresh, at, run })) => self.segment(fresh, at, run),
                Ok(Some(Piece::Bytes(bytes))) => self.bytes(bytes),
                Ok(Some(Piece::LeftOut(why))) => {
                    self.left_out(&why);
                    Ok(true)
                }
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
            self.unrecognised()?;
        }
        if fresh || self.raw_audio || self.skipping {
            self.skipping = false;
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

    /// What came is no media. In the middle of a stream that may be true of one segment alone.
    fn unrecognised(&mut self) -> Result<(), Fault> {
        let text = "a segment is not media that can be played";
        if !self.recognised {
            return Err(unplayable(text));
        }
        self.left_out(text);
        self.skipping = true;
        Ok(())
    }

    /// A segment is left out. A live stream goes on as if nothing had been; of a recording something is missing for good.
    fn left_out(&mut self, why: &str) {
        self.missing += 1;
        let text = match self.missing {
            1 => format!("a segment of the stream is left out: {why}"),
            count => format!("{count} segments of the stream are left out, the last as {why}"),
        };
        eprintln!("{text}");
        if !self.live {
            self.queues.notice(text);
        }
    }

    /// False if nobody wants more.
    fn bytes(&mut self, bytes: Vec<u8>) -> Result<bool, Fault> {
        if self.skipping {
            return Ok(true);
        }
        if let Some(demux) = &self.demux {
            return Ok(demux.push_bytes(bytes));
        }
        self.head.extend(bytes);
        let found = container::detect(&self.head);
        let media = found.filter(|caps| caps.structure(0).is_some_and(|s| !s.name().starts_with("text/")));
        let Some(kind) = media else {
            if self.head.len() >= HEAD {
                self.unrecognised()?;
            }
            return Ok(true);
        };
        self.recognised = true;
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
