//! The pace: what was demultiplexed goes up when it is due, whatever the download does. If the next frame is not there when it
//! is due, time stands still until it comes: the source's own timeline stretches, nothing is skipped. What comes live is due as
//! [`super::even`] says.

use crate::demuxer::media_time;
use crate::open::Source;
use crate::track_queues::{Item, Next};
use ipc::demux::{Event, Job};
use model::{Frame, Kind, MediaTime, SourceTracks};
use std::time::{Duration, Instant};
use timing::decode_order::Unit;
use worker::Events;

/// A frame that comes this much after it was due shows that the source stalled; below that it is this machine that is busy.
const STALL: i64 = 200_000_000;
/// Sound that comes live and this much after it was due is left out, for so long after the beginning.
const OLD: i64 = 1_000_000_000;
const BEGINNING: Duration = Duration::from_secs(2);
/// How long one wait lasts at the most, so that splice points and limits are looked at.
const LOOK: Duration = Duration::from_millis(500);

/// The clock of what is played.
#[derive(Debug)]
struct Clock {
    start: Instant,
    /// The source's time that was due at the start.
    base: i64,
    /// By how much what stalled is late for good, less what was left out.
    stalled: i64,
}

impl Clock {
    /// The source's time that is due now.
    fn due(&self, now: Instant) -> i64 {
        let passed = i64::try_from(now.saturating_duration_since(self.start).as_nanos()).unwrap_or(i64::MAX);
        self.base.saturating_add(passed).saturating_sub(self.stalled)
    }

    fn out(&self, time: i64) -> MediaTime {
        media_time(time.saturating_sub(self.base).saturating_add(self.stalled))
    }
}

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
    let mut clock = Clock { start: Instant::now(), base, stalled: 0 };
    let play_time = job.limits.play_time.map(|t| i64::try_from(t.as_nanos()).unwrap_or(i64::MAX));
    let mut idle_since: Option<Instant> = None;
    loop {
        let now = Instant::now();
        let due = if source.live {
            let (due, paused) = stage.due(now);
            clock.stalled = paused;
            due
        } else {
            clock.due(now)
        };
        if play_time.is_some_and(|most| clock.due(now).saturating_add(clock.stalled) - base > most) {
            return Ok(());
        }
        for event in stage.splices(due) {
            events.send(&Event::Splice(event));
        }
        match stage.next(due) {
            Next::Item(_, Item::Config(config), _) => events.send_when_ready(&config),
            Next::Item(kind, Item::Unit(unit), late) => {
                // Radio servers begin with some seconds at once, which nobody could hear in time; pictures are decoded from these.
                let first = source.live && clock.start.elapsed() < BEGINNING;
                if first && kind == Kind::Audio && late > OLD {
                    continue;
                }
                if !source.live && idle_since.is_some() && late > STALL {
                    clock.stalled += late;
                }
                idle_since = None;
                events.send_when_ready(&Event::Frame(frame(kind, unit, &clock)));
            }
            Next::Empty => {
                if let Some(hole) = stage.hole(due) {
                    clock.stalled -= hole;
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

fn frame(kind: Kind, unit: Unit, clock: &Clock) -> Frame {
    let dts = unit.dts.unwrap_or(unit.pts);
    Frame { kind, pts: clock.out(unit.pts), dts: clock.out(dts), key: unit.key, data: unit.data }
}
