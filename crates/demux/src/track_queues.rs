//! Between what demultiplexes and what paces: one bounded queue for each track, and the choice of the tracks to play.
//!
//! The side that fills waits when it is far enough ahead, so that a large file takes no more memory than a small one.

use crate::access_unit::AccessUnit;
use ipc::demux::Event;
use model::Kind;
use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use timing::av_alignment::{VIDEO_AFTER_AUDIO, VIDEO_AFTER_AUDIO_OVER_SRT};
use timing::decode_order::DecodeOrder;
use timing::jitter_delay::JitterDelay;

/// How far a track may be ahead while the others have something to play, too, in nanoseconds: a second bridges what a slow
/// server does, and more than that is memory.
const AHEAD: i64 = 1_500_000_000;
/// Bytes that may wait in all tracks together: what sound and picture of a badly interleaved file lie apart (as in
/// `fetch::RangeFile`), at 50 Mbit/s.
const MAX_BYTES: usize = 16 << 20;
/// Media that is not there is waited for up to this long, where a source was joined anew in another place.
const HOLE: i64 = 1_000_000_000;
/// How long after the first frame the choice waits for tracks that were announced and bring nothing.
const CHOICE: Duration = Duration::from_secs(1);

/// What waits in a track.
#[derive(Debug)]
pub(crate) enum Item {
    /// How what follows is coded.
    Config(Event),
    /// A frame.
    Unit { dts: i64, unit: AccessUnit },
}

impl Item {
    fn unit((dts, unit): (i64, AccessUnit)) -> Self {
        Self::Unit { dts, unit }
    }

    fn bytes(&self) -> usize {
        if let Self::Unit { unit, .. } = self { unit.data.len() } else { 0 }
    }
}

/// What was said about a track before anything came.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) kind: Kind,
    /// What makes one track better than another of its kind: pixels, or channels times rate.
    pub(crate) rank: u64,
    /// Whether its pictures may come in another order than they are shown.
    pub(crate) reorders: bool,
}

#[derive(Debug)]
struct Track {
    kept: Kept,
    known: bool,
    items: VecDeque<Item>,
    reorder: DecodeOrder<AccessUnit>,
    ended: bool,
}

#[derive(Debug, Default)]
struct State {
    tracks: Vec<Track>,
    unknown: Vec<String>,
    /// How many that fill have not yet said that no further track will come.
    open: usize,
    first: Option<Instant>,
    chosen: Option<Vec<usize>>,
    bytes: usize,
    finished: bool,
    fault: Option<String>,
    splices: Vec<(i64, Option<u32>)>,
    /// The latest time of a frame.
    newest: i64,
    live: bool,
    /// Pictures are due so much after sound of the same time.
    pictures_after: i64,
    /// When what comes live is due, by the time since `opened`.
    jitter_delay: JitterDelay,
    opened: Option<Instant>,
    /// A jump is under way: nothing that comes counts.
    jumping: bool,
    /// The latest time of a frame when the source was joined anew, until something later is there: what lies between is not.
    rejoined: Option<i64>,
}

/// See the [module](self).
#[derive(Clone, Debug, Default)]
pub(crate) struct Stage {
    shared: Arc<(Mutex<State>, Condvar)>,
}

/// What the pacer finds.
#[derive(Debug)]
pub(crate) enum Next {
    /// Play this, which was due so long ago, in nanoseconds.
    Item(Kind, Item, i64),
    /// Nothing until more comes.
    Empty,
    /// All has been played.
    End,
    /// Nothing more comes, in words.
    Fault(String),
}

impl Stage {
    /// Nothing yet. A live source is never held up: what is too much is dropped.
    pub(crate) fn new(live: bool) -> Self {
        let stage = Self::default();
        {
            let mut state = stage.lock();
            (state.live, state.open, state.opened) = (live, 1, Some(Instant::now()));
            state.pictures_after = VIDEO_AFTER_AUDIO;
        }
        stage
    }

    /// Nothing yet of a live stream over HTTP.
    pub(crate) fn over_http() -> Self {
        let stage = Self::new(true);
        stage.lock().jitter_delay = JitterDelay::over_http();
        stage
    }

