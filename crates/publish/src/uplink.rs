//! A way to the SFU that carries less than the layers are together: which of them go out. Pure: what the other side reports of
//! losses and the time go in, decisions come out.
//!
//! A queue somewhere on the way is full then, and drops packets of all layers, and of sound: the highest layer is most of what comes,
//! and is hardly mended, and others and sound are broken for seconds (see [`SWAMPED`]). Without the highest layer the others and the
//! sound arrive whole. What counts is what is lost *after* repair: on a way that merely loses some, losses are mended and nearly
//! nothing is left of them, and there would be nothing gained by sending less; where repair itself finds no room, much is left.
//!
//! Nothing of this estimates delays: a machine that is busy is read as a narrow way by those who do.

use std::time::{Duration, Instant};

/// So much lost after repair, in thousandths, means that there is no room. One packet in ten lost at random leaves less than 20.
const NO_ROOM: u32 = 80;
/// A layer of which less is sent, in kbit/s, is not what fills a way, and a packet or two of it are much of what it loses.
const THIN: u32 = 100;
/// So much at the most may be lost for a layer to come back.
const ROOM: u32 = 20;
/// How long it must be so: two reports of the SFU in a row, which come once a second.
const FOR: Duration = Duration::from_millis(900);
/// After a decision: what is reported is of the time before it, queues on the way have to empty, and what was lost of the layers that
/// stay is repaired for a while yet (2.5 s were too short where one had been tried, measured).
const SETTLE: Duration = Duration::from_secs(4);
/// How long a layer is out at the first; twice as long each time that it proves too much.
const OUT: Duration = Duration::from_secs(10);
const OUT_DOUBLINGS: u32 = 5;
/// A layer that is back has proved that there is room once it was out there for so long without harm.
const PROVEN: Duration = Duration::from_secs(10);
/// A layer that loses so much after repair, while the lowest is mended, is beyond it: one report suffices. Of an interruption of
/// the way all layers suffer alike (measured on a way with half the room: 886 of the highest, 94 and 62 of the others).
const SWAMPED: u32 = 500;
/// The reports of one second: those of all layers come together.
const ROUND: Duration = Duration::from_millis(700);
/// A report that is older says nothing.
const STALE: Duration = Duration::from_secs(3);

/// What was reported of one layer.
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
    /// Layers below this index go out.
    open: usize,
    bad_since: Option<Instant>,
    good_since: Option<Instant>,
    decided: Option<Instant>,
    /// How often in a row a layer proved too much.
    failures: u32,
    /// The last decision was to let one out.
    trying: bool,
}

impl Uplink {
    /// All layers go out.
    pub(crate) fn new(layers: usize) -> Self {
        Self {
            reports: vec![None; layers],
            open: layers,
            bad_since: None,
            good_since: None,
            decided: None,
            failures: 0,
            trying: false,
        }
    }

    /// Which layers may go out.
    pub(crate) fn allows(&self, layer: usize) -> bool {
        layer < self.open
    }

    /// The other side reports on a layer: so many kbit/s were sent, and so many thousandths of them were lost.
    pub(crate) fn report(&mut self, layer: usize, kbits: u32, lost: u32, now: Instant) -> Option<Decision> {
        if !self.allows(layer) {
            // Of what was sent before it was paused.
            return None;
        }
        *self.reports.get_mut(layer)? = Some(Report { at: now, kbits, lost });
        let top = self.top(now)?;
        let swamped = self.swamped(top, now);
        if layer == top {
            self.bad_since = (lost >= NO_ROOM && kbits >= THIN).then(|| self.bad_since.unwrap_or(now));
            self.good_since = (lost <= ROOM).then(|| self.good_since.unwrap_or(now));
        } else if !swamped {
            return None;
        }
        let since = |then: Option<Instant>| then.map_or(Duration::ZERO, |then| now.saturating_duration_since(then));
        let settled = self.decided.is_none_or(|at| now >= at + SETTLE);
        // A layer that is being tried goes at the first sign.
        let hopeless = swamped || self.bad_since.is_some() && (since(self.bad_since) >= FOR || self.trying);
        if hopeless && (self.trying || settled && top > 0) {
            let layer = if self.trying { self.open - 1 } else { top };
            return Some(self.pause(layer, now));
        }
        if self.trying && since(self.decided) >= PROVEN {
            (self.trying, self.failures) = (false, 0);
        }
        let out = OUT * (1 << self.failures.min(OUT_DOUBLINGS));
        let rested = since(self.decided) >= out && since(self.good_since) >= OUT / 2;
        if self.open < self.reports.len() && rested {
            self.open += 1;
            (self.trying, self.decided) = (true, Some(now));
            return Some(Decision::Resume { layer: self.open - 1 });
        }
        None
    }

