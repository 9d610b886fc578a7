//! The clock of an HLS presentation: maps its timestamps to the timeline that is played.
//!
//! A discontinuity begins a run of segments with timestamps of its own, and within a run all renditions share one clock (RFC 8216
//! §6.2.4): only timestamps align an audio rendition with its video. Where segments begin differs from one rendition to another, and so
//! do the sums of the durations in playlists.
//!
//! So a run begins where no rendition has to go back: the first to come to it waits a little for the others ([`OFFER_TIMEOUT`]). A server
//! that restarts without a discontinuity shows by timestamps that step back or far away; they make a run, too, which continues where
//! the rendition that came to it first was.
//!
//! **May assume** of the server: within a run, timestamps of all renditions are on one clock (but for 33-bit wrap-arounds).
//!
//! All times are nanoseconds. Who reads renditions in threads waits outside of this: `demux` does, with a condition variable.

use model::Kind;
use std::time::Duration;

/// Timestamps farther than this from all that were seen in a run are not of it: longer than any segment, and than renditions are apart.
const MAX_STEP: i64 = 60_000_000_000;
/// A larger step back is a restart; no encoder reorders over a second.
const MAX_STEP_BACK: i64 = 1_000_000_000;
/// When the 33 bits that count 90 000 a second wrap around (ISO 13818-1 §2.4.3.7): 2³³ ticks.
pub const WRAP: i64 = 95_443_717_688_889;
/// Runs that are remembered: renditions are read a few segments apart at most.
const MAX_RUNS: usize = 16;
/// How long a rendition waits for the others at the start of a run: less than it is ahead of playback (a second and a half).
pub const OFFER_TIMEOUT: Duration = Duration::from_secs(1);

/// See the [module](self).
#[derive(Debug, Default)]
pub struct HlsClock {
    runs: Vec<Run>,
    made: u64,
    /// How many renditions are read.
    renditions: usize,
    /// Runs that renditions have come to and whose offset is not settled: rendition, discontinuity number, and the offset it needs.
    offers: Vec<(usize, u64, i64)>,
}

/// Timestamps that belong together.
#[derive(Debug)]
struct Run {
    /// Its number among all runs.
    serial: u64,
    /// The discontinuity sequence number.
    number: u64,
    /// What is added to its timestamps.
    offset: i64,
    /// Lowest and highest timestamp seen.
    least: i64,
    most: i64,
}

/// How far one rendition has come.
#[derive(Debug, Default)]
pub struct Rendition {
    id: usize,
    number: u64,
    /// Audio and video.
    tracks: [Track; 2],
    /// Where on the timeline everything that came ends.
    end: i64,
}

#[derive(Debug, Default)]
struct Track {
    run: Option<u64>,
    /// Its newest timestamp in that run.
    last: Option<i64>,
    /// What comes next need not continue where the last ended.
    discontinuous: bool,
}

/// When a frame is, by its container.
#[derive(Clone, Copy, Debug)]
pub struct FrameTime {
    /// The track that the frame belongs to.
    pub kind: Kind,
    /// Its timestamp, in nanoseconds.
    pub at: i64,
    /// For how long after it there is something to show.
    pub duration: i64,
    /// Whether timestamps wrap around at [`WRAP`].
    pub wraps: bool,
}

impl Rendition {
    /// What comes next begins here on the timeline, if nothing else says where.
    pub fn skip_to(&mut self, end: i64) {
        self.end = self.end.max(end);
    }

    /// What comes next belongs to the run with this discontinuity number and need not continue where the last ended.
    pub fn begin(&mut self, number: u64) {
        for track in &mut self.tracks {
            if self.number != number {
                *track = Track::default();
            }
            track.discontinuous = true;
        }
        self.number = number;
    }
}

impl Run {
    /// The timestamp unwrapped, if it is of this run.
    fn of(&self, at: &FrameTime) -> Option<i64> {
        let meant = if at.wraps { near(at.at, self.most) } else { at.at };
        let near = meant >= self.least.saturating_sub(MAX_STEP) && meant <= self.most.saturating_add(MAX_STEP);
        near.then_some(meant)
    }
}

impl HlsClock {
    /// One more rendition is read.
    pub fn join(&mut self) -> Rendition {
        self.renditions += 1;
        Rendition { id: self.renditions, ..Rendition::default() }
    }

    /// A rendition is read no more.
    pub fn leave(&mut self) {
        self.renditions = self.renditions.saturating_sub(1);
    }

