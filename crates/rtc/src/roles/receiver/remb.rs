//! The bandwidth estimate for clients without transport-wide feedback (TWCC) that adapt to the receiver's estimate (goog-remb,
//! draft-alvestrand-rmcat-remb): aiortc, older webrtcbin. Without one they stay at the rate they start with, or flood a narrow path.
//! Pure.
//!
//! By loss as in draft-ietf-rmcat-gcc §6, and by delay: a router that queues loses nothing for long.

use std::time::{Duration, Instant};

/// Bits a second before anything is known: 720p is worth looking at, and most paths carry it.
const INITIAL_RATE: f64 = 2_500_000.0;
/// Nobody is told less (video is of no use then), nor more (no video needs it).
const MIN_RATE: f64 = 150_000.0;
const MAX_RATE: f64 = 20_000_000.0;
/// Loss up to which the rate grows, and from which it shrinks (draft-ietf-rmcat-gcc §6).
const LOW_LOSS: f32 = 0.02;
const HIGH_LOSS: f32 = 0.1;
/// The growth of the estimate a second, and how far above the received rate it may be: what a client does not use was not
/// probed.
const GROWTH: f64 = 1.08;
const HEADROOM: f64 = 1.5;
/// A least delay of one second that is this much above the base delay means a queue. It drains below the received rate.
const QUEUE_DELAY: Duration = Duration::from_millis(150);
const DRAIN_SHARE: f64 = 0.85;
/// How much the base delay grows per second by itself: clocks differ by 100 ppm, paths change by more.
const BASE_DELAY_DRIFT: Duration = Duration::from_millis(1);

/// See the [module](self).
#[derive(Debug)]
pub(super) struct RateEstimate {
    estimate: f64,
    /// What the statistics said last, of each stream.
    streams: Vec<Statistics>,
    /// Bytes of all streams at the last update.
    bytes: u64,
    /// Packets that came, and gaps before them, since the last update.
    packets: u64,
    missed: u64,
    at: Option<Instant>,
    /// The least delay of this second, and of all, against the session's [`SenderClock`](timing::rtp_clock::SenderClock).
    delay: Option<Duration>,
    base_delay: Option<Duration>,
}

/// Statistics of one stream.
#[derive(Clone, Debug, Default)]
struct Statistics {
    /// Bytes since the start.
    bytes: u64,
    /// The share of the last packets that was lost for good (0 to 1).
    loss: f32,
}

impl RateEstimate {
    /// An estimate for `streams` streams that share the path.
    pub(super) fn new(streams: usize) -> Self {
        let streams = vec![Statistics::default(); streams];
        Self {
            estimate: INITIAL_RATE,
            streams,
            bytes: 0,
            packets: 0,
            missed: 0,
            at: None,
            delay: None,
            base_delay: None,
        }
    }

    /// Media came so long after its capture.
    pub(super) fn delayed(&mut self, by: Duration) {
        self.delay = Some(self.delay.map_or(by, |least| least.min(by)));
    }

    /// A packet came, with so many missing before it. Those count as lost even if they are retransmitted later.
    pub(super) fn packet(&mut self, missed: u64) {
        self.packets += 1;
        self.missed += missed;
    }

    /// Takes the statistics of the stream `index`: `bytes` since the start, and the share of the last packets that was lost for good.
    /// Gives what to tell the client (bits per second), once for each time `now`.
    ///
    /// Statistics of several streams come at the same time in any order, and without those to which nothing has come.
    pub(super) fn statistics(&mut self, index: usize, bytes: u64, loss: f32, now: Instant) -> Option<f64> {
        *self.streams.get_mut(index)? = Statistics { bytes, loss };
        if self.at == Some(now) {
            return None;
        }
        let bytes = self.streams.iter().map(|s| s.bytes).sum();
        let loss = self.streams.iter().map(|s| s.loss).fold(0.0, f32::max);
        Some(self.update(bytes, loss, now))
    }

    fn update(&mut self, bytes: u64, loss: f32, now: Instant) -> f64 {
        let since = self.at.replace(now).map(|at| now.saturating_duration_since(at).as_secs_f64());
        let came = bytes.saturating_sub(std::mem::replace(&mut self.bytes, bytes));
        let Some(since) = since.filter(|s| *s > 0.0) else { return self.estimate };
        let (packets, missed) = (std::mem::take(&mut self.packets), std::mem::take(&mut self.missed));
        let gaps = missed as f32 / (packets + missed).max(1) as f32;
        let loss = loss.max(gaps);
        // The cast holds: far below 2^53.
        let rate = came as f64 * 8.0 / since;
        if self.queued() {
            self.estimate = self.estimate.min(rate * DRAIN_SHARE);
        } else if loss > HIGH_LOSS {
            self.estimate *= 1.0 - 0.5 * f64::from(loss);
        } else if loss < LOW_LOSS {
            let max = (rate * HEADROOM).max(self.estimate);
            self.estimate = (self.estimate * GROWTH.powf(since)).min(max);
        }
        self.estimate = self.estimate.clamp(MIN_RATE, MAX_RATE);
        self.estimate
    }

