//! A session's ingest clock: maps the source's timestamps to media time, which only moves forward, and media time to one wall
//! clock. RTCP sender reports carry that wall clock to the viewers, so that lips match.
//!
//! It alone handles jumps, wrap-arounds that a server missed, stalls, timestamps that stand still, and the drift between the encoder's
//! clock and ours.
//!
//! **May assume** of what comes before it (RTMP's timestamps, or the times of [`crate::playback_clock`]): nothing but that the two
//! tracks share one clock.

use model::{Kind, MediaTime};
use std::time::{Duration, Instant};

/// Where a session's media time begins. Not at zero: the first track to arrive need not be the earliest, and the first frame
/// decoded need not be the first one shown. An encoder's two tracks start within a few frames, so a second is enough.
const START: MediaTime = MediaTime::from_millis(1_000);
/// Backward steps up to this are jitter of the encoder's muxer and are flattened; a larger one is a restart of its clock.
/// Half a second: more than any interleaving seen, less than any restart.
const JITTER: MediaTime = MediaTime::from_millis(500);
/// Forward steps beyond the time that really passed plus this are a jump. Two seconds: a source may pause (camera switched) and
/// then stamp a little ahead, but content that is not there cannot be waited for.
const MAX_AHEAD: MediaTime = MediaTime::from_millis(2_000);
/// How far apart the two tracks may land to count as one jump: they jump together, but a few frames apart.
const SAME_JUMP: MediaTime = MediaTime::from_millis(1_000);
/// The longest composition offset (PTS − DTS) that is believed: 10 s is more than 250 frames of reordering, H.264 allows 16.
const MAX_REORDER: MediaTime = MediaTime::from_millis(10_000);
/// Period over which the least delay is taken before the wall clock follows it: long enough to see past a network stall.
const DRIFT_WINDOW: Duration = Duration::from_secs(5);
/// How far the wall clock may follow per window. It bridges more than 200 ppm (crystals drift below 100), and no viewer sees
/// A/V alignment move by a millisecond.
const DRIFT_STEP: Duration = Duration::from_millis(2);

/// Media that comes this much later than its track usually does is behind a stall, and showing it would keep the whole session
/// late. What networks and muxers do all the time stays below it; the promise is under 500 ms.
pub const MAX_LATENESS: Duration = Duration::from_millis(400);
/// How long late media is watched before it is decided whether a backlog drains or the source's clock stood still.
const BACKLOG_WINDOW: Duration = Duration::from_millis(600);
/// A late track that has not caught up for this long, not over a whole burst either, will not. Within a burst each frame is less
/// late than the one before, so a source that sends a second at a time looks as if it caught up, and begins each second as late.
const NO_CATCH_UP: Duration = Duration::from_millis(1_500);
/// A change of lateness by this much counts (nanoseconds): more than the unevenness of frames, less than a burst.
const LATENESS_STEP: i64 = 20_000_000;
/// Media that comes this much before it is due shows that the wall clock was tied to a frame that came late.
const MAX_EARLY: Duration = Duration::from_millis(20);

/// Frames of one timestamp after which it stands still, if they came over [`STANDS_STILL`]: more than the parts of a picture, or the
/// packets of one message.
const STILL_FRAMES: u32 = 6;
/// Below [`MAX_LATENESS`], so that nothing is dropped until then.
const STANDS_STILL: Duration = Duration::from_millis(250);

/// See the [module](self).
#[derive(Debug)]
pub struct IngestClock {
    audio: Track,
    video: Track,
    /// What is added to the source's time in the newest epoch.
    offset: Option<MediaTime>,
    /// The wall clock of media time zero.
    origin: Option<Instant>,
    /// The latest media time given out, and when.
    head: Option<(MediaTime, Instant)>,
    drift: Drift,
    jumped: Option<Jump>,
}

/// The newest jump: the other track may have to follow.
#[derive(Clone, Copy, Debug)]
struct Jump {
    kind: Kind,
    from: MediaTime,
    to: MediaTime,
    at: Instant,
}

#[derive(Debug, Default)]
struct Track {
    last: Option<Last>,
    /// The frame before the newest jump or leap: if the next frame continues from here, the leap was one stray timestamp.
    before: Option<Last>,
    /// The latest DTS given out, also to the encoder before this one.
    latest: Option<MediaTime>,
    /// The least lateness seen, in ns: how far the muxer holds this track behind the other. `None` before its first frame.
    usual: Option<i64>,
    behind: Option<Behind>,
    still: Option<Still>,
}