    /// Where a frame is on the timeline. `None` while other renditions are to be waited for; never if it is too `late` for that.
    pub fn map(&mut self, rendition: &mut Rendition, at: FrameTime, late: bool) -> Option<i64> {
        let fresh = rendition.tracks.iter().all(|track| track.run.is_none());
        let track = &rendition.tracks[usize::from(at.kind == Kind::Video)];
        let step = track.last.map(|last| if at.wraps { near(at.at, last) } else { at.at }.saturating_sub(last));
        let back = step.is_some_and(|step| step < -MAX_STEP_BACK);
        let found = if step.is_some_and(|step| !back && step <= MAX_STEP) && !track.discontinuous {
            self.runs.iter().position(|run| Some(run.serial) == track.run)
        } else {
            let least = track.run.map_or(0, |run| run + u64::from(back));
            let known = |run: &Run| run.number == rendition.number && run.serial >= least;
            self.runs.iter().rposition(|run| known(run) && run.of(&at).is_some())
        };
        let i = match found {
            Some(i) => i,
            None => {
                let mut offset = rendition.end.saturating_sub(at.at);
                if fresh && !self.runs.is_empty() {
                    offset = self.offer(rendition, offset, late)?;
                }
                self.make(rendition.number, offset, at.at)
            }
        };
        let run = &mut self.runs[i];
        let meant = run.of(&at).unwrap_or(at.at);
        (run.least, run.most) = (run.least.min(meant), run.most.max(meant));
        let mapped = meant.saturating_add(run.offset);
        rendition.tracks[usize::from(at.kind == Kind::Video)] =
            Track { run: Some(run.serial), last: Some(meant), discontinuous: false };
        rendition.end = rendition.end.max(mapped.saturating_add(at.duration));
        Some(mapped)
    }

    /// The offset of a run that is not settled yet, once all renditions have come to it.
    fn offer(&mut self, rendition: &Rendition, offset: i64, late: bool) -> Option<i64> {
        self.offers.retain(|(id, ..)| *id != rendition.id);
        self.offers.push((rendition.id, rendition.number, offset));
        let of_this = || self.offers.iter().filter(|(_, number, _)| *number == rendition.number);
        let most = of_this().map(|(_, _, by)| *by).max();
        most.filter(|_| late || of_this().count() >= self.renditions)
    }

    fn make(&mut self, number: u64, offset: i64, at: i64) -> usize {
        if self.runs.len() == MAX_RUNS {
            self.runs.remove(0);
        }
        self.offers.retain(|(_, other, _)| *other != number);
        let serial = self.made;
        self.made += 1;
        self.runs.push(Run { serial, number, offset, least: at, most: at });
        self.runs.len() - 1
    }
}

