//! How much a sender may send that knows no transport-wide feedback, but obeys a receiver's estimate (goog-remb,
//! draft-alvestrand-rmcat-remb): aiortc, older webrtcbin. Without one it stays at the rate it starts with, or floods a narrow line.
//! Pure.
//!
//! By losses as in draft-ietf-rmcat-gcc §6, and by how late everything comes: a router that queues loses nothing for long.

use std::time::{Duration, Instant};

/// Bits a second before anything is known: pictures of 720p are worth looking at, and most lines carry it.
const START: f64 = 2_500_000.0;
/// Nobody is told less (a picture is no picture then), nor more (no picture needs it).
const LEAST: f64 = 150_000.0;
const MOST: f64 = 20_000_000.0;
/// Losses up to which there is more to be had, and from which there is too much (draft-ietf-rmcat-gcc §6).
const FEW: f32 = 0.02;
const MANY: f32 = 0.1;
/// By so much a second the estimate goes up, and by so much of what comes it stays above that at the most: what a sender does not
/// use was not tried.
const UP: f64 = 1.08;
const HEADROOM: f64 = 1.5;
/// When nothing of a second comes sooner than this over the fastest, a queue stands in the way; it drains below what comes.
const QUEUE: Duration = Duration::from_millis(150);
const DRAIN: f64 = 0.85;
/// By so much a second the fastest is forgotten: clocks differ by 100 ppm, ways by more.
const FORGET: Duration = Duration::from_millis(1);

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Budget {
    estimate: f64,
    bytes: u64,
    /// Packets that came, or were left out before those that came, since the last report.
    packets: u64,
    missed: u64,
    at: Option<Instant>,
    /// The least delay of this second, and of all, against the clock of [`crate::clock`].
    least: Option<Duration>,
    fastest: Option<Duration>,
}

impl Budget {
    pub(super) fn new() -> Self {
        Self { estimate: START, bytes: 0, packets: 0, missed: 0, at: None, least: None, fastest: None }
    }

    /// Something came so late.
    pub(super) fn came(&mut self, late: Duration) {
        self.least = Some(self.least.map_or(late, |l| l.min(late)));
    }

    /// A packet came after so many that did not, as far as they had not come when it did: what is sent again is lost all the same.
    pub(super) fn packet(&mut self, missed: u64) {
        self.packets += 1;
        self.missed += missed;
    }

    /// What to tell the sender (bits a second), at each report of the engine's: so many bytes came since the start, of the last
    /// packets so much was lost for good (0 to 1).
    pub(super) fn report(&mut self, bytes: u64, loss: f32, now: Instant) -> f64 {
        let since = self.at.replace(now).map(|at| now.saturating_duration_since(at).as_secs_f64());
        let came = bytes.saturating_sub(std::mem::replace(&mut self.bytes, bytes));
        let Some(since) = since.filter(|s| *s > 0.0) else { return self.estimate };
        let (packets, missed) = (std::mem::take(&mut self.packets), std::mem::take(&mut self.missed));
        let gaps = missed as f32 / (packets + missed).max(1) as f32;
        let loss = loss.max(gaps);
        // The cast holds: far below 2^53.
        let rate = came as f64 * 8.0 / since;
        if self.queued() {
            self.estimate = self.estimate.min(rate * DRAIN);
        } else if loss > MANY {
            self.estimate *= 1.0 - 0.5 * f64::from(loss);
        } else if loss < FEW {
            let most = (rate * HEADROOM).max(self.estimate);
            self.estimate = (self.estimate * UP.powf(since)).min(most);
        }
        self.estimate = self.estimate.clamp(LEAST, MOST);
        self.estimate
    }

    /// Whether a queue stands in the way; begins the next second.
    fn queued(&mut self) -> bool {
        let Some(least) = self.least.take() else { return false };
        let fastest = self.fastest.map_or(least, |f| least.min(f + FORGET));
        self.fastest = Some(fastest);
        least > fastest + QUEUE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What a line of `width` bits a second, whose router queues up to `queue`, makes of an obedient sender in so many seconds.
    fn obeyed(width: f64, queue: Duration, random_loss: f32, seconds: u32) -> (Vec<f64>, Duration) {
        let (mut budget, t0) = (Budget::new(), Instant::now());
        let (mut rate, mut bytes, mut waiting) = (START, 0.0, 0.0f64);
        let mut rates = Vec::new();
        for second in 0..=seconds {
            // What comes first in this second waits for what was there before, what comes last for all.
            budget.came(Duration::from_millis(20) + Duration::from_secs_f64(waiting / width));
            let offered: f64 = rate + waiting;
            let through = offered.min(width);
            let room = width * queue.as_secs_f64();
            let lost = (offered - through - room).max(0.0);
            waiting = (offered - through - lost).max(0.0);
            bytes += through / 8.0;
            budget.came(Duration::from_millis(20) + Duration::from_secs_f64(waiting / width));
            let loss = (lost / rate) as f32 + random_loss;
            rate = budget.report(bytes as u64, loss, t0 + Duration::from_secs(u64::from(second)));
            rates.push(rate);
        }
        (rates, Duration::from_secs_f64(waiting / width))
    }

    #[test]
    fn a_wide_line_is_used() {
        let (rates, _) = obeyed(50e6, Duration::ZERO, 0.0, 40);
        assert!(*rates.last().unwrap() > 15e6, "{rates:?}");
    }

    #[test]
    fn a_narrow_line_is_not_flooded() {
        for queue in [Duration::ZERO, Duration::from_millis(100), Duration::from_secs(2)] {
            let (rates, waiting) = obeyed(1e6, queue, 0.0, 60);
            let late = &rates[30..];
            assert!(late.iter().all(|r| (0.3e6..1.6e6).contains(r)), "{queue:?}: {late:?}");
            assert!(waiting <= Duration::from_millis(600), "{queue:?}: {waiting:?}");
        }
    }

    #[test]
    fn losses_that_no_queue_makes_are_borne() {
        let (rates, _) = obeyed(50e6, Duration::ZERO, 0.05, 20);
        assert!(rates.iter().all(|r| *r == START), "{rates:?}");
    }

    #[test]
    fn what_is_sent_again_counts_as_lost() {
        let (mut budget, t0) = (Budget::new(), Instant::now());
        let told = (0..10u64).map(|s| {
            (0..80).for_each(|n| budget.packet(u64::from(n % 4 == 0)));
            budget.report(s * 300_000, 0.0, t0 + Duration::from_secs(s))
        });
        assert!(told.last().unwrap() < START / 2.0);
    }

    #[test]
    fn what_a_sender_does_not_use_is_not_promised() {
        let (mut budget, t0) = (Budget::new(), Instant::now());
        let told = (0..60u64).map(|s| budget.report(s * 100_000, 0.0, t0 + Duration::from_secs(s))).last();
        assert_eq!(told, Some(START), "0.8 Mbit/s came");
    }

    proptest! {
        #[test]
        fn it_stays_within_bounds(steps in proptest::collection::vec((any::<u32>(), 0f32..1.0, 0u64..5000, 0u64..3000), 1..100)) {
            let (mut budget, mut now, mut bytes) = (Budget::new(), Instant::now(), 0u64);
            for (more, loss, pause, late) in steps {
                now += Duration::from_millis(pause);
                bytes += u64::from(more);
                budget.came(Duration::from_millis(late));
                let told = budget.report(bytes, loss, now);
                prop_assert!((LEAST..=MOST).contains(&told));
            }
        }
    }
}
