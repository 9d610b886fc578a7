//! The clock of an HLS presentation: what its timestamps are on the timeline that is played.
//!
//! A discontinuity begins a run of segments with timestamps of its own, and within a run all renditions share one clock (RFC 8216
//! §6.2.4): sound that lies apart from its pictures is in step with them by its timestamps, and by nothing else. Where segments begin
//! differs from one rendition to another, and so do the sums of the durations that playlists give.
//!
//! So a run lies where none of the renditions would have to go back: whichever comes to it first waits a little for the others. A
//! server that begins anew without a word has timestamps that run back or far away; they make a run, too, which goes on where the
//! rendition that came to it first was.
//!
//! [`Clock`] is pure: timestamps go in, and what they are on the timeline comes out. All times are nanoseconds.

use model::Kind;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Timestamps farther than this from all that were seen in a run are not of it: longer than any segment, and than renditions lie apart.
const FAR: i64 = 60_000_000_000;
/// A step back by more than this is a new beginning; no encoder reorders over a second.
const BACK: i64 = 1_000_000_000;
/// After how long the 33 bits that count 90 000 a second begin anew (ISO 13818-1 §2.4.3.7): 2³³ ticks.
pub const WRAP: i64 = 95_443_717_688_889;
/// Runs that are remembered: renditions are read a few segments apart at the most.
const RUNS: usize = 16;
/// How long a rendition waits for the others at a run's beginning: less than it is ahead of what is played (a second and a half).
const PATIENCE: Duration = Duration::from_secs(1);

/// The clock as the threads share it that read one rendition each.
#[derive(Clone, Debug, Default)]
pub struct Shared(Arc<(Mutex<Clock>, Condvar)>);

/// See the [module](self).
#[derive(Debug, Default)]
struct Clock {
    runs: Vec<Run>,
    made: u64,
    /// Renditions that are read.
    renditions: usize,
    /// Runs that renditions have come to and that lie nowhere yet: whose, which, and what it would add.
    offers: Vec<(usize, u64, i64)>,
}

/// Timestamps that belong together.
#[derive(Debug)]
struct Run {
    /// Counts all that were made.
    serial: u64,
    /// The discontinuity sequence number.
    number: u64,
    /// What is added.
    by: i64,
    /// Those seen.
    least: i64,
    most: i64,
}

/// How far one rendition has got.
#[derive(Debug, Default)]
pub struct Rendition {
    id: usize,
    number: u64,
    /// Of sound and pictures.
    tracks: [Track; 2],
    /// Where on the timeline all that came ends.
    end: i64,
}

#[derive(Debug, Default)]
struct Track {
    run: Option<u64>,
    /// The newest timestamp in it.
    last: Option<i64>,
    /// What comes need not go on where the last ended.
    anew: bool,
}

/// A frame's timestamp.
#[derive(Clone, Copy, Debug)]
pub struct At {
    /// The track that the frame belongs to.
    pub kind: Kind,
    /// Its timestamp, in nanoseconds.
    pub at: i64,
    /// For how long from then on there is something to show.
    pub lasts: i64,
    /// Whether timestamps begin anew after [`WRAP`].
    pub wraps: bool,
}

impl Rendition {
    /// What comes next begins at this place of the timeline, if nothing else says where.
    pub fn skip_to(&mut self, end: i64) {
        self.end = self.end.max(end);
    }

    /// What comes next belongs to the run of this number and need not go on where the last ended.
    pub fn begin(&mut self, number: u64) {
        for track in &mut self.tracks {
            if self.number != number {
                *track = Track::default();
            }
            track.anew = true;
        }
        self.number = number;
    }
}

