//! The uplink to the SFU, where it carries less than all layers together: which of them go out. Pure: what the SFU reports of losses,
//! and the time, go in; decisions come out.
//!
//! A queue somewhere on the uplink is full then, and drops packets of all layers, and of audio: the highest layer is most of what comes
//! and is hardly repaired, and others and audio are broken for seconds (see [`BEYOND_REPAIR`]). Without the highest layer the others
//! and the audio arrive whole. What counts is what is lost *after* repair: on an uplink that merely loses some packets, losses are
//! repaired and nearly nothing is left of them, and there would be nothing gained by sending less; where repair itself finds no
//! capacity, much is left.
//!
//! Nothing of this estimates delays: those who do take a busy machine for a narrow uplink.

use std::time::{Duration, Instant};

/// Loss after repair, in thousandths, from which the uplink counts as full. One packet in ten lost at random leaves less than 20.
const CONGESTED_LOSS: u32 = 80;
/// A layer of which less is sent, in kbit/s, is not what fills an uplink, and a packet or two of it are much of what it loses.
const MIN_JUDGED_KBITS: u32 = 100;
/// The highest loss after repair, in thousandths, at which a layer may come back.
const HEALTHY_LOSS: u32 = 20;
/// How long an uplink must be congested: two reports of the SFU in a row, which come once a second.
const CONGESTED_FOR: Duration = Duration::from_millis(900);
/// Reports this long after a decision do not judge it: they are about the time before, queues on the uplink have to empty, and what
/// was lost of the layers that stay is still being repaired (2.5 s were too short where one had been tried, measured).
const DECISION_TAKES_EFFECT: Duration = Duration::from_secs(4);
/// How long a layer is paused at first; twice as long each time that it proves too much.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
const MAX_PAUSE_DOUBLINGS: u32 = 5;
/// How long a layer that was resumed has to go out without harm before the uplink counts as carrying it.
const TRIAL: Duration = Duration::from_secs(10);
/// Loss after repair, in thousandths, at which one report suffices to pause a layer, while the lowest is repaired. In an
/// interruption of the uplink all layers suffer alike (measured on an uplink with half the capacity: 886 of the highest, 94 and 62 of
/// the others).
const BEYOND_REPAIR: u32 = 500;
/// The reports of one second: those of all layers come together.
const SAME_ROUND: Duration = Duration::from_millis(700);
/// A report that is older says nothing.
const REPORT_LIFETIME: Duration = Duration::from_secs(3);

/// What the SFU reported of one layer.
#[derive(Clone, Copy, Debug)]
struct Report {
    at: Instant,
    kbits: u32,
    lost: u32,
}

/// What has been decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// This layer is not to go out: of `sent` kbit/s `carried` arrive.
    Pause { layer: usize, carried: u32, sent: u32 },
    /// This layer may go out again.
    Resume { layer: usize },
}

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Uplink {
    reports: Vec<Option<Report>>,
    /// Layers below this index may go out.
    allowed: usize,
    congested_since: Option<Instant>,
    healthy_since: Option<Instant>,
    decided_at: Option<Instant>,
    /// How often in a row a layer proved too much.
    failures: u32,
    /// The last decision was to resume a layer, which has yet to prove that the uplink carries it.
    on_trial: bool,
}

impl Uplink {
    /// All layers go out.
    pub(crate) fn new(layers: usize) -> Self {
        Self {
            reports: vec![None; layers],
            allowed: layers,
            congested_since: None,
            healthy_since: None,
            decided_at: None,
            failures: 0,
            on_trial: false,
        }
    }

    /// Which layers may go out.
    pub(crate) fn allows(&self, layer: usize) -> bool {
        layer < self.allowed
    }