    /// Whether a queue has built up; begins the next second.
    fn queued(&mut self) -> bool {
        let Some(delay) = self.delay.take() else { return false };
        let base = self.base_delay.map_or(delay, |base| delay.min(base + BASE_DELAY_DRIFT));
        self.base_delay = Some(base);
        delay > base + QUEUE_DELAY
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The rates of a client that follows the estimate over a path of `width` bits a second, whose router queues up to `queue`.
    fn simulate(width: f64, queue: Duration, random_loss: f32, seconds: u32) -> (Vec<f64>, Duration) {
        let (mut estimate, t0) = (RateEstimate::new(1), Instant::now());
        let (mut rate, mut bytes, mut waiting) = (INITIAL_RATE, 0.0, 0.0f64);
        let mut rates = Vec::new();
        for second in 0..=seconds {
            // What comes first in this second waits for what was there before, what comes last for all.
            estimate.delayed(Duration::from_millis(20) + Duration::from_secs_f64(waiting / width));
            let offered: f64 = rate + waiting;
            let through = offered.min(width);
            let capacity = width * queue.as_secs_f64();
            let lost = (offered - through - capacity).max(0.0);
            waiting = (offered - through - lost).max(0.0);
            bytes += through / 8.0;
            estimate.delayed(Duration::from_millis(20) + Duration::from_secs_f64(waiting / width));
            let loss = (lost / rate) as f32 + random_loss;
            rate = estimate.update(bytes as u64, loss, t0 + Duration::from_secs(u64::from(second)));
            rates.push(rate);
        }
        (rates, Duration::from_secs_f64(waiting / width))
    }

    #[test]
    fn streams_share_one_estimate_in_any_order_and_with_any_missing() {
        let t0 = Instant::now();
        let mut estimate = RateEstimate::new(3);
        for second in 0..60 {
            let now = t0 + Duration::from_secs(second);
            // The last layer is silent; the others swap places.
            let told: Vec<_> = [second % 2, 1 - second % 2]
                .map(|index| estimate.statistics(index as usize, second * 250_000, 0.0, now))
                .into();
            assert!(matches!(told[..], [Some(_), None]), "{told:?}");
        }
        assert!((5.5e6..6.5e6).contains(&estimate.estimate), "half above the two of 2 Mbit/s: {}", estimate.estimate);
        let told = estimate.statistics(1, 60 * 250_000, 0.5, t0 + Duration::from_secs(60));
        assert!(told.is_some_and(|rate| rate < 5e6), "{told:?}");
        assert_eq!(estimate.statistics(3, 1, 0.0, t0), None);
    }

    #[test]
    fn wide_path_is_used() {
        let (rates, _) = simulate(50e6, Duration::ZERO, 0.0, 40);
        assert!(*rates.last().unwrap() > 15e6, "{rates:?}");
    }

    #[test]
    fn narrow_path_is_not_flooded() {
        for queue in [Duration::ZERO, Duration::from_millis(100), Duration::from_secs(2)] {
            let (rates, waiting) = simulate(1e6, queue, 0.0, 60);
            let late = &rates[30..];
            assert!(late.iter().all(|r| (0.3e6..1.6e6).contains(r)), "{queue:?}: {late:?}");
            assert!(waiting <= Duration::from_millis(600), "{queue:?}: {waiting:?}");
        }
    }

    #[test]
    fn random_loss_changes_nothing() {
        let (rates, _) = simulate(50e6, Duration::ZERO, 0.05, 20);
        assert!(rates.iter().all(|r| *r == INITIAL_RATE), "{rates:?}");
    }

    #[test]
    fn retransmissions_count_as_loss() {
        let (mut estimate, t0) = (RateEstimate::new(1), Instant::now());
        let told = (0..10u64).map(|s| {
            (0..80).for_each(|n| estimate.packet(u64::from(n % 4 == 0)));
            estimate.update(s * 300_000, 0.0, t0 + Duration::from_secs(s))
        });
        assert!(told.last().unwrap() < INITIAL_RATE / 2.0);
    }

    #[test]
    fn unused_rate_does_not_grow() {
        let (mut estimate, t0) = (RateEstimate::new(1), Instant::now());
        let told = (0..60u64).map(|s| estimate.update(s * 100_000, 0.0, t0 + Duration::from_secs(s))).last();
        assert_eq!(told, Some(INITIAL_RATE), "0.8 Mbit/s came");
    }

    proptest! {
        #[test]
        fn estimate_stays_within_bounds(steps in proptest::collection::vec((any::<u32>(), 0f32..1.0, 0u64..5000, 0u64..3000), 1..100)) {
            let (mut estimate, mut now, mut bytes) = (RateEstimate::new(1), Instant::now(), 0u64);
            for (more, loss, pause, late) in steps {
                now += Duration::from_millis(pause);
                bytes += u64::from(more);
                estimate.delayed(Duration::from_millis(late));
                let told = estimate.update(bytes, loss, now);
                prop_assert!((MIN_RATE..=MAX_RATE).contains(&told));
            }
        }
    }
}
