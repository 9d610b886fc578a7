//! Judges by the decoder's complaints whether much of a track comes out damaged. Pure: `now` goes in.

use ipc::transcode::Event;
use model::Kind;
use std::time::{Duration, Instant};

/// One step of the window.
const STEP: Duration = Duration::from_secs(1);
/// Steps of the window: as long as the session's patience with a track of which nothing comes.
const STEPS: usize = 5;
/// A window with this share of damaged access units, in percent, is worth a word: one that a viewer can't miss. A burst of loss that
/// the next key frame mends after a second stays below it.
const MUCH: u32 = 25;
/// Below this share, in percent, it is fine again.
const LITTLE: u32 = 10;

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    units: u32,
    damaged: u32,
}

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct DamageMeter {
    /// Whether an access unit builds on those before it, up to a key frame.
    inherits: bool,
    /// The last one that did not inherit was damaged, or one after it.
    tainted: bool,
    /// The newest last.
    steps: [Counts; STEPS],
    full: usize,
    step_ends: Option<Instant>,
    /// The first complaint of the window's newest damage.
    why: String,
    damaged: bool,
}

/// What is to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Much is damaged. What the decoder says.
    Damaged(String),
    /// It is fine again.
    Fine,
}

impl Verdict {
    /// As the parent is told it.
    pub(crate) fn event(self, kind: Kind) -> Event {
        let why = match self {
            Self::Damaged(why) => Some(why),
            Self::Fine => None,
        };
        Event::Damaged { kind, why }
    }
}

impl DamageMeter {
    /// Of video: what builds on a damaged picture is damaged.
    pub(crate) fn of_video() -> Self {
        Self::new(true)
    }

    /// Of audio: each packet counts for itself.
    pub(crate) fn of_audio() -> Self {
        Self::new(false)
    }

    fn new(inherits: bool) -> Self {
        let steps = [Counts::default(); STEPS];
        Self { inherits, tainted: false, steps, full: 0, step_ends: None, why: String::new(), damaged: false }
    }

    /// An access unit was decoded, with this complaint. Gives the verdict once a second while much is damaged, and once after that.
    pub(crate) fn unit(&mut self, key: bool, complaint: Option<String>, now: Instant) -> Option<Verdict> {
        let ends = *self.step_ends.get_or_insert(now + STEP);
        let verdict = (now >= ends).then(|| self.next_step(now)).flatten();
        let broken = complaint.is_some();
        self.tainted = broken || (self.inherits && self.tainted && !key);
        if let Some(complaint) = complaint
            && self.steps.iter().all(|step| step.damaged == 0)
        {
            self.why = complaint;
        }
        let newest = &mut self.steps[STEPS - 1];
        newest.units += 1;
        newest.damaged += u32::from(self.tainted);
        verdict
    }

    /// Another decoder goes on; what it does not complain of is whole.
    pub(crate) fn restart(&mut self) {
        self.tainted = false;
    }

    fn next_step(&mut self, now: Instant) -> Option<Verdict> {
        self.full = (self.full + 1).min(STEPS);
        let units: u32 = self.steps.iter().map(|step| step.units).sum();
        let damaged: u32 = self.steps.iter().map(|step| step.damaged).sum();
        let before = self.damaged;
        if self.full == STEPS && damaged * 100 >= units * MUCH {
            self.damaged = true;
        } else if damaged * 100 < units * LITTLE {
            self.damaged = false;
        }
        self.steps.rotate_left(1);
        self.steps[STEPS - 1] = Counts::default();
        self.step_ends = Some(now + STEP);
        match (before, self.damaged) {
            (_, true) => Some(Verdict::Damaged(self.why.clone())),
            (true, false) => Some(Verdict::Fine),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The seconds in which something is told; feeds 30 units a second, a key frame every 30, `broken` says which complain; gives the verdicts with their second.
    fn run(meter: &mut DamageMeter, seconds: u64, broken: impl Fn(u64) -> bool) -> Vec<(u64, Verdict)> {
        let t0 = Instant::now();
        (0..seconds * 30)
            .filter_map(|n| {
                let complaint = broken(n).then(|| format!("broken at {n}"));
                meter.unit(n % 30 == 0, complaint, t0 + Duration::from_millis(n * 1000 / 30)).map(|v| (n / 30, v))
            })
            .collect()
    }

    #[test]
    fn what_is_whole_and_a_single_loss_are_not_told() {
        assert_eq!(run(&mut DamageMeter::of_video(), 20, |_| false), []);
        // A second without a key frame after one lost picture, every ten seconds.
        assert_eq!(run(&mut DamageMeter::of_video(), 30, |n| n % 300 == 1), []);
        assert_eq!(run(&mut DamageMeter::of_audio(), 30, |n| n % 10 == 0), []);
    }

    #[test]
    fn lasting_damage_is_told_after_five_seconds_and_taken_back() {
        let told = run(&mut DamageMeter::of_video(), 30, |n| n < 300);
        let [(5, Verdict::Damaged(why)), .., (14, Verdict::Damaged(_)), (15, Verdict::Fine)] = &told[..] else {
            panic!("{told:?}")
        };
        assert_eq!(why, "broken at 0");
    }

    #[test]
    fn pictures_inherit_damage_and_packets_do_not() {
        // One picture in 30 is broken, right behind the key frame.
        let told = run(&mut DamageMeter::of_video(), 10, |n| n % 30 == 2);
        assert!(matches!(told[..], [(5, Verdict::Damaged(_)), ..]), "{told:?}");
        assert_eq!(run(&mut DamageMeter::of_audio(), 10, |n| n % 30 == 2), []);
    }

    #[test]
    fn another_decoder_begins_whole() {
        let (mut meter, t0) = (DamageMeter::of_video(), Instant::now());
        meter.unit(true, Some("broken".into()), t0);
        assert!(meter.tainted);
        meter.restart();
        meter.unit(false, None, t0);
        assert!(!meter.tainted);
    }
}