    /// The SFU reports on a layer: so many kbit/s were sent, and so many thousandths of them were lost after repair.
    pub(crate) fn report(&mut self, layer: usize, kbits: u32, lost: u32, now: Instant) -> Option<Decision> {
        if !self.allows(layer) {
            // Of what was sent before it was paused.
            return None;
        }
        *self.reports.get_mut(layer)? = Some(Report { at: now, kbits, lost });
        let top = self.top(now)?;
        let beyond_repair = self.beyond_repair(top, now);
        if layer == top {
            self.congested_since =
                (lost >= CONGESTED_LOSS && kbits >= MIN_JUDGED_KBITS).then(|| self.congested_since.unwrap_or(now));
            self.healthy_since = (lost <= HEALTHY_LOSS).then(|| self.healthy_since.unwrap_or(now));
        } else if !beyond_repair {
            return None;
        }
        let since = |then: Option<Instant>| then.map_or(Duration::ZERO, |then| now.saturating_duration_since(then));
        let settled = self.decided_at.is_none_or(|at| now >= at + DECISION_TAKES_EFFECT);
        // A layer that is being tried goes at the first sign.
        let hopeless = beyond_repair
            || self.congested_since.is_some() && (since(self.congested_since) >= CONGESTED_FOR || self.on_trial);
        if hopeless && (self.on_trial || settled && top > 0) {
            let layer = if self.on_trial { self.allowed - 1 } else { top };
            return Some(self.pause(layer, now));
        }
        if self.on_trial && since(self.decided_at) >= TRIAL {
            (self.on_trial, self.failures) = (false, 0);
        }
        let pause = FIRST_PAUSE * (1 << self.failures.min(MAX_PAUSE_DOUBLINGS));
        let rested = since(self.decided_at) >= pause && since(self.healthy_since) >= FIRST_PAUSE / 2;
        if self.allowed < self.reports.len() && rested {
            self.allowed += 1;
            (self.on_trial, self.decided_at) = (true, Some(now));
            return Some(Decision::Resume { layer: self.allowed - 1 });
        }
        None
    }

    /// The highest layer that is sent. It is most of what is sent, and the first to lose.
    fn top(&self, now: Instant) -> Option<usize> {
        let sent = |l: &usize| {
            self.reports[*l].is_some_and(|r| r.kbits > 0 && now.saturating_duration_since(r.at) < REPORT_LIFETIME)
        };
        (0..self.allowed).rev().find(sent)
    }

    /// Whether this layer, and not the lowest one as well, is beyond repair in the same second.
    fn beyond_repair(&self, top: usize, now: Instant) -> bool {
        let fresh = |layer: usize| self.reports[layer].filter(|r| now.saturating_duration_since(r.at) < SAME_ROUND);
        let beyond = |top: Report, lowest: Report| {
            top.lost >= BEYOND_REPAIR && lowest.lost < top.lost / 2 && top.kbits >= MIN_JUDGED_KBITS
        };
        fresh(top).zip(fresh(0)).is_some_and(|(top, lowest)| beyond(top, lowest))
    }

    fn pause(&mut self, layer: usize, now: Instant) -> Decision {
        let (sent, carried) = self.sums(now);
        if std::mem::take(&mut self.on_trial) {
            self.failures += 1;
        }
        self.allowed = layer;
        self.reports[layer..].fill(None);
        (self.decided_at, self.congested_since) = (Some(now), None);
        Decision::Pause { layer, carried, sent }
    }

