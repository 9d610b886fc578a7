//! Who may connect: bounds on connections in all and on waiting ones per address, and on log lines about refusals.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Lines about strangers in each [`LOG_WINDOW`]: enough to see who it is and to help an operator with a mistyped key, too few
/// to fill a disk.
const LOG_LINES: u32 = 20;
const LOG_WINDOW: Duration = Duration::from_secs(10);

/// Why a connection is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Full,
    Address,
}

impl Refusal {
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Full => "connections",
            Self::Address => "address",
        }
    }
}

#[derive(Debug)]
pub(crate) struct ConnectionLimits {
    max: usize,
    max_waiting: usize,
    log: LogBudget,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    connections: usize,
    /// Addresses with a connection that waits; no others, so it is bounded by the connections.
    waiting: HashMap<IpAddr, usize>,
}

/// Bounds the lines about strangers in a log.
#[derive(Debug, Default)]
pub(crate) struct LogBudget(Mutex<LogWindow>);

#[derive(Debug, Default)]
struct LogWindow {
    since: Option<Instant>,
    lines: u32,
    left_out: u64,
}

/// A connection's place. Dropping it makes room.
#[derive(Debug)]
pub(crate) struct Place {
    admission: Arc<ConnectionLimits>,
    waiting: Option<IpAddr>,
}

impl ConnectionLimits {
    pub(crate) fn new(max: usize, max_waiting: usize) -> Self {
        Self { max, max_waiting, log: LogBudget::default(), state: Mutex::default() }
    }

    pub(crate) fn enter(self: &Arc<Self>, address: IpAddr) -> Result<Place, Refusal> {
        let address = network(address);
        let mut state = self.state();
        if state.connections >= self.max {
            return Err(Refusal::Full);
        }
        if state.waiting.get(&address).is_some_and(|&n| n >= self.max_waiting) {
            return Err(Refusal::Address);
        }
        state.connections += 1;
        *state.waiting.entry(address).or_default() += 1;
        drop(state);
        Ok(Place { admission: Arc::clone(self), waiting: Some(address) })
    }

    /// Whether one more line may be logged; if so, how many were left out before it.
    pub(crate) fn may_log(&self) -> Option<u64> {
        self.log.may_log()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Counts stay right whoever panicked: nothing in here can between two of them.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LogBudget {
    /// As [`ConnectionLimits::may_log`].
    pub(crate) fn may_log(&self) -> Option<u64> {
        let mut log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if log.since.is_none_or(|s| now - s >= LOG_WINDOW) {
            (log.since, log.lines) = (Some(now), 0);
        }
        if log.lines >= LOG_LINES {
            log.left_out += 1;
            return None;
        }
        log.lines += 1;
        Some(std::mem::take(&mut log.left_out))
    }
}

impl Place {
    /// The connection publishes: its address is not charged for it any longer.
    pub(crate) fn publishes(&mut self) {
        if let Some(address) = self.waiting.take() {
            let waiting = &mut self.admission.state().waiting;
            if let Some(count) = waiting.get_mut(&address) {
                *count -= 1;
                if *count == 0 {
                    waiting.remove(&address);
                }
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.publishes();
        self.admission.state().connections -= 1;
    }
}

/// What is charged for an address: of IPv6 the /64, as that is what one customer gets at least.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from(u128::from(v6) & !u128::from(u64::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_charged_until_it_publishes_and_all_until_they_leave() {
        let admission = Arc::new(ConnectionLimits::new(3, 2));
        let [a, b] = ["192.0.2.1", "2001:db8::1"].map(|s| s.parse::<IpAddr>().unwrap());
        let mut first = admission.enter(a).unwrap();
        let second = admission.enter(a).unwrap();
        assert_eq!(admission.enter(a).unwrap_err(), Refusal::Address);
        first.publishes();
        let third = admission.enter(a).unwrap();
        assert_eq!(admission.enter(b).unwrap_err(), Refusal::Full);
        drop((first, second, third));
        let _one = admission.enter(b).unwrap();
        let _two = admission.enter("2001:db8::ffff".parse().unwrap()).unwrap();
        assert_eq!(admission.enter(b).unwrap_err(), Refusal::Address);
        assert_eq!(admission.state().waiting.len(), 1);
    }

    #[test]
    fn lines_are_bounded_and_those_left_out_counted() {
        let log = LogBudget::default();
        let told = (0..LOG_LINES + 3).filter_map(|_| log.may_log()).count();
        assert_eq!(told as u32, LOG_LINES);
        assert_eq!(log.0.lock().unwrap().left_out, 3);
    }
}