    /// The highest layer that is sent. It is most of what is sent, and the first to lose.
    fn top(&self, now: Instant) -> Option<usize> {
        let sent =
            |l: &usize| self.reports[*l].is_some_and(|r| r.kbits > 0 && now.saturating_duration_since(r.at) < STALE);
        (0..self.open).rev().find(sent)
    }

    /// Whether this layer, and not the lowest one as well, is beyond repair in the same second.
    fn swamped(&self, top: usize, now: Instant) -> bool {
        let fresh = |layer: usize| self.reports[layer].filter(|r| now.saturating_duration_since(r.at) < ROUND);
        let beyond =
            |top: Report, lowest: Report| top.lost >= SWAMPED && lowest.lost < top.lost / 2 && top.kbits >= THIN;
        fresh(top).zip(fresh(0)).is_some_and(|(top, lowest)| beyond(top, lowest))
    }

    fn pause(&mut self, layer: usize, now: Instant) -> Decision {
        let (sent, carried) = self.sums(now);
        if std::mem::take(&mut self.trying) {
            self.failures += 1;
        }
        self.open = layer;
        self.reports[layer..].fill(None);
        (self.decided, self.bad_since) = (Some(now), None);
        Decision::Pause { layer, carried, sent }
    }

    /// Kilobits a second that are sent and that arrive, of all layers.
    fn sums(&self, now: Instant) -> (u32, u32) {
        let fresh = self.reports.iter().flatten().filter(|r| now.saturating_duration_since(r.at) < STALE);
        fresh.fold((0, 0), |(sent, carried), r| (sent + r.kbits, carried + r.kbits * (1000 - r.lost.min(1000)) / 1000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYERS: [u32; 3] = [250, 600, 1_900];

    /// Runs for so many seconds on a way that carries `room` kbit/s and loses `random` thousandths after repair; what was
    /// decided, with the second.
    fn run(
        uplink: &mut Uplink,
        start: Instant,
        seconds: std::ops::Range<u64>,
        room: u32,
        random: u32,
    ) -> Vec<(u64, Decision)> {
        let mut decisions = Vec::new();
        for second in seconds {
            let open = (0..3).filter(|l| uplink.allows(*l)).collect::<Vec<_>>();
            let sent: u32 = open.iter().map(|l| LAYERS[*l]).sum();
            let lost = random + sent.saturating_sub(room) * 1000 / sent;
            for layer in open {
                let decision = uplink.report(layer, LAYERS[layer], lost, start + Duration::from_secs(second));
                decisions.extend(decision.map(|d| (second, d)));
            }
        }
        decisions
    }

    #[test]
    fn layers_go_from_the_top_until_the_rest_arrives() {
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
    fn what_is_too_much_again_is_tried_more_and_more_rarely_and_what_is_not_stays() {
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
    fn a_way_that_merely_loses_some_carries_all() {
        let (start, mut uplink) = (Instant::now(), Uplink::new(3));
        assert_eq!(run(&mut uplink, start, 0..100, 10_000, 30), []);
    }

    #[test]
    fn a_layer_that_is_swamped_goes_at_once_and_an_interruption_is_none() {
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
    fn reports_of_a_layer_that_was_paused_say_nothing_of_the_others() {
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
    fn a_layer_of_a_few_packets_is_never_what_fills_a_way() {
        let (start, mut uplink) = (Instant::now(), Uplink::new(3));
        for second in 0..20 {
            for layer in 0..3 {
                let at = start + Duration::from_secs(second);
                let lost = [10, 100, 600][layer];
                assert_eq!(uplink.report(layer, THIN - 1, lost, at), None, "{second}");
            }
        }
    }

    #[test]
    fn a_layer_on_trial_goes_although_nothing_of_it_arrives_that_could_be_reported() {
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
    fn one_bad_second_is_none() {
        let (start, mut uplink) = (Instant::now(), Uplink::new(3));
        assert_eq!(run(&mut uplink, start, 0..5, 10_000, 0), []);
        assert_eq!(run(&mut uplink, start, 5..6, 10_000, 900), []);
        assert_eq!(run(&mut uplink, start, 6..20, 10_000, 0), []);
    }
}