/// A timestamp that came again.
#[derive(Clone, Copy, Debug)]
struct Still {
    source: MediaTime,
    /// When it first came, and how often it has come.
    since: Instant,
    frames: u32,
}

/// How a late track develops.
#[derive(Clone, Copy, Debug)]
struct Behind {
    since: Instant,
    at_first: i64,
    least: i64,
    /// The least lateness since it became late, and when that was.
    best: (i64, Instant),
    /// Whether `best` improved in this burst, in which each frame is less late than the one before.
    improved: bool,
    last: i64,
}

#[derive(Clone, Copy, Debug)]
struct Last {
    source: MediaTime,
    mapped: MediaTime,
    at: Instant,
    offset: MediaTime,
}

#[derive(Debug, Default)]
struct Drift {
    window_from: Option<Instant>,
    /// The least lateness (arrival minus due, in ns, may be negative) in the window.
    least: i64,
}

/// A frame's times on the session's timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// Decoding time (DTS).
    pub dts: MediaTime,
    /// Presentation time (PTS).
    pub pts: MediaTime,
    /// How much later than usual for its track it came; zero if in time.
    pub late: Duration,
}

impl IngestClock {
    /// A clock that has seen nothing.
    pub fn new() -> Self {
        Self {
            audio: Track::default(),
            video: Track::default(),
            offset: None,
            origin: None,
            head: None,
            drift: Drift::default(),
            jumped: None,
        }
    }

    /// Maps a frame that arrived at `now` with the source's own `dts` and `pts`. The DTS of one track strictly rise.
    pub fn map(&mut self, kind: Kind, dts: MediaTime, pts: MediaTime, now: Instant) -> Mapped {
        self.watch_stillness(kind, dts, now);
        let last = self.track(kind).last;
        let offset = match last {
            None => self.join(dts, now),
            Some(_) if self.stands_still(kind, now) => self.due(now) - dts,
            Some(last) => self.follow(kind, dts, last, now),
        };
        self.offset = Some(offset);
        let mut mapped = dts + offset;
        if let Some(latest) = self.track(kind).latest {
            mapped = mapped.max(latest + MediaTime::from_nanos(1));
        }
        mapped = mapped.max(MediaTime::ZERO);
        let mut late = self.lateness(kind, mapped, now);
        let mut offset = offset;
        if let Some(by) = self.stays_late(kind, late, now) {
            // Time really passed meanwhile: media time moves on with it.
            self.shift(by);
            (mapped, offset) = (mapped + by, offset + by);
            late = Duration::ZERO;
        }
        self.track(kind).last = Some(Last { source: dts, mapped, at: now, offset });
        self.track(kind).latest = Some(mapped);
        if self.head.is_none_or(|(head, _)| mapped > head) {
            self.head = Some((mapped, now));
        }
        let reorder = pts - dts;
        let reorder = if reorder.as_nanos().unsigned_abs() > MAX_REORDER.as_nanos().unsigned_abs() {
            MediaTime::ZERO
        } else {
            reorder
        };
        Mapped { dts: mapped, pts: (mapped + reorder).max(MediaTime::ZERO), late }
    }

    /// The wall clock of a point on this timeline. Before the first frame there is none: `now` is as good as any.
    pub fn wall(&self, at: MediaTime, now: Instant) -> Instant {
        self.origin.map_or(now, |origin| origin + at.to_duration())
    }

    /// Whether the timestamps of a track stand still while its frames go on coming: then they are mapped to when they come.
    pub fn stands_still(&self, kind: Kind, now: Instant) -> bool {
        let track = match kind {
            Kind::Audio => &self.audio,
            Kind::Video => &self.video,
        };
        let still =
            |still: Still| still.frames >= STILL_FRAMES && now.saturating_duration_since(still.since) >= STANDS_STILL;
        track.still.is_some_and(still)
    }

    fn watch_stillness(&mut self, kind: Kind, dts: MediaTime, now: Instant) {
        let track = self.track(kind);
        match &mut track.still {
            Some(still) if still.source == dts => still.frames = still.frames.saturating_add(1),
            still => *still = Some(Still { source: dts, since: now, frames: 1 }),
        }
    }