    /// Nothing yet of what comes over SRT.
    pub(crate) fn over_srt() -> Self {
        let stage = Self::new(true);
        stage.lock().pictures_after = VIDEO_AFTER_AUDIO_OVER_SRT;
        stage
    }

    /// One more that fills.
    pub(crate) fn open(&self) {
        self.lock().open += 1;
    }

    /// Whether what comes is live.
    pub(crate) fn is_live(&self) -> bool {
        self.lock().live
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        self.shared.1.notify_all();
    }

    // === the side that fills ===

    /// Fills this in a thread of its own. A panic there is a fault as any other: nothing else would say that nothing more comes.
    ///
    /// # Errors
    /// If the system has no threads left.
    pub(crate) fn fill(&self, name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), String> {
        let (stage, named) = (self.clone(), name.to_owned());
        let guarded = move || {
            if std::panic::catch_unwind(AssertUnwindSafe(work)).is_err() {
                stage.fail(format!("an error in the ingress ended the pull: its thread \"{named}\" panicked"));
            }
        };
        std::thread::Builder::new().name(name.to_owned()).spawn(guarded).map(drop).map_err(|e| e.to_string())
    }

    /// A track of this kind is there; gives its number.
    pub(crate) fn add(&self, kept: Kept) -> usize {
        let mut state = self.lock();
        let reorder = DecodeOrder::new(kept.reorders, state.live);
        state.tracks.push(Track { kept, known: false, items: VecDeque::new(), reorder, ended: false });
        state.tracks.len() - 1
    }

    /// A track is there that nobody here can play.
    pub(crate) fn add_unknown(&self, what: String) {
        self.lock().unknown.push(what);
    }

    /// One that fills has no further track.
    pub(crate) fn complete(&self) {
        let mut state = self.lock();
        state.open = state.open.saturating_sub(1);
        self.changed();
    }

    /// Says how what follows on this track is coded.
    pub(crate) fn config(&self, track: usize, config: Event, rank: u64) {
        let mut state = self.lock();
        if let Some(t) = state.tracks.get_mut(track) {
            t.known = true;
            t.kept.rank = t.kept.rank.max(rank);
            let held = t.reorder.flush();
            t.items.extend(held.into_iter().map(Item::unit));
            t.items.push_back(Item::Config(config));
        }
        state.join(track);
        self.changed();
    }

