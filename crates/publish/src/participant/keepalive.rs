//! Pings to the server, and how long it may be silent.

use super::action::Actions;
use crate::message;
use livekit_protocol as proto;
use std::time::{Duration, Instant};

/// What a server advises today; it may advise otherwise when we join.
const PING_INTERVAL: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_secs(15);

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Keepalive {
    /// Pings carry the time since then.
    start: Instant,
    interval: Duration,
    timeout: Duration,
    next: Instant,
    /// When the server last sent anything.
    last_received: Instant,
    sent: Instant,
    round_trip: Duration,
}

impl Keepalive {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            start: now,
            interval: PING_INTERVAL,
            timeout: PING_TIMEOUT,
            next: now + PING_INTERVAL,
            last_received: now,
            sent: now,
            round_trip: Duration::ZERO,
        }
    }

    /// We are in the room, and the server advises these times (in seconds; 0 where it does not).
    pub(super) fn joined(&mut self, join: &proto::JoinResponse, now: Instant) {
        let seconds = |s: i32, or| u64::try_from(s).ok().filter(|s| *s > 0).map_or(or, Duration::from_secs);
        let interval = seconds(join.ping_interval, PING_INTERVAL);
        let timeout = seconds(join.ping_timeout, PING_TIMEOUT);
        *self = Self { start: self.start, interval, timeout, next: now + interval, ..Self::new(now) };
    }

    /// We are in the room again.
    pub(super) fn resumed(&mut self, now: Instant) {
        self.next = now + self.interval;
    }

    /// The server sent something.
    pub(super) fn last_received(&mut self, now: Instant) {
        self.last_received = now;
    }

    /// The server answers a ping.
    pub(super) fn pong(&mut self, now: Instant) {
        self.round_trip = now - self.sent;
    }

    /// Whether the server has been silent for too long.
    pub(super) fn is_silent(&self, now: Instant) -> bool {
        now >= self.last_received + self.timeout
    }

    /// Sends a ping if it is due.
    pub(super) fn tick(&mut self, now: Instant, actions: &mut Actions) {
        if self.next <= now {
            self.next = now + self.interval;
            self.sent = now;
            actions.send(message::ping(millis(now - self.start), millis(self.round_trip)));
        }
    }

    /// When a ping, or the end of silence, is due.
    pub(super) fn deadline(&self) -> Instant {
        self.next.min(self.last_received + self.timeout)
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