/// Of all timestamps that are the same modulo [`WRAP`], the one nearest to `to`.
fn near(at: i64, to: i64) -> i64 {
    let turns = (to.saturating_sub(at).saturating_add(WRAP / 2)).div_euclid(WRAP);
    at.saturating_add(turns.saturating_mul(WRAP))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: i64 = 1_000_000;

    fn two() -> (HlsClock, Rendition, Rendition) {
        let mut clock = HlsClock::default();
        let (video, audio) = (clock.join(), clock.join());
        (clock, video, audio)
    }

    fn at(kind: Kind, ms: i64) -> FrameTime {
        FrameTime { kind, at: ms * MS, duration: 20 * MS, wraps: false }
    }

    /// Plays frames of 20 ms with the timestamps `from..until`; gives where the first and the last are, all in ms.
    fn play(clock: &mut HlsClock, rendition: &mut Rendition, kind: Kind, from: i64, until: i64) -> (i64, i64) {
        let mapped: Vec<i64> = (from..until)
            .step_by(20)
            .map(|ms| clock.map(rendition, at(kind, ms), false).unwrap().div_euclid(MS))
            .collect();
        (mapped[0], mapped[mapped.len() - 1])
    }

    #[test]
    fn a_separate_audio_rendition_is_aligned() {
        let (mut clock, mut video, mut audio) = two();
        assert_eq!(play(&mut clock, &mut video, Kind::Video, 9_000, 11_000), (0, 1_980));
        assert_eq!(play(&mut clock, &mut audio, Kind::Audio, 8_500, 10_980), (-500, 1_960));
        // A discontinuity, to which audio comes first; video ends a little later than audio, and begins later.
        audio.begin(1);
        assert_eq!(clock.map(&mut audio, at(Kind::Audio, 1_400), false), None);
        video.begin(1);
        assert_eq!(play(&mut clock, &mut video, Kind::Video, 1_410, 3_010), (2_000, 3_580));
        assert_eq!(play(&mut clock, &mut audio, Kind::Audio, 1_400, 3_000), (1_990, 3_570));
        // The next begins with the same timestamps and is another run all the same. This time video would have to go back.
        audio.begin(2);
        assert_eq!(clock.map(&mut audio, at(Kind::Audio, 1_900), false), None);
        video.begin(2);
        assert_eq!(play(&mut clock, &mut video, Kind::Video, 1_400, 3_000).0, 3_600);
        assert_eq!(play(&mut clock, &mut audio, Kind::Audio, 1_900, 3_000).0, 4_100);
    }

    #[test]
    fn waiting_is_bounded_and_ends_when_others_leave() {
        let (mut clock, mut video, mut audio) = two();
        play(&mut clock, &mut video, Kind::Video, 0, 2_000);
        play(&mut clock, &mut audio, Kind::Audio, 0, 3_000);
        video.begin(1);
        assert_eq!(clock.map(&mut video, at(Kind::Video, 0), false), None);
        assert_eq!(clock.map(&mut video, at(Kind::Video, 0), true), Some(2_000 * MS));
        video.begin(2);
        assert_eq!(clock.map(&mut video, at(Kind::Video, 0), false), None);
        clock.leave();
        assert_eq!(clock.map(&mut video, at(Kind::Video, 0), false), Some(2_020 * MS));
    }

    #[test]
    fn tracks_of_one_rendition_continue_together() {
        let mut clock = HlsClock::default();
        let mut both = clock.join();
        play(&mut clock, &mut both, Kind::Video, 0, 2_000);
        play(&mut clock, &mut both, Kind::Audio, 0, 1_900);
        both.begin(1);
        assert_eq!(play(&mut clock, &mut both, Kind::Audio, 50_000, 50_100).0, 2_000);
        assert_eq!(play(&mut clock, &mut both, Kind::Video, 50_040, 50_100).0, 2_040);
        // Without a discontinuity, and not at the same time.
        assert_eq!(play(&mut clock, &mut both, Kind::Video, 0, 100).0, 2_100);
        assert_eq!(play(&mut clock, &mut both, Kind::Audio, 50_100, 50_200), (2_100, 2_180));
        assert_eq!(play(&mut clock, &mut both, Kind::Audio, 40, 100).0, 2_140);
    }

    #[test]
    fn renditions_stay_aligned_after_an_outage() {
        for (from, of_audio) in [(40_000, 38_000), (40_000, 44_000), (69_900, 70_100), (500_000, 499_000)] {
            for audio_first in [false, true] {
                let (mut clock, mut video, mut audio) = two();
                play(&mut clock, &mut video, Kind::Video, 0, 10_000);
                play(&mut clock, &mut audio, Kind::Audio, 0, 10_000);
                video.begin(0);
                audio.begin(0);
                let mut again = |audios: bool| {
                    if audios {
                        of_audio - play(&mut clock, &mut audio, Kind::Audio, of_audio, of_audio + 6_000).0
                    } else {
                        from - play(&mut clock, &mut video, Kind::Video, from, from + 6_000).0
                    }
                };
                assert_eq!(again(audio_first), again(!audio_first), "{from} {of_audio} {audio_first}");
            }
        }
    }

    #[test]
    fn a_restarted_server_continues_the_timeline() {
        let (mut clock, mut video, mut audio) = two();
        play(&mut clock, &mut video, Kind::Video, 0, 30_000);
        play(&mut clock, &mut audio, Kind::Audio, 0, 29_000);
        // One rendition sees a fresh start, the other only its timestamps; audio from before still comes then.
        video.begin(0);
        assert_eq!(play(&mut clock, &mut video, Kind::Video, 1_400, 3_400).0, 30_000);
        assert_eq!(play(&mut clock, &mut audio, Kind::Audio, 29_000, 30_000), (29_000, 29_980));
        assert_eq!(play(&mut clock, &mut audio, Kind::Audio, 1_400, 3_400).0, 30_000);
    }

    #[test]
    fn a_33_bit_wrap_is_the_same_clock() {
        let (mut clock, mut video, mut audio) = two();
        let mut map = |rendition: &mut Rendition, kind, at| {
            clock.map(rendition, FrameTime { kind, at, duration: 0, wraps: true }, false).map(|t| t / MS)
        };
        assert_eq!(map(&mut video, Kind::Video, WRAP - 500 * MS), Some(0));
        assert_eq!(map(&mut audio, Kind::Audio, 200 * MS), Some(700));
        // One demultiplexer unwraps, the next begins again.
        assert_eq!(map(&mut video, Kind::Video, WRAP + 100 * MS), Some(600));
        video.begin(0);
        assert_eq!(map(&mut video, Kind::Video, 300 * MS), Some(800));
    }

    proptest! {
        #[test]
        fn whatever_comes_is_mapped(seen in proptest::collection::vec((any::<i64>(), any::<bool>(), any::<bool>(), 0u64..3, any::<bool>()), 0..200)) {
            let (mut clock, a, b) = two();
            let mut both = [a, b];
            for (at, wraps, first, number, begins) in seen {
                let rendition = &mut both[usize::from(first)];
                if begins {
                    rendition.begin(number);
                }
                let at = FrameTime { kind: Kind::Audio, at: at / 4, duration: 0, wraps };
                prop_assert!(clock.map(rendition, at, false).or_else(|| clock.map(rendition, at, true)).is_some());
                prop_assert!(clock.runs.len() <= MAX_RUNS && clock.offers.len() <= 2);
            }
        }
    }
}