    /// Kilobits a second that are sent and that arrive, of all layers.
    fn sums(&self, now: Instant) -> (u32, u32) {
        let fresh = self.reports.iter().flatten().filter(|r| now.saturating_duration_since(r.at) < REPORT_LIFETIME);
        fresh.fold((0, 0), |(sent, carried), r| (sent + r.kbits, carried + r.kbits * (1000 - r.lost.min(1000)) / 1000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYERS: [u32; 3] = [250, 600, 1_900];

    /// Runs for so many seconds on an uplink that carries `capacity` kbit/s and loses `random` thousandths after repair. Gives the
    /// decisions, each with its second.
    fn run(
        uplink: &mut Uplink,
        start: Instant,
        seconds: std::ops::Range<u64>,
        capacity: u32,
        random: u32,
    ) -> Vec<(u64, Decision)> {
        let mut decisions = Vec::new();
        for second in seconds {
            let open = (0..3).filter(|l| uplink.allows(*l)).collect::<Vec<_>>();
            let sent: u32 = open.iter().map(|l| LAYERS[*l]).sum();
            let lost = random + sent.saturating_sub(capacity) * 1000 / sent;
            for layer in open {
                let decision = uplink.report(layer, LAYERS[layer], lost, start + Duration::from_secs(second));
                decisions.extend(decision.map(|d| (second, d)));
            }
        }
        decisions
    }

    #[test]
    fn layers_pause_from_the_top_until_the_rest_arrives() {
        let (start, mut uplink) = (Instant::now(), Uplink::new(3));
        let decided = run(&mut uplink, start, 0..9, 700, 0);
        assert_eq!(decided.iter().map(|(s, _)| *s).collect::<Vec<_>>(), [1, 5]);
        assert!(matches!(decided[0].1, Decision::Pause { layer: 2, sent: 2_750, carried: 690..=710 }), "{decided:?}");
        assert!(matches!(decided[1].1, Decision::Pause { layer: 1, .. }));
        assert!(uplink.allows(0), "the lowest stays whatever comes");
        assert_eq!(run(&mut uplink, start, 9..14, 100, 0), []);
        assert!(uplink.allows(0));
    }

    #[test]
    fn retries_back_off_and_a_wide_uplink_keeps_all() {
        let (start, mut uplink) = (Instant::now(), Uplink::new(3));
        let narrow = run(&mut uplink, start, 0..200, 1_000, 0);
        let tries: Vec<u64> =
            narrow.iter().filter(|(_, d)| matches!(d, Decision::Resume { .. })).map(|(s, _)| *s).collect();
        assert!(tries.windows(3).all(|t| t[2] - t[1] > (t[1] - t[0]) * 3 / 2), "{tries:?}");
        let overload: u64 = tries.iter().map(|t| narrow.iter().find(|(s, _)| s > t).unwrap().0 - t).sum();
        assert!(overload <= tries.len() as u64, "a second each: {narrow:?}");
        let wide = run(&mut uplink, start, 200..600, 10_000, 0);
        assert_eq!(wide.len(), 1, "{wide:?}");
        assert!(uplink.allows(2));
        assert_eq!(uplink.failures, 0);
    }

    #[test]
    fn random_loss_pauses_nothing() {
        let (start, mut uplink) = (Instant::now(), Uplink::new(3));
        assert_eq!(run(&mut uplink, start, 0..100, 10_000, 30), []);
    }

    #[test]
    fn layer_beyond_repair_pauses_at_once() {
        for order in [[0, 1, 2], [2, 1, 0]] {
            let (start, mut uplink) = (Instant::now(), Uplink::new(3));
            let mut round = |second, losses: [u32; 3]| -> Vec<Decision> {
                let at = start + Duration::from_secs(second);
                order.into_iter().filter_map(|l| uplink.report(l, LAYERS[l], losses[l], at)).collect()
            };
            assert_eq!(round(0, [0, 0, 0]), []);
            assert_eq!(round(1, [900, 900, 900]), []);
            assert_eq!(round(2, [10, 0, 0]), []);
            let decided = round(3, [62, 94, 886]);
            assert!(matches!(decided[..], [Decision::Pause { layer: 2, .. }]), "{decided:?}");
        }
    }

    #[test]
    fn reports_of_a_paused_layer_are_ignored() {
        let (start, mut uplink) = (Instant::now(), Uplink::new(3));
        assert_eq!(run(&mut uplink, start, 0..2, 1_000, 0).len(), 1);
        for second in 2..10 {
            let at = start + Duration::from_secs(second);
            for (layer, lost) in [(0, 0), (1, 0), (2, 600)] {
                assert_eq!(uplink.report(layer, LAYERS[layer], lost, at), None, "{second}");
            }
        }
    }

    #[test]
    fn thin_layer_is_never_paused() {
        let (start, mut uplink) = (Instant::now(), Uplink::new(3));
        for second in 0..20 {
            for layer in 0..3 {
                let at = start + Duration::from_secs(second);
                let lost = [10, 100, 600][layer];
                assert_eq!(uplink.report(layer, MIN_JUDGED_KBITS - 1, lost, at), None, "{second}");
            }
        }
    }

    #[test]
    fn layer_on_trial_pauses_without_reports_of_it() {
        let (start, mut uplink) = (Instant::now(), Uplink::new(2));
        let at = |second| start + Duration::from_secs(second);
        let both = |uplink: &mut Uplink, second, lost| {
            (0..2).filter_map(|layer| uplink.report(layer, LAYERS[layer], lost, at(second))).collect::<Vec<_>>()
        };
        let first = (0..9).find_map(|second| both(&mut uplink, second, 300).pop());
        assert!(matches!(first, Some(Decision::Pause { layer: 1, .. })), "{first:?}");
        let back = (9..60).find(|second| !both(&mut uplink, *second, 0).is_empty()).unwrap();
        let gone = uplink.report(0, LAYERS[0], 500, at(back + 4));
        assert!(matches!(gone, Some(Decision::Pause { layer: 1, .. })), "{gone:?}");
    }

    #[test]
    fn one_bad_second_pauses_nothing() {
        let (start, mut uplink) = (Instant::now(), Uplink::new(3));
        assert_eq!(run(&mut uplink, start, 0..5, 10_000, 0), []);
        assert_eq!(run(&mut uplink, start, 5..6, 10_000, 900), []);
        assert_eq!(run(&mut uplink, start, 6..20, 10_000, 0), []);
    }
}