impl Run {
    /// The timestamp that is meant, if it is of this run.
    fn of(&self, at: &At) -> Option<i64> {
        let meant = if at.wraps { near(at.at, self.most) } else { at.at };
        let near = meant >= self.least.saturating_sub(FAR) && meant <= self.most.saturating_add(FAR);
        near.then_some(meant)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// One more that is read.
    pub fn join(&self) -> Rendition {
        lock(&self.0.0).join()
    }

    /// One that is read no more.
    pub fn leave(&self) {
        lock(&self.0.0).leave();
        self.0.1.notify_all();
    }

    /// Where this frame of a rendition lies on the timeline; waits for other renditions at a run's beginning, for [`PATIENCE`].
    pub fn place(&self, rendition: &mut Rendition, at: At) -> i64 {
        let until = Instant::now() + PATIENCE;
        let mut clock = lock(&self.0.0);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if let Some(placed) = clock.place(rendition, at, left.is_zero()) {
                self.0.1.notify_all();
                return placed;
            }
            clock = self.0.1.wait_timeout(clock, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Clock {
    fn join(&mut self) -> Rendition {
        self.renditions += 1;
        Rendition { id: self.renditions, ..Rendition::default() }
    }

    fn leave(&mut self) {
        self.renditions = self.renditions.saturating_sub(1);
    }

    /// Where a frame lies. `None` if others are to be waited for, unless it is `late` for that.
    fn place(&mut self, rendition: &mut Rendition, at: At, late: bool) -> Option<i64> {
        let fresh = rendition.tracks.iter().all(|track| track.run.is_none());
        let track = &rendition.tracks[usize::from(at.kind == Kind::Video)];
        let step = track.last.map(|last| if at.wraps { near(at.at, last) } else { at.at }.saturating_sub(last));
        let back = step.is_some_and(|step| step < -BACK);
        let found = if step.is_some_and(|step| !back && step <= FAR) && !track.anew {
            self.runs.iter().position(|run| Some(run.serial) == track.run)
        } else {
            let least = track.run.map_or(0, |run| run + u64::from(back));
            let known = |run: &Run| run.number == rendition.number && run.serial >= least;
            self.runs.iter().rposition(|run| known(run) && run.of(&at).is_some())
        };
        let i = match found {
            Some(i) => i,
            None => {
                let mut by = rendition.end.saturating_sub(at.at);
                if fresh && !self.runs.is_empty() {
                    by = self.offer(rendition, by, late)?;
                }
                self.make(rendition.number, by, at.at)
            }
        };
        let run = &mut self.runs[i];
        let meant = run.of(&at).unwrap_or(at.at);
        (run.least, run.most) = (run.least.min(meant), run.most.max(meant));
        let placed = meant.saturating_add(run.by);
        rendition.tracks[usize::from(at.kind == Kind::Video)] =
            Track { run: Some(run.serial), last: Some(meant), anew: false };
        rendition.end = rendition.end.max(placed.saturating_add(at.lasts));
        Some(placed)
    }

    /// What is to be added in a run that lies nowhere yet, once that is settled.
    fn offer(&mut self, rendition: &Rendition, by: i64, late: bool) -> Option<i64> {
        self.offers.retain(|(id, ..)| *id != rendition.id);
        self.offers.push((rendition.id, rendition.number, by));
        let of_this = || self.offers.iter().filter(|(_, number, _)| *number == rendition.number);
        let most = of_this().map(|(_, _, by)| *by).max();
        most.filter(|_| late || of_this().count() >= self.renditions)
    }

    fn make(&mut self, number: u64, by: i64, at: i64) -> usize {
        if self.runs.len() == RUNS {
            self.runs.remove(0);
        }
        self.offers.retain(|(_, other, _)| *other != number);
        let serial = self.made;
        self.made += 1;
        self.runs.push(Run { serial, number, by, least: at, most: at });
        self.runs.len() - 1
    }
}

/// Of all timestamps that are the same but for having begun anew, the one nearest to `to`.
fn near(at: i64, to: i64) -> i64 {
    let turns = (to.saturating_sub(at).saturating_add(WRAP / 2)).div_euclid(WRAP);
    at.saturating_add(turns.saturating_mul(WRAP))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: i64 = 1_000_000;

    fn two() -> (Clock, Rendition, Rendition) {
        let mut clock = Clock::default();
        let (pictures, sound) = (clock.join(), clock.join());
        (clock, pictures, sound)
    }

    fn at(kind: Kind, ms: i64) -> At {
        At { kind, at: ms * MS, lasts: 20 * MS, wraps: false }
    }

    /// Plays frames of 20 ms with the timestamps `from..until`; gives where the first and the last lie, all in ms.
    fn play(clock: &mut Clock, rendition: &mut Rendition, kind: Kind, from: i64, until: i64) -> (i64, i64) {
        let placed: Vec<i64> = (from..until)
            .step_by(20)
            .map(|ms| clock.place(rendition, at(kind, ms), false).unwrap().div_euclid(MS))
            .collect();
        (placed[0], placed[placed.len() - 1])
    }

    #[test]
    fn sound_that_lies_apart_is_in_step_by_its_timestamps() {
        let (mut clock, mut pictures, mut sound) = two();
        assert_eq!(play(&mut clock, &mut pictures, Kind::Video, 9_000, 11_000), (0, 1_980));
        assert_eq!(play(&mut clock, &mut sound, Kind::Audio, 8_500, 10_980), (-500, 1_960));
        // A discontinuity, to which the sound comes first; the pictures end a little later than it, and begin later.
        sound.begin(1);
        assert_eq!(clock.place(&mut sound, at(Kind::Audio, 1_400), false), None);
        pictures.begin(1);
        assert_eq!(play(&mut clock, &mut pictures, Kind::Video, 1_410, 3_010), (2_000, 3_580));
        assert_eq!(play(&mut clock, &mut sound, Kind::Audio, 1_400, 3_000), (1_990, 3_570));
        // The next begins with the same timestamps: it is another run all the same. This time the pictures would have to go back.
        sound.begin(2);
        assert_eq!(clock.place(&mut sound, at(Kind::Audio, 1_900), false), None);
        pictures.begin(2);
        assert_eq!(play(&mut clock, &mut pictures, Kind::Video, 1_400, 3_000).0, 3_600);
        assert_eq!(play(&mut clock, &mut sound, Kind::Audio, 1_900, 3_000).0, 4_100);
    }

    #[test]
    fn nobody_waits_for_long_or_for_who_has_left() {
        let (mut clock, mut pictures, mut sound) = two();
        play(&mut clock, &mut pictures, Kind::Video, 0, 2_000);
        play(&mut clock, &mut sound, Kind::Audio, 0, 3_000);
        pictures.begin(1);
        assert_eq!(clock.place(&mut pictures, at(Kind::Video, 0), false), None);
        assert_eq!(clock.place(&mut pictures, at(Kind::Video, 0), true), Some(2_000 * MS));
        pictures.begin(2);
        assert_eq!(clock.place(&mut pictures, at(Kind::Video, 0), false), None);
        clock.leave();
        assert_eq!(clock.place(&mut pictures, at(Kind::Video, 0), false), Some(2_020 * MS));
    }

    #[test]
    fn both_tracks_of_one_rendition_go_on_together() {
        let mut clock = Clock::default();
        let mut both = clock.join();
        play(&mut clock, &mut both, Kind::Video, 0, 2_000);
        play(&mut clock, &mut both, Kind::Audio, 0, 1_900);
        both.begin(1);
        assert_eq!(play(&mut clock, &mut both, Kind::Audio, 50_000, 50_100).0, 2_000);
        assert_eq!(play(&mut clock, &mut both, Kind::Video, 50_040, 50_100).0, 2_040);
        // Without a word, and not at the same time.
        assert_eq!(play(&mut clock, &mut both, Kind::Video, 0, 100).0, 2_100);
        assert_eq!(play(&mut clock, &mut both, Kind::Audio, 50_100, 50_200), (2_100, 2_180));
        assert_eq!(play(&mut clock, &mut both, Kind::Audio, 40, 100).0, 2_140);
    }

    #[test]
    fn after_an_outage_renditions_are_in_step_wherever_they_go_on() {
        for (from, of_sound) in [(40_000, 38_000), (40_000, 44_000), (69_900, 70_100), (500_000, 499_000)] {
            for sound_first in [false, true] {
                let (mut clock, mut pictures, mut sound) = two();
                play(&mut clock, &mut pictures, Kind::Video, 0, 10_000);
                play(&mut clock, &mut sound, Kind::Audio, 0, 10_000);
                pictures.begin(0);
                sound.begin(0);
                let mut again = |sounds: bool| {
                    if sounds {
                        of_sound - play(&mut clock, &mut sound, Kind::Audio, of_sound, of_sound + 6_000).0
                    } else {
                        from - play(&mut clock, &mut pictures, Kind::Video, from, from + 6_000).0
                    }
                };
                assert_eq!(again(sound_first), again(!sound_first), "{from} {of_sound} {sound_first}");
            }
        }
    }

    #[test]
    fn a_server_that_begins_anew_goes_on_where_it_was() {
        let (mut clock, mut pictures, mut sound) = two();
        play(&mut clock, &mut pictures, Kind::Video, 0, 30_000);
        play(&mut clock, &mut sound, Kind::Audio, 0, 29_000);
        // One rendition is told of it, the other sees it by the timestamps alone; sound of before still comes then.
        pictures.begin(0);
        assert_eq!(play(&mut clock, &mut pictures, Kind::Video, 1_400, 3_400).0, 30_000);
        assert_eq!(play(&mut clock, &mut sound, Kind::Audio, 29_000, 30_000), (29_000, 29_980));
        assert_eq!(play(&mut clock, &mut sound, Kind::Audio, 1_400, 3_400).0, 30_000);
    }

    #[test]
    fn timestamps_that_begin_anew_after_33_bits_are_the_same_clock() {
        let (mut clock, mut pictures, mut sound) = two();
        let mut place = |rendition: &mut Rendition, kind, at| {
            clock.place(rendition, At { kind, at, lasts: 0, wraps: true }, false).map(|t| t / MS)
        };
        assert_eq!(place(&mut pictures, Kind::Video, WRAP - 500 * MS), Some(0));
        assert_eq!(place(&mut sound, Kind::Audio, 200 * MS), Some(700));
        // One demultiplexer counts on, the next begins anew.
        assert_eq!(place(&mut pictures, Kind::Video, WRAP + 100 * MS), Some(600));
        pictures.begin(0);
        assert_eq!(place(&mut pictures, Kind::Video, 300 * MS), Some(800));
    }

    proptest! {
        #[test]
        fn whatever_comes_is_placed(seen in proptest::collection::vec((any::<i64>(), any::<bool>(), any::<bool>(), 0u64..3, any::<bool>()), 0..200)) {
            let (mut clock, a, b) = two();
            let mut both = [a, b];
            for (at, wraps, first, number, begins) in seen {
                let rendition = &mut both[usize::from(first)];
                if begins {
                    rendition.begin(number);
                }
                let at = At { kind: Kind::Audio, at: at / 4, lasts: 0, wraps };
                prop_assert!(clock.place(rendition, at, false).or_else(|| clock.place(rendition, at, true)).is_some());
                prop_assert!(clock.runs.len() <= RUNS && clock.offers.len() <= 2);
            }
        }
    }
}
