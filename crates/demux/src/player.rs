//! Plays what was demultiplexed: sends it to the parent when it is due by [`timing::playback_clock`], whatever the download does. What
//! comes live is due by [`timing::jitter_delay`].

use crate::access_unit::AccessUnit;
use crate::fault::{lost, unplayable};
use crate::source::Source;
use crate::track_queues::{Item, Next};
use ipc::demux::{Event, Job};
use model::{Fault, Frame, Kind, SourceTracks};
use std::time::{Duration, Instant};
use timing::playback_clock::PlaybackClock;
use worker::Events;

/// A frame that comes this much after it was due (nanoseconds) shows that the source stalled; below that this machine is busy.
const MIN_STALL: i64 = 200_000_000;
/// Live audio that comes this much after it was due (nanoseconds) is left out during [`BEGINNING`].
const TOO_OLD: i64 = 1_000_000_000;
/// How long the beginning lasts, with what a server had stored.
const BEGINNING: Duration = Duration::from_secs(2);
/// Tracks that begin this much apart (nanoseconds) are announced one after the other: more than frames of both are apart where they begin
/// together, and less than a session waits for.
const APART: i64 = 300_000_000;
/// A file that ends this much (nanoseconds) before its own end, and a twentieth of it, is not complete. Containers round, and count what
/// nobody sees.
const MUCH_MISSING: i64 = 2_000_000_000;
/// The longest single wait, so that splice points and limits are looked at.
const MAX_WAIT: Duration = Duration::from_millis(500);

/// Plays until the source or its time ends.
///
/// # Errors
/// Why it could not go on.
pub(crate) fn play(source: &Source, job: &Job, events: &Events<Event>) -> Result<(), Fault> {
    // A live source gives up by itself; this is for one that brings nothing of use.
    let timeout = job.limits.timeout * 2 + if source.live { job.limits.reconnect } else { Duration::ZERO };
    let Some(kinds) = source.queues.chosen(Instant::now() + timeout)? else {
        return Err(lost(format!("nothing that can be played came within {timeout:?}")));
    };
    if job.live_only && !source.portable.get() {
        return Err(unplayable("it is not live any more: what was pulled by another server is not played anew"));
    }
    // What begins later is announced when it does: the session would wait for it, and lose what comes meanwhile.
    let later = source.queues.begins_later(APART).filter(|_| !source.live);
    events.send_when_ready(&announced(&kinds, later));
    for (kind, text) in source.queues.left_out() {
        events.send_when_ready(&Event::Unusable(kind, text));
    }
    // A worker that replaces a crashed one goes on where that was, if the file can seek.
    if let (Some(from), Some(file)) = (job.from, &source.file)
        && !file.seek(from)
    {
        eprintln!("the file can't seek: it is played from its beginning");
    }
    let played = run(source, job, events, &kinds, later);
    source.queues.close();
    played
}

/// These kinds, without the one that begins later.
fn announced(kinds: &[Kind], later: Option<Kind>) -> Event {
    let has = |kind| kinds.contains(&kind) && later != Some(kind);
    Event::Announced(SourceTracks { video: has(Kind::Video), audio: has(Kind::Audio) })
}

/// What to say of a source that has come to its end after it was played up to this time (nanoseconds), if that is less than it says to
/// have.
fn cut_short(source: &Source, job: &Job, played: i64) -> Option<String> {
    let says = source.file.as_ref().filter(|_| job.from.is_none())?.duration()?;
    let missing = says.saturating_sub(played);
    let seconds = |time: i64| time / 1_000_000_000;
    (missing > MUCH_MISSING.max(says / 20)).then(|| {
        format!(
            "it ended after {} s, though it says to have {} s: the file is not complete",
            seconds(played),
            seconds(says)
        )
    })
}

fn run(
    source: &Source,
    job: &Job,
    events: &Events<Event>,
    kinds: &[Kind],
    mut later: Option<Kind>,
) -> Result<(), Fault> {
    let queues = &source.queues;
    let Some(base) = first(source) else { return Err(unplayable("nothing came that could be played")) };
    let begun = Instant::now();
    let mut clock = PlaybackClock::new(base, begun);
    let play_time = job.limits.play_time.map(|t| i64::try_from(t.as_nanos()).unwrap_or(i64::MAX));
    let mut idle_since: Option<Instant> = None;
    let mut played = base;
    let mut portable = false;
    loop {
        let now = Instant::now();
        if portable != source.portable.get() {
            portable = !portable;
            events.send_when_ready(&Event::Portable(portable));
        }
        let due = match queues.live_due(now) {
            Some((due, paused)) => {
                clock.set_paused(paused);
                due
            }
            None => clock.due(now),
        };
        if play_time.is_some_and(|most| clock.elapsed(now) > most) {
            return Ok(());
        }
        for event in queues.splices(due) {
            events.send(&Event::Splice(event));
        }
        if let Some(text) = queues.take_notice() {
            events.send_when_ready(&Event::Notice(text));
        }
        match queues.next(due) {
            Next::Item(kind, Item::Config(config), _) => {
                if later.take_if(|later| *later == kind).is_some() {
                    events.send_when_ready(&announced(kinds, None));
                }
                events.send_when_ready(&config);
            }
            Next::Item(kind, Item::Unit { dts, unit, .. }, late) => {
                // Radio servers begin with some seconds at once, which nobody could hear in time. Video has to be decoded from them.
                let first = source.live && begun.elapsed() < BEGINNING;
                if first && kind == Kind::Audio && late > TOO_OLD {
                    continue;
                }
                if !source.live && idle_since.is_some() && late > MIN_STALL {
                    clock.stall(late);
                }
                idle_since = None;
                played = played.max(unit.pts);
                events.send_when_ready(&Event::Frame(frame(kind, dts, unit, &clock)));
            }
            Next::Empty => {
                if let Some(gap) = queues.gap(due) {
                    clock.skip(gap);
                    continue;
                }
                let next = queues.next_due();
                // Nothing is there: if the next comes late, the source stalled.
                if next.is_none() {
                    idle_since.get_or_insert(now);
                }
                let wait = next.map_or(MAX_WAIT, |h| Duration::from_nanos(h.saturating_sub(due).max(0).unsigned_abs()));
                let wake = now + wait.min(MAX_WAIT);
                queues.wait(wake.max(now + Duration::from_micros(100)));
            }
            Next::End => {
                if let Some(text) = cut_short(source, job, played - base) {
                    events.send_when_ready(&Event::Notice(text));
                }
                return Ok(());
            }
            Next::Fault(fault) => return Err(fault),
        }
    }
}

/// The earliest DTS; waits for a first frame.
fn first(source: &Source) -> Option<i64> {
    let until = Instant::now() + MAX_WAIT * 4;
    while source.queues.first().is_none() && Instant::now() < until {
        source.queues.wait(until);
    }
    source.queues.first()
}

fn frame(kind: Kind, dts: i64, unit: AccessUnit, clock: &PlaybackClock) -> Frame {
    Frame { kind, pts: clock.map(unit.pts), dts: clock.map(dts), key: unit.key, data: unit.data }
}