    /// The source was replaced by another encoder, whose clock has nothing to do with the one before.
    pub fn restart(&mut self) {
        for track in [&mut self.audio, &mut self.video] {
            *track = Track { latest: track.latest, ..Track::default() };
        }
        (self.offset, self.jumped) = (None, None);
        self.drift = Drift::default();
    }

    /// The offset for an encoder's first frame of a track: that of the other track, unless that puts it far from where the
    /// session is.
    fn join(&mut self, dts: MediaTime, now: Instant) -> MediaTime {
        let Some(expected) = self.expected(now) else { return START - dts };
        let offset = self.offset.filter(|offset| apart(dts + *offset, expected) <= MAX_AHEAD);
        offset.unwrap_or(expected - dts)
    }

    /// The offset for a frame of a track that is known.
    fn follow(&mut self, kind: Kind, dts: MediaTime, last: Last, now: Instant) -> MediaTime {
        let step = dts - last.source;
        let passed = MediaTime::from(now.saturating_duration_since(last.at));
        // After a stall an encoder skips what it could not send: far from its last frame, yet not ahead of real time.
        let ahead = step > passed + MAX_AHEAD && dts + last.offset > self.due(now) + MAX_AHEAD;
        let uneven = step < MediaTime::ZERO || dts + last.offset < last.mapped || step > passed + JITTER;
        if uneven && let Some(to) = self.jumped_along(kind, dts, last, now) {
            return to;
        }
        if step >= MediaTime::ZERO - JITTER && !ahead {
            if step > passed + JITTER {
                self.track(kind).before = Some(last);
            }
            return last.offset;
        }
        if let Some(before) = self.track(kind).before
            && apart(dts - before.source, MediaTime::from(now.saturating_duration_since(before.at))) <= JITTER
        {
            return before.offset;
        }
        let expected = self.expected(now).map_or(last.mapped, |e| e.max(last.mapped));
        let other = match kind {
            Kind::Audio => self.video.last,
            Kind::Video => self.audio.last,
        };
        if let Some(other) = other
            // A step back has left its own offset.
            && (ahead || other.offset != last.offset)
            && apart(dts + other.offset, expected) <= SAME_JUMP
        {
            return other.offset;
        }
        let to = expected - dts;
        self.jumped = Some(Jump { kind, from: last.offset, to, at: now });
        self.track(kind).before = Some(last);
        to
    }

    /// The offset after the other track's jump, if it fits this track better, too. Whether a step counts as a jump depends on the
    /// frame interval: at the limit one track alone would jump, and A/V alignment would be lost.
    fn jumped_along(&self, kind: Kind, dts: MediaTime, last: Last, now: Instant) -> Option<MediaTime> {
        let recent = |jump: &Jump| MediaTime::from(now.saturating_duration_since(jump.at)) <= SAME_JUMP;
        let jump = self.jumped.filter(|jump| jump.kind != kind && jump.from == last.offset && recent(jump))?;
        let here = last.mapped + MediaTime::from(now.saturating_duration_since(last.at));
        let off = apart(dts + jump.to, here);
        (off <= SAME_JUMP && off < apart(dts + jump.from, here)).then_some(jump.to)
    }

    /// Where the session's media should be at `now`, from its head and the time passed since.
    fn expected(&self, now: Instant) -> Option<MediaTime> {
        self.head.map(|(head, at)| head + MediaTime::from(now.saturating_duration_since(at)))
    }

    /// The media time whose due moment is `now`.
    fn due(&self, now: Instant) -> MediaTime {
        self.origin.map_or(MediaTime::ZERO, |origin| MediaTime::from(now.saturating_duration_since(origin)))
    }

    fn track(&mut self, kind: Kind) -> &mut Track {
        match kind {
            Kind::Audio => &mut self.audio,
            Kind::Video => &mut self.video,
        }
    }

