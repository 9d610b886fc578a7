//! Between what demultiplexes and what paces: one bounded queue for each track.
//!
//! The side that fills waits when it is far enough ahead, so that a large file takes no more memory than a small one. A live source is
//! never held up: what is too much is dropped.

mod choice;
mod track;

pub(crate) use track::{Item, TrackInfo};

use crate::access_unit::AccessUnit;
use crate::fault::internal;
use crate::sync::lock;
use choice::Choice;
use ipc::demux::Event;
use model::{Fault, Kind};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use timing::av_alignment::{VIDEO_AFTER_AUDIO, VIDEO_AFTER_AUDIO_OVER_SRT};
use timing::jitter_delay::JitterDelay;
use track::Track;

/// How far a track may be ahead while the others have something to play, too, in nanoseconds: a second bridges what a slow
/// server does, and more than that is memory.
const MAX_AHEAD: i64 = 1_500_000_000;
/// Bytes that may wait in all tracks together: as far as audio and video of a badly interleaved file are apart (as in
/// `fetch::RangeFile`), at 50 Mbit/s.
const MAX_BYTES: usize = 16 << 20;
/// A gap in all tracks of up to this much (nanoseconds) is waited for, where a source was joined again in another place.
const MAX_GAP: i64 = 1_000_000_000;
/// Splice points that may wait: a stream that never plays must not make us grow.
const MAX_SPLICES: usize = 64;

/// What the tracks of a live source leave by.
#[derive(Debug)]
struct LiveClock {
    opened: Instant,
    delay: JitterDelay,
}

impl LiveClock {
    fn new(delay: JitterDelay) -> Self {
        Self { opened: Instant::now(), delay }
    }

    /// Nanoseconds since it was opened.
    fn elapsed(&self, now: Instant) -> i64 {
        i64::try_from(now.saturating_duration_since(self.opened).as_nanos()).unwrap_or(i64::MAX)
    }
}

#[derive(Debug)]
struct State {
    choice: Choice,
    /// Of a live source.
    live: Option<LiveClock>,
    /// How long after audio of the same time video is due, in nanoseconds.
    video_after_audio: i64,
    /// The highest PTS that came, in nanoseconds.
    newest: i64,
    /// Splice points, and at which DTS each is due.
    splices: Vec<(i64, Option<u32>)>,
    /// A seek is under way: nothing that comes counts.
    seeking: bool,
    /// Nothing more is wanted.
    closed: bool,
    /// Why nothing more comes.
    fault: Option<Fault>,
    /// What is to be said of the source.
    notice: Option<String>,
}

/// See the [module](self).
#[derive(Clone, Debug)]
pub(crate) struct TrackQueues {
    shared: Arc<(Mutex<State>, Condvar)>,
}

/// What the player finds.
#[derive(Debug)]
pub(crate) enum Next {
    /// Play this, which was due so long ago, in nanoseconds.
    Item(Kind, Item, i64),
    /// Nothing until more comes.
    Empty,
    /// Everything has been played.
    End,
    /// Nothing more comes.
    Fault(Fault),
}

impl TrackQueues {
    /// Queues of a file, or of a stream that can be held up.
    pub(crate) fn new() -> Self {
        Self::with(None, VIDEO_AFTER_AUDIO)
    }

    /// Queues of a live source.
    pub(crate) fn live() -> Self {
        Self::with(Some(JitterDelay::default()), VIDEO_AFTER_AUDIO)
    }

    /// Queues of a live stream over HTTP.
    pub(crate) fn live_over_http() -> Self {
        Self::with(Some(JitterDelay::over_http()), VIDEO_AFTER_AUDIO)
    }

    /// Queues of what comes over SRT.
    pub(crate) fn live_over_srt() -> Self {
        Self::with(Some(JitterDelay::default()), VIDEO_AFTER_AUDIO_OVER_SRT)
    }

