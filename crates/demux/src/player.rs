//! The pace: what was demultiplexed goes up when it is due, whatever the download does. If the next frame is not there when it
//! is due, time stands still until it comes: the source's own timeline stretches, nothing is skipped. What comes live is due as
//! [`super::even`] says.

use crate::access_unit::AccessUnit;
use crate::open::Source;
use crate::track_queues::{Item, Next};
use ipc::demux::{Event, Job};
use model::{Frame, Kind, SourceTracks};
use std::time::{Duration, Instant};
use timing::playback_clock::PlaybackClock;
use worker::Events;

/// A frame that comes this much after it was due shows that the source stalled; below that it is this machine that is busy.
const STALL: i64 = 200_000_000;
/// Sound that comes live and this much after it was due is left out, for so long after the beginning.
const OLD: i64 = 1_000_000_000;
const BEGINNING: Duration = Duration::from_secs(2);
/// How long one wait lasts at the most, so that splice points and limits are looked at.
const LOOK: Duration = Duration::from_millis(500);

/// Plays until the source or its time ends.
///
/// # Errors
/// Why it could not go on, in words.
pub(crate) fn play(source: &Source, job: &Job, events: &Events<Event>) -> Result<(), String> {
    // A live source says itself when it gives up; this is for one that brings nothing of use.
    let patience = job.limits.timeout * 2 + if source.live { job.limits.reconnect } else { Duration::ZERO };
    let Some(kinds) = source.stage.chosen(Instant::now() + patience)? else {
        return Err(format!("nothing that can be played came within {patience:?}"));
    };
    let tracks = SourceTracks { video: kinds.contains(&Kind::Video), audio: kinds.contains(&Kind::Audio) };
    events.send_when_ready(&Event::Announced(tracks));
    // A child in the place of one that crashed goes on where that was, if what it plays lets it.
    if let (Some(from), Some(file)) = (job.from, &source.file)
        && !file.jump(from)
    {
        eprintln!("the source does not let itself be jumped in: it begins anew");
    }
    let played = run(source, job, events);
    source.stage.close();
    played
}

fn run(source: &Source, job: &Job, events: &Events<Event>) -> Result<(), String> {
    let stage = &source.stage;
    let Some(base) = first(source) else { return Err("nothing came that could be played".into()) };
    let begun = Instant::now();
    let mut clock = PlaybackClock::new(base, begun);
    let play_time = job.limits.play_time.map(|t| i64::try_from(t.as_nanos()).unwrap_or(i64::MAX));
    let mut idle_since: Option<Instant> = None;
    loop {
        let now = Instant::now();
        let due = if source.live {
            let (due, paused) = stage.due(now);
            clock.set_paused(paused);
            due
        } else {
            clock.due(now)
        };
        if play_time.is_some_and(|most| clock.elapsed(now) > most) {
            return Ok(());
        }
        for event in stage.splices(due) {
            events.send(&Event::Splice(event));
        }
        match stage.next(due) {
            Next::Item(_, Item::Config(config), _) => events.send_when_ready(&config),
            Next::Item(kind, Item::Unit { dts, unit }, late) => {
                // Radio servers begin with some seconds at once, which nobody could hear in time; pictures are decoded from these.
                let first = source.live && begun.elapsed() < BEGINNING;
                if first && kind == Kind::Audio && late > OLD {
                    continue;
                }
                if !source.live && idle_since.is_some() && late > STALL {
                    clock.stall(late);
                }
                idle_since = None;
                events.send_when_ready(&Event::Frame(frame(kind, dts, unit, &clock)));
            }
            Next::Empty => {
                if let Some(hole) = stage.hole(due) {
                    clock.skip(hole);
                    continue;
                }
                let head = stage.head();
                // Nothing is there though something should be: the source stalls, if the next comes late.
                if head.is_none() {
                    idle_since.get_or_insert(now);
                }
                let wait = head.map_or(LOOK, |h| Duration::from_nanos(h.saturating_sub(due).max(0).unsigned_abs()));
                let wake = now + wait.min(LOOK);
                stage.wait(wake.max(now + Duration::from_micros(100)));
            }
            Next::End => {
                // The last frame is shown for as long as one lasts, and what was sent is on its way.
                return Ok(());
            }
            Next::Fault(fault) => return Err(fault),
        }
    }
}

/// The earliest decoding time; waits for a first frame.
fn first(source: &Source) -> Option<i64> {
    let until = Instant::now() + LOOK * 4;
    while source.stage.first().is_none() && Instant::now() < until {
        source.stage.wait(until);
    }
    source.stage.first()
}

fn frame(kind: Kind, dts: i64, unit: AccessUnit, clock: &PlaybackClock) -> Frame {
    Frame { kind, pts: clock.map(unit.pts), dts: clock.map(dts), key: unit.key, data: unit.data }
}