    fn lateness(&mut self, kind: Kind, mapped: MediaTime, now: Instant) -> Duration {
        // A frame is due at origin + dts. The first defines the origin (a subtraction that cannot underflow the clock: the
        // timeline starts at one second, and machines are up for longer).
        let origin = *self.origin.get_or_insert_with(|| now.checked_sub(mapped.to_duration()).unwrap_or(now));
        let mut late = signed_nanos(now, origin + mapped.to_duration());
        if late < -(MAX_EARLY.as_nanos() as i64) {
            self.origin = origin.checked_sub(Duration::from_nanos(late.unsigned_abs())).or(Some(origin));
            // Seen from the earlier origin everything is later by as much, the usual too.
            for track in [&mut self.audio, &mut self.video] {
                track.usual = track.usual.map(|usual| usual.saturating_sub(late));
            }
            self.drift = Drift::default();
            late = 0;
        }
        self.follow_drift(late, now);
        let usual = self.track(kind).usual.get_or_insert(late);
        *usual = (*usual).min(late);
        Duration::from_nanos(u64::try_from(late - *usual).unwrap_or(0))
    }

    /// By how much to move on, if a late track stays late. A backlog that drains comes faster than real time: each frame of it is
    /// less late than the one before.
    fn stays_late(&mut self, kind: Kind, late: Duration, now: Instant) -> Option<MediaTime> {
        let track = self.track(kind);
        if late <= MAX_LATENESS {
            track.behind = None;
            return None;
        }
        let late = i64::try_from(late.as_nanos()).unwrap_or(i64::MAX);
        let fresh = Behind { since: now, at_first: late, least: late, best: (late, now), improved: true, last: late };
        let behind = track.behind.get_or_insert(fresh);
        behind.least = behind.least.min(late);
        if std::mem::replace(&mut behind.last, late) < late - LATENESS_STEP {
            let (best, at) = behind.best;
            if !std::mem::replace(&mut behind.improved, false) && now.saturating_duration_since(at) >= NO_CATCH_UP {
                track.behind = None;
                return Some(MediaTime::from_nanos(best));
            }
        }
        if late < behind.best.0 - LATENESS_STEP {
            (behind.best, behind.improved) = ((late, now), true);
        }
        let watched = now.saturating_duration_since(behind.since);
        if watched < BACKLOG_WINDOW {
            return None;
        }
        let (caught_up, least) = (behind.at_first - behind.least, behind.least);
        *behind = Behind { best: behind.best, improved: behind.improved, ..fresh };
        // Less than a third faster than real time: the rest would take longer than anyone waits.
        (caught_up < watched.as_nanos() as i64 / 3).then(|| MediaTime::from_nanos(least))
    }

    /// Moves everything that is to come forward by `by`.
    fn shift(&mut self, by: MediaTime) {
        self.offset = self.offset.map(|offset| offset + by);
        for track in [&mut self.audio, &mut self.video] {
            for last in [&mut track.last, &mut track.before].into_iter().flatten() {
                last.offset = last.offset + by;
            }
            track.behind = None;
        }
        if let Some(jump) = &mut self.jumped {
            (jump.from, jump.to) = (jump.from + by, jump.to + by);
        }
    }

    /// Follows the least delay over a window: a network makes some frames late, only a clock makes *all* of them late or early.
    fn follow_drift(&mut self, late: i64, now: Instant) {
        let Some(from) = self.drift.window_from else {
            self.drift = Drift { window_from: Some(now), least: late };
            return;
        };
        self.drift.least = self.drift.least.min(late);
        if now.saturating_duration_since(from) < DRIFT_WINDOW {
            return;
        }
        let step = DRIFT_STEP.as_nanos() as i64;
        let by = self.drift.least.clamp(-step, step);
        if let Some(origin) = &mut self.origin {
            let moved = if by >= 0 {
                origin.checked_add(Duration::from_nanos(by.unsigned_abs()))
            } else {
                origin.checked_sub(Duration::from_nanos(by.unsigned_abs()))
            };
            *origin = moved.unwrap_or(*origin);
        }
        self.drift = Drift { window_from: Some(now), least: late - by };
    }
}

impl Default for IngestClock {
    fn default() -> Self {
        Self::new()
    }
}

/// How far two points in time are apart.
fn apart(a: MediaTime, b: MediaTime) -> MediaTime {
    (a - b).max(b - a)
}

fn signed_nanos(a: Instant, b: Instant) -> i64 {
    let ns = |d: Duration| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX);
    if a >= b { ns(a - b) } else { -ns(b - a) }
}

#[cfg(test)]
mod tests;