    fn with(delay: Option<JitterDelay>, video_after_audio: i64) -> Self {
        let mut choice = Choice::default();
        choice.open();
        let state = State {
            choice,
            live: delay.map(LiveClock::new),
            video_after_audio,
            newest: 0,
            splices: Vec::new(),
            seeking: false,
            closed: false,
            fault: None,
            notice: None,
        };
        Self { shared: Arc::new((Mutex::new(state), Condvar::new())) }
    }

    /// Whether what comes is live.
    pub(crate) fn is_live(&self) -> bool {
        self.lock().live.is_some()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.shared.0)
    }

    fn changed(&self) {
        self.shared.1.notify_all();
    }

    // === the side that fills ===

    /// One more filler may add tracks.
    pub(crate) fn open(&self) {
        self.lock().choice.open();
    }

    /// Fills the queues in a thread of its own. A panic there becomes a fault: nothing else would tell that nothing more comes.
    ///
    /// # Errors
    /// If the system has no threads left.
    pub(crate) fn fill(&self, name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), Fault> {
        let (queues, named) = (self.clone(), name.to_owned());
        let guarded = move || {
            if std::panic::catch_unwind(AssertUnwindSafe(work)).is_err() {
                let text = format!("an error in the ingress ended the pull: its thread \"{named}\" panicked");
                queues.fail(internal(text));
            }
        };
        let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(guarded);
        spawned.map(drop).map_err(|e| Fault { retry: true, ..internal(e) })
    }

    /// A track is there; gives its number.
    pub(crate) fn add(&self, kind: Kind, reordered: bool) -> usize {
        let mut state = self.lock();
        let live = state.live.is_some();
        state.choice.add(Track::new(TrackInfo { kind, reordered, live }))
    }

    /// A track of this kind is there that nothing here can play.
    pub(crate) fn add_unknown(&self, kind: Option<Kind>, what: String) {
        self.lock().choice.add_unknown(kind, what);
    }

    /// There should be a track of this kind, and why there is none.
    pub(crate) fn add_missing(&self, kind: Kind, why: String) {
        self.lock().choice.add_missing(kind, why);
    }

    /// Something of the source is not as it should be, in words for whoever made the ingress. The newest counts.
    pub(crate) fn notice(&self, text: String) {
        self.lock().notice = Some(text);
        self.changed();
    }

    /// A filler will add no further track.
    pub(crate) fn complete(&self) {
        self.lock().choice.complete();
        self.changed();
    }

    /// How what follows on this track is coded, and how good the track is among its kind.
    pub(crate) fn config(&self, track: usize, config: Event, rank: u64) {
        let mut state = self.lock();
        let spare = state.choice.leaves_out(track);
        if let Some(t) = state.choice.tracks.get_mut(track) {
            if spare { t.configure_spare(config, rank) } else { t.configure(config, rank) }
        }
        state.choice.join(track);
        self.changed();
    }

    /// Hands over an access unit; waits while enough is there. False if nobody wants more.
    pub(crate) fn push(&self, track: usize, unit: AccessUnit) -> bool {
        let mut state = self.lock();
        state.choice.frame_arrived();
        state.newest = state.newest.max(unit.pts);
        loop {
            if state.fault.is_some() || state.closed || state.seeking {
                return false;
            }
            if state.choice.leaves_out(track) {
                if let Some(t) = state.choice.tracks.get_mut(track).filter(|t| t.late) {
                    t.push_spare(unit);
                }
                return true;
            }
            if state.live.is_some() || !state.is_ahead(track) {
                break;
            }
            // As many bytes as may wait before anything was chosen: then it is time to choose.
            if !state.choice.is_made() && state.bytes() >= MAX_BYTES {
                state.choice.choose(true);
                continue;
            }
            state = self.shared.1.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.live.is_some() {
            let full = state.bytes() >= MAX_BYTES;
            if !state.choice.tracks.get_mut(track).is_some_and(|t| t.admits(unit.key, full)) {
                return true;
            }
        }
        let last = state.choice.tracks.get_mut(track).and_then(|t| t.push(unit));
        if let (Some(dts), Some(live)) = (last, &mut state.live) {
            let now = live.elapsed(Instant::now());
            live.delay.came(dts, now);
        }
        self.changed();
        true
    }

    /// A seek begins: whoever waits to hand something over is let go.
    pub(crate) fn seek_begins(&self) {
        self.lock().seeking = true;
        self.changed();
    }

    /// A seek has been made: what this track held is from before it.
    pub(crate) fn seek_ends(&self, track: usize) {
        let mut state = self.lock();
        state.seeking = false;
        if let Some(t) = state.choice.tracks.get_mut(track) {
            t.restart();
        }
        self.changed();
    }

    /// This track's source was joined again: what comes next may be far after what came, and the gap is not to be waited for.
    pub(crate) fn rejoined(&self, track: usize) {
        if let Some(t) = self.lock().choice.tracks.get_mut(track) {
            t.rejoined();
        }
    }

    /// The stream of this track has ended. The source may go on with another in its place.
    pub(crate) fn release(&self, track: usize) {
        self.lock().choice.release(track);
        self.changed();
    }

    /// Another stream goes on in this track.
    pub(crate) fn adopt(&self, track: usize) {
        self.lock().choice.adopt(track);
    }

    /// This track has come to its end.
    pub(crate) fn end(&self, track: usize) {
        if let Some(t) = self.lock().choice.tracks.get_mut(track) {
            t.end();
        }
        self.changed();
    }

    /// Nothing more comes. The first fault counts.
    pub(crate) fn fail(&self, fault: Fault) {
        self.lock().fault.get_or_insert(fault);
        self.changed();
    }

    /// A splice point so far ahead of the newest frame (nanoseconds).
    pub(crate) fn splice(&self, ahead: i64, event: Option<u32>) {
        let mut state = self.lock();
        if state.splices.len() < MAX_SPLICES {
            let at = state.newest.saturating_add(ahead);
            state.splices.push((at, event));
        }
    }

    // === the side that plays ===

    /// What is to be said, once.
    pub(crate) fn take_notice(&self) -> Option<String> {
        self.lock().notice.take()
    }

    /// The kinds of which nothing is played, though there is some or should be, and why in words.
    pub(crate) fn left_out(&self) -> Vec<(Kind, String)> {
        self.lock().choice.left_out()
    }

    /// Which kinds will be played, once that is settled; waits for it, but not beyond `until`.
    ///
    /// # Errors
    /// Why nothing will be.
    pub(crate) fn chosen(&self, until: Instant) -> Result<Option<Vec<Kind>>, Fault> {
        let mut state = self.lock();
        loop {
            state.choice.settle();
            if let Some(kinds) = state.choice.kinds() {
                return Ok(Some(kinds));
            }
            if let Some(fault) = state.fault.clone().or_else(|| state.choice.hopeless()) {
                return Err(fault);
            }
            let now = Instant::now();
            if now >= until {
                return Ok(None);
            }
            let first = state.choice.deadline().map_or(until, |at| at.max(now + Duration::from_millis(1)));
            let wait = until.min(first) - now;
            state = self.shared.1.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The kind whose track begins so many nanoseconds or more after that of the other kind.
    pub(crate) fn begins_later(&self, by: i64) -> Option<Kind> {
        let state = self.lock();
        let begins: Vec<(i64, Kind)> =
            state.choice.chosen().filter_map(|(_, t)| Some((t.first()?, t.kind()))).collect();
        let first = begins.iter().map(|(at, _)| *at).min()?;
        begins.into_iter().find(|(at, _)| at.saturating_sub(first) >= by).map(|(_, kind)| kind)
    }

    /// The earliest DTS of all that waits.
    pub(crate) fn first(&self) -> Option<i64> {
        self.lock().choice.chosen().filter_map(|(_, t)| t.first()).min()
    }

    /// The source time at which the first of what waits is due.
    pub(crate) fn next_due(&self) -> Option<i64> {
        self.lock().earliest().map(|(_, at)| at)
    }

    /// How long there is nothing in any track from `due` on, where the source was joined again.
    ///
    /// Renditions are joined again one after the other, in different places. What the first has before the last begins is dropped: it
    /// would be played alone, and the last, held up meanwhile, would miss segments of a live playlist and begin later still.
    pub(crate) fn gap(&self, due: i64) -> Option<i64> {
        let mut state = self.lock();
        state.gap(due)?;
        let begins = state.choice.chosen().filter_map(|(_, t)| t.first_after_gap()).max()?;
        for track in state.choice.chosen_mut() {
            track.skip_to(begins);
        }
        self.changed();
        // A track that has nothing left is waited for.
        state.gap(due)
    }

    /// Of a live source: the source time that is due at `now`, and for how long it has paused in all (nanoseconds).
    pub(crate) fn live_due(&self, now: Instant) -> Option<(i64, i64)> {
        let state = self.lock();
        let live = state.live.as_ref()?;
        let elapsed = live.elapsed(now);
        Some((elapsed.saturating_sub(live.delay.offset(elapsed)), live.delay.paused()))
    }

    /// What is to be played next, if it is due by the source time `due`.
    pub(crate) fn next(&self, due: i64) -> Next {
        let mut state = self.lock();
        let Some((track, at)) = state.earliest() else {
            return match (&state.fault, state.choice.played().all(|t| t.ended)) {
                // Whatever is complete is played before a fault is given.
                (Some(fault), _) => Next::Fault(fault.clone()),
                (None, true) => Next::End,
                (None, false) => Next::Empty,
            };
        };
        if at > due {
            return Next::Empty;
        }
        let track = &mut state.choice.tracks[track];
        let kind = track.kind();
        let Some(item) = track.pop() else { return Next::Empty };
        self.changed();
        Next::Item(kind, item, due.saturating_sub(at))
    }

    /// Splice points that are due.
    pub(crate) fn splices(&self, due: i64) -> Vec<Option<u32>> {
        let mut state = self.lock();
        let (ready, later) = state.splices.drain(..).partition(|(at, _)| *at <= due);
        state.splices = later;
        ready.into_iter().map(|(_, event): (i64, Option<u32>)| event).collect()
    }

    /// Waits until something changes, but not beyond `until`.
    pub(crate) fn wait(&self, until: Instant) {
        let state = self.lock();
        let wait = until.saturating_duration_since(Instant::now());
        drop(self.shared.1.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner));
    }

    /// Nothing more is wanted: the side that fills stops.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.changed();
    }
}