    /// Hands over a frame; waits while enough is there. False if nobody wants more.
    pub(crate) fn push(&self, track: usize, unit: AccessUnit) -> bool {
        let mut state = self.lock();
        state.first.get_or_insert_with(Instant::now);
        state.newest = state.newest.max(unit.pts);
        loop {
            if state.fault.is_some() || state.finished || state.jumping {
                return false;
            }
            if state.chosen.as_ref().is_some_and(|c| !c.contains(&track)) {
                return true;
            }
            if state.live || !state.is_ahead(track) {
                break;
            }
            // More than the whole queue's bytes before anything was chosen: then it is time to.
            if state.chosen.is_none() && state.bytes >= MAX_BYTES {
                state.choose(true);
                continue;
            }
            state = self.shared.1.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.live && state.bytes >= MAX_BYTES {
            return true;
        }
        let (now, live) = (state.passed(Instant::now()), state.live);
        if let Some(t) = state.tracks.get_mut(track) {
            let ready = t.reorder.push(unit.pts, unit.dts, unit);
            let last = ready.last().filter(|_| live).map(|(dts, _)| *dts);
            let bytes: usize = ready.iter().map(|(_, u)| u.data.len()).sum();
            t.items.extend(ready.into_iter().map(Item::unit));
            state.bytes += bytes;
            if let Some(at) = last {
                state.jitter_delay.came(at, now);
            }
        }
        self.changed();
        true
    }

    /// A jump begins: whoever waits to hand something over is let go.
    pub(crate) fn jump_begins(&self) {
        self.lock().jumping = true;
        self.changed();
    }

    /// A jump has been made: what this track held is from before it.
    pub(crate) fn jump_ends(&self, track: usize) {
        let mut state = self.lock();
        state.jumping = false;
        let live = state.live;
        if let Some(t) = state.tracks.get_mut(track) {
            t.reorder = DecodeOrder::new(t.kept.reorders, live);
            let bytes: usize = t.items.iter().map(|x| x.bytes()).sum();
            t.items.retain(|item| matches!(item, Item::Config(_)));
            t.ended = false;
            state.bytes = state.bytes.saturating_sub(bytes);
        }
        self.changed();
    }

    /// What comes next may lie far behind what came: what lies between is not to be waited for.
    pub(crate) fn rejoined(&self) {
        let mut state = self.lock();
        // Tracks that lie apart are joined anew one after the other, and the first may be behind the hole by then.
        let newest = state.newest;
        state.rejoined.get_or_insert(newest);
    }

    /// This track has come to its end.
    pub(crate) fn end(&self, track: usize) {
        let mut state = self.lock();
        if let Some(t) = state.tracks.get_mut(track) {
            let held = t.reorder.flush();
            let bytes: usize = held.iter().map(|(_, u)| u.data.len()).sum();
            t.items.extend(held.into_iter().map(Item::unit));
            t.ended = true;
            state.bytes += bytes;
        }
        self.changed();
    }

    /// Nothing more comes. The first word counts.
    pub(crate) fn fail(&self, fault: String) {
        let mut state = self.lock();
        state.fault.get_or_insert(fault);
        self.changed();
    }

    /// A splice point so far ahead of the newest frame (nanoseconds).
    pub(crate) fn splice(&self, ahead: i64, event: Option<u32>) {
        let mut state = self.lock();
        // A stream that never plays must not make us grow.
        if state.splices.len() < 64 {
            let at = state.newest.saturating_add(ahead);
            state.splices.push((at, event));
        }
    }

    // === the side that plays ===

    /// Which kinds will be played, once that is settled; waits for it, but not beyond `until`.
    ///
    /// # Errors
    /// Why nothing will.
    pub(crate) fn chosen(&self, until: Instant) -> Result<Option<Vec<Kind>>, String> {
        let mut state = self.lock();
        loop {
            if state.settled() {
                state.choose(false);
            }
            if let Some(chosen) = &state.chosen {
                return Ok(Some(chosen.iter().map(|t| state.tracks[*t].kept.kind).collect()));
            }
            if let Some(fault) = state.hopeless() {
                return Err(fault);
            }
            let now = Instant::now();
            if now >= until {
                return Ok(None);
            }
            let first = state.first.map_or(until, |f| (f + CHOICE).max(now + Duration::from_millis(1)));
            let wait = until.min(first) - now;
            state = self.shared.1.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The earliest decoding time of all that waits.
    pub(crate) fn first(&self) -> Option<i64> {
        let state = self.lock();
        state.chosen.iter().flatten().filter_map(|t| state.tracks[*t].head()).min()
    }

    /// The decoding time at which the first of what waits is due.
    pub(crate) fn head(&self) -> Option<i64> {
        let state = self.lock();
        state.earliest().map(|(_, at)| at)
    }

    /// How long there is nothing in any track from `due` on, where the source was joined anew; told once.
    pub(crate) fn hole(&self, due: i64) -> Option<i64> {
        let mut state = self.lock();
        let before = state.rejoined.filter(|_| state.played().iter().all(|t| t.ended || t.head().is_some()))?;
        let (_, at) = state.earliest().filter(|(t, _)| state.tracks[*t].head().is_some_and(|head| head > before))?;
        state.rejoined = None;
        Some(at.saturating_sub(due)).filter(|hole| *hole > HOLE)
    }

    /// The decoding time that is due now, of what comes live, and for how long that has paused in all.
    pub(crate) fn due(&self, now: Instant) -> (i64, i64) {
        let state = self.lock();
        let passed = state.passed(now);
        (passed.saturating_sub(state.jitter_delay.offset(passed)), state.jitter_delay.paused())
    }

    /// What is to be played next if it is due by `due` (a decoding time), or does not need to wait.
    pub(crate) fn next(&self, due: i64) -> Next {
        let mut state = self.lock();
        let Some((track, at)) = state.earliest() else {
            return match (&state.fault, state.all_ended()) {
                // What is whole is played before a fault is told.
                (Some(fault), _) => Next::Fault(fault.clone()),
                (None, true) => Next::End,
                (None, false) => Next::Empty,
            };
        };
        if at > due {
            return Next::Empty;
        }
        let kind = state.tracks[track].kept.kind;
        let Some(item) = state.tracks[track].items.pop_front() else { return Next::Empty };
        state.bytes = state.bytes.saturating_sub(item.bytes());
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
        self.lock().finished = true;
        self.changed();
    }
}

impl Track {
    fn head(&self) -> Option<i64> {
        self.items.iter().find_map(|item| match item {
            Item::Unit { dts, .. } => Some(*dts),
            Item::Config(_) => None,
        })
    }

    fn span(&self) -> i64 {
        let last = self.items.iter().rev().find_map(|item| match item {
            Item::Unit { dts, .. } => Some(*dts),
            Item::Config(_) => None,
        });
        last.zip(self.head()).map_or(0, |(last, first)| last - first)
    }
}

impl State {
    /// Nanoseconds since it was made.
    fn passed(&self, now: Instant) -> i64 {
        let passed = self.opened.map_or(Duration::ZERO, |opened| now.saturating_duration_since(opened));
        i64::try_from(passed.as_nanos()).unwrap_or(i64::MAX)
    }

    fn played(&self) -> Vec<&Track> {
        match &self.chosen {
            Some(chosen) => chosen.iter().map(|t| &self.tracks[*t]).collect(),
            None => self.tracks.iter().collect(),
        }
    }

    fn is_ahead(&self, track: usize) -> bool {
        if self.bytes >= MAX_BYTES {
            return true;
        }
        let others = self.played().iter().all(|t| t.ended || t.head().is_some());
        others && self.chosen.is_some() && self.tracks.get(track).is_some_and(|t| t.span() > AHEAD)
    }

    fn settled(&self) -> bool {
        if self.chosen.is_some() {
            return false;
        }
        let ready = |t: &Track| t.ended || (t.known && t.head().is_some());
        let all = self.open == 0 && self.tracks.iter().all(ready) && self.tracks.iter().any(|t| t.known);
        let waited = self.first.is_some_and(|f| f.elapsed() >= CHOICE);
        all || (waited && self.tracks.iter().any(|t| t.known && t.head().is_some()))
    }

    /// The best track of each kind. `now`: also one that is not known yet.
    fn choose(&mut self, now: bool) {
        let best = |kind: Kind| {
            let of_kind = |(_, t): &(usize, &Track)| t.kept.kind == kind && (t.known || now);
            // The first of equals: `max_by_key` gives the last.
            let tracks = self.tracks.iter().enumerate().filter(of_kind);
            tracks.rev().max_by_key(|(_, t)| (t.head().is_some(), t.kept.rank)).map(|(i, _)| i)
        };
        let chosen: Vec<usize> = [best(Kind::Video), best(Kind::Audio)].into_iter().flatten().collect();
        for (_, track) in self.tracks.iter_mut().enumerate().filter(|(i, _)| !chosen.contains(i)) {
            let bytes: usize = track.items.iter().map(|x| x.bytes()).sum();
            self.bytes = self.bytes.saturating_sub(bytes);
            track.items.clear();
        }
        self.chosen = Some(chosen);
    }

    /// A track that is known only after the choice is played if there is none of its kind.
    fn join(&mut self, track: usize) {
        let kind = |t: usize| self.tracks.get(t).map(|t| t.kept.kind);
        let missing = self.chosen.as_ref().is_some_and(|c| c.iter().all(|t| kind(*t) != kind(track)));
        if let Some(chosen) = self.chosen.as_mut().filter(|_| missing) {
            chosen.push(track);
        }
    }

    /// The track whose next frame is due first, and at which decoding time.
    fn earliest(&self) -> Option<(usize, i64)> {
        let due = |t: &Track| {
            let after = if t.kept.kind == Kind::Video { self.pictures_after } else { 0 };
            Some(t.head()?.saturating_add(after))
        };
        let chosen = self.chosen.as_ref()?;
        chosen.iter().filter_map(|t| Some((*t, due(&self.tracks[*t])?))).min_by_key(|(_, at)| *at)
    }

    fn all_ended(&self) -> bool {
        self.played().iter().all(|t| t.ended)
    }

    fn hopeless(&self) -> Option<String> {
        let playable = self.tracks.iter().any(|t| t.head().is_some() || !t.ended);
        if let Some(fault) = &self.fault {
            return Some(fault.clone());
        }
        if self.open > 0 || playable {
            return None;
        }
        Some(match self.unknown.as_slice() {
            [] => "there is neither sound nor video in it".to_owned(),
            some => format!("none of its codecs can be decoded here: {}", some.join(", ")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{AudioCodec, AudioConfig};

    fn stage_with(tracks: &[(Kind, u64)]) -> Stage {
        let stage = Stage::new(false);
        for (kind, rank) in tracks {
            let track = stage.add(Kept { kind: *kind, rank: 0, reorders: false });
            stage.config(track, config(), *rank);
        }
        stage.complete();
        stage
    }

    fn config() -> Event {
        let record = bytes::Bytes::new();
        Event::AudioConfig(AudioConfig { codec: AudioCodec::Mp3, record, sample_rate: None, channels: None })
    }

    fn unit(ms: i64, size: usize) -> AccessUnit {
        AccessUnit { pts: ms * 1_000_000, dts: None, key: true, data: vec![0; size].into() }
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    #[test]
    fn the_best_track_of_each_kind_is_played_in_the_order_of_time() {
        let stage = stage_with(&[(Kind::Audio, 2), (Kind::Video, 100), (Kind::Video, 400), (Kind::Audio, 2)]);
        for (track, at) in [(0, 5), (1, 0), (2, 10), (3, 0), (0, 45), (2, 50)] {
            assert!(stage.push(track, unit(at, 1)));
        }
        assert_eq!(stage.chosen(soon()), Ok(Some(vec![Kind::Video, Kind::Audio])));
        (0..4).for_each(|t| stage.end(t));
        let mut seen = Vec::new();
        loop {
            match stage.next(i64::MAX) {
                Next::Item(kind, Item::Unit { unit: u, .. }, _) => seen.push((kind, u.pts / 1_000_000)),
                Next::Item(_, Item::Config(_), _) => {}
                Next::End => break,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(seen, [(Kind::Audio, 5), (Kind::Video, 10), (Kind::Audio, 45), (Kind::Video, 50)]);
    }

    #[test]
    fn pictures_are_due_a_little_after_their_sound() {
        for (stage, expected) in [
            (Stage::new(false), [(Kind::Audio, 0), (Kind::Audio, 10), (Kind::Video, 0)]),
            (Stage::over_srt(), [(Kind::Audio, 0), (Kind::Video, 0), (Kind::Audio, 10)]),
        ] {
            for (track, kind) in [(0, Kind::Video), (1, Kind::Audio)] {
                assert_eq!(stage.add(Kept { kind, rank: 0, reorders: false }), track);
                stage.config(track, config(), 1);
            }
            stage.complete();
            [(0, 0), (1, 0), (1, 10)].into_iter().for_each(|(track, at)| assert!(stage.push(track, unit(at, 1))));
            stage.chosen(soon()).unwrap();
            assert_eq!(stage.first(), Some(0));
            let mut seen = Vec::new();
            for due in 0..30 {
                while let Next::Item(kind, item, late) = stage.next(due * 1_000_000) {
                    if let Item::Unit { unit, .. } = item {
                        assert_eq!(late, 0, "{kind:?}");
                        seen.push((kind, unit.pts / 1_000_000));
                    }
                }
            }
            assert_eq!(seen, expected);
        }
    }

    #[test]
    fn sound_that_comes_late_joins() {
        let stage = stage_with(&[(Kind::Video, 1)]);
        stage.push(0, unit(0, 1));
        assert_eq!(stage.chosen(soon()), Ok(Some(vec![Kind::Video])));
        for rank in [1, 9] {
            let track = stage.add(Kept { kind: Kind::Audio, rank: 0, reorders: false });
            stage.config(track, config(), rank);
            stage.push(track, unit(5, 1));
        }
        let mut sounds = 0;
        while let Next::Item(kind, item, _) = stage.next(i64::MAX) {
            sounds += usize::from(kind == Kind::Audio && matches!(item, Item::Unit { .. }));
        }
        assert_eq!(sounds, 1);
    }

    #[test]
    fn what_is_not_due_waits_and_a_fault_comes_after_what_is_whole() {
        let stage = stage_with(&[(Kind::Audio, 1)]);
        stage.push(0, unit(100, 1));
        stage.chosen(soon()).unwrap();
        assert!(matches!(stage.next(50_000_000), Next::Empty));
        stage.fail("broken".into());
        stage.fail("worse".into());
        assert!(matches!(stage.next(100_000_000), Next::Item(_, Item::Config(_), _)));
        assert!(matches!(stage.next(130_000_000), Next::Item(_, Item::Unit { .. }, 30_000_000)));
        assert!(matches!(stage.next(100_000_000), Next::Fault(f) if f == "broken"));
        assert!(!stage.push(0, unit(200, 1)));
    }

    #[test]
    fn a_hole_is_told_once_all_tracks_are_behind_it() {
        let stage = stage_with(&[(Kind::Video, 1), (Kind::Audio, 1)]);
        let both = |at| (0..2).for_each(|track| assert!(stage.push(track, unit(at, 1))));
        let played = |until: i64| while let Next::Item(..) = stage.next(until * 1_000_000 + VIDEO_AFTER_AUDIO) {};
        both(0);
        stage.chosen(soon()).unwrap();
        played(0);
        both(3_000);
        assert_eq!(stage.hole(20_000_000), None, "a pause in the source is one");
        played(3_000);
        stage.rejoined();
        stage.push(0, unit(12_000, 1));
        assert_eq!(stage.hole(3_020_000_000), None, "sound may follow");
        stage.rejoined();
        stage.push(1, unit(11_000, 1));
        assert_eq!((stage.hole(3_020_000_000), stage.hole(3_020_000_000)), (Some(7_980_000_000), None));
        // What came before it is played before it.
        played(12_000);
        both(12_040);
        stage.rejoined();
        while stage.lock().tracks[1].items.pop_front().is_some() {}
        both(20_000);
        assert_eq!(stage.hole(12_020_000_000), None);
        played(12_040);
        assert_eq!(stage.hole(12_060_000_000), Some(7_940_000_000));
        // Nothing was missed: a pause that comes later is one again.
        played(20_000);
        stage.rejoined();
        both(20_040);
        assert_eq!(stage.hole(20_020_000_000), None);
        played(20_040);
        both(30_000);
        assert_eq!(stage.hole(20_060_000_000), None);
    }

    #[test]
    fn the_side_that_fills_waits_when_it_is_ahead() {
        let stage = stage_with(&[(Kind::Audio, 1)]);
        stage.push(0, unit(0, 1));
        stage.chosen(soon()).unwrap();
        let filler = std::thread::spawn({
            let stage = stage.clone();
            move || (1..=40).take_while(|i| stage.push(0, unit(i * 100, 1))).count()
        });
        let waits = |stage: &Stage| stage.lock().tracks[0].span() > AHEAD;
        while !waits(&stage) {
            std::thread::yield_now();
        }
        assert!(stage.lock().tracks[0].span() <= AHEAD + 100_000_000);
        stage.close();
        assert!(filler.join().unwrap() < 40);
    }

    #[test]
    fn a_panic_of_what_fills_is_told_after_what_is_whole() {
        let stage = stage_with(&[(Kind::Audio, 1)]);
        stage.push(0, unit(0, 1));
        stage.chosen(soon()).unwrap();
        stage.fill("feed", || panic!("planted")).unwrap();
        loop {
            match stage.next(i64::MAX) {
                Next::Item(..) => {}
                Next::Empty => stage.wait(soon()),
                Next::Fault(fault) => break assert!(fault.contains("its thread \"feed\" panicked"), "{fault}"),
                Next::End => panic!("no end"),
            }
        }
    }

    #[test]
    fn nothing_to_play_is_told_with_what_there_is() {
        let stage = Stage::new(false);
        stage.add_unknown("video/x-prores".into());
        assert_eq!(stage.chosen(Instant::now()), Ok(None));
        stage.complete();
        assert!(stage.chosen(soon()).unwrap_err().contains("video/x-prores"));
        let stage = Stage::new(false);
        stage.complete();
        assert!(stage.chosen(soon()).unwrap_err().contains("neither"));
    }
}
