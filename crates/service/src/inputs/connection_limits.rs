//! Bounds on connections: in all, and per address on those that do not publish yet.

use super::log_budget::LogBudget;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Why a connection is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// All slots are taken.
    Full,
    /// Too many connections of its address wait.
    Address,
}

impl Refusal {
    /// The value of the metric's label.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Full => "connections",
            Self::Address => "address",
        }
    }
}

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct ConnectionLimits {
    max: usize,
    max_waiting: usize,
    log: Arc<LogBudget>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    connections: usize,
    /// Only addresses with a connection that does not publish, so it is bounded by the connections.
    waiting: HashMap<IpAddr, usize>,
}

/// A connection's slot. Dropping it frees it for another.
#[derive(Debug)]
pub(crate) struct Slot {
    limits: Arc<ConnectionLimits>,
    waiting: Option<IpAddr>,
}

impl ConnectionLimits {
    /// At most `max` connections, and `max_waiting` of an address (IPv6: of a /64) that do not publish.
    pub(crate) fn new(max: usize, max_waiting: usize) -> Self {
        Self { max, max_waiting, log: Arc::default(), state: Mutex::default() }
    }

    /// Takes a slot for a connection from this address.
    pub(crate) fn enter(self: &Arc<Self>, address: IpAddr) -> Result<Slot, Refusal> {
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
        Ok(Slot { limits: Arc::clone(self), waiting: Some(address) })
    }

    /// The bound on log lines about these connections.
    pub(crate) fn log(&self) -> &Arc<LogBudget> {
        &self.log
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The counts are whole after a panic: nothing in here panics between two changes.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    /// The connection publishes: its address is not charged for it any longer.
    pub(crate) fn publishes(&mut self) {
        if let Some(address) = self.waiting.take() {
            let waiting = &mut self.limits.state().waiting;
            if let Some(count) = waiting.get_mut(&address) {
                *count -= 1;
                if *count == 0 {
                    waiting.remove(&address);
                }
            }
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.publishes();
        self.limits.state().connections -= 1;
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
    fn an_address_is_charged_until_it_publishes() {
        let limits = Arc::new(ConnectionLimits::new(3, 2));
        let [a, b] = ["192.0.2.1", "2001:db8::1"].map(|s| s.parse::<IpAddr>().unwrap());
        let mut first = limits.enter(a).unwrap();
        let second = limits.enter(a).unwrap();
        assert_eq!(limits.enter(a).unwrap_err(), Refusal::Address);
        first.publishes();
        let third = limits.enter(a).unwrap();
        assert_eq!(limits.enter(b).unwrap_err(), Refusal::Full);
        drop((first, second, third));
        let _one = limits.enter(b).unwrap();
        let _two = limits.enter("2001:db8::ffff".parse().unwrap()).unwrap();
        assert_eq!(limits.enter(b).unwrap_err(), Refusal::Address);
        assert_eq!(limits.state().waiting.len(), 1);
    }
}