impl State {
    /// Bytes that wait to be played.
    fn bytes(&self) -> usize {
        self.choice.played().map(Track::bytes).sum()
    }

    /// Whether every track whose stream goes on has something to play.
    fn is_complete(&self) -> bool {
        self.choice.played().all(|t| t.ended || t.released || t.first().is_some())
    }

    /// How long nothing is due in any track from `due` on, if that is too long to wait for.
    fn gap(&self, due: i64) -> Option<i64> {
        let (_, at) = self.earliest().filter(|_| self.is_complete())?;
        Some(at.saturating_sub(due)).filter(|gap| *gap > MAX_GAP)
    }

    fn is_ahead(&self, track: usize) -> bool {
        if self.bytes() >= MAX_BYTES {
            return true;
        }
        self.is_complete()
            && self.choice.is_made()
            && self.choice.tracks.get(track).is_some_and(|t| t.span() > MAX_AHEAD)
    }

    /// The track whose next access unit is due first, and at which source time.
    fn earliest(&self) -> Option<(usize, i64)> {
        let due = |t: &Track| {
            let after = if t.kind() == Kind::Video { self.video_after_audio } else { 0 };
            Some(t.first()?.saturating_add(after))
        };
        self.choice.chosen().filter_map(|(i, t)| Some((i, due(t)?))).min_by_key(|(_, at)| *at)
    }
}

#[cfg(test)]
mod tests;
