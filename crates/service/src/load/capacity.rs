//! Whether one more session fits on this machine: the Go ingress's calculation, with a first session that always fits.
//!
//! Free is what is idle, less what was admitted within the last second (it doesn't show in the idle figure yet), less a reserve.
//! A session fits if more is free than its kind is configured to cost. The whole reserve (`min_idle_ratio`) is kept when
//! livekit-server asks beforehand whether this machine would take a session, half of it once a session is here.
//!
//! A machine without any session takes one as soon as more than the reserve is idle, whatever the cost: with the documented
//! costs of 2.0 a machine of two CPUs would never take any. A cost of 0 always fits.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::{Blame, Fault, InputKind};
use tokio::time::Instant;

use crate::config::CpuCost;

/// How long an admitted session's cost is counted beside the measured load: until a whole sample has seen it.
const PENDING_COST: Duration = Duration::from_secs(1);

/// What a machine without sessions bids if the cost exceeds what is free: less than any machine where it fits.
const FIRST_SESSION_BID: f32 = 0.5;

/// Decides whether sessions fit. Clones share one state.
#[derive(Clone, Debug)]
pub struct Capacity {
    state: Arc<Mutex<State>>,
}

/// The capacity that a session takes; given back when dropped.
#[derive(Debug)]
pub struct Permit {
    capacity: Capacity,
    slot: usize,
    number: u64,
}

/// How many sessions of a kind there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Active {
    /// Their input.
    pub input: InputKind,
    /// Whether they are transcoded.
    pub transcoding: bool,
    /// Their number.
    pub sessions: u32,
}

impl Capacity {
    /// A machine of `capacity` CPUs, taken to be idle until the first sample.
    pub fn new(capacity: f64, costs: CpuCost) -> Self {
        let state = State {
            capacity,
            costs,
            idle: capacity,
            pending: VecDeque::new(),
            active: [None; SLOTS],
            admitted: 0,
            draining: false,
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The CPUs this machine has.
    pub fn capacity(&self) -> f64 {
        self.state().capacity
    }

    /// Sets how many CPUs are idle.
    pub fn set_idle(&self, idle: f64) {
        self.state().idle = idle;
    }

    /// Takes a session that is here already (a publisher that connected, a request this machine won).
    ///
    /// # Errors
    /// A transient fault if it doesn't fit, or if this machine is draining. Its text is public.
    pub fn try_admit(&self, input: InputKind, transcoding: bool) -> Result<Permit, Fault> {
        let slot = slot(input, transcoding);
        let number = self.state().try_admit(slot, Instant::now())?;
        Ok(Permit { capacity: self.clone(), slot, number })
    }

    /// Whether a session of any kind would fit: what `/availability` answers.
    pub fn can_accept_every_kind(&self) -> bool {
        let mut state = self.state();
        let most =
            KINDS.iter().map(|(input, transcoding, _)| state.cost(slot(*input, *transcoding))).fold(0.0, f64::max);
        state.bid(most, Instant::now()).is_some()
    }

    /// What this machine bids for a session that livekit-server wants to place: -1 for no bid; from 1 to 2, the more is free;
    /// less than 1 if it would be taken only for being the first here. The Go ingress always bids 1.
    pub fn affinity(&self, input: InputKind, transcoding: bool) -> f32 {
        let mut state = self.state();
        let cost = state.cost(slot(input, transcoding));
        state.bid(cost, Instant::now()).unwrap_or(-1.0)
    }

    /// No session is taken any more.
    pub fn drain(&self) {
        self.state().draining = true;
    }

    /// The share of the machine in use, from 0 to 1.
    pub fn load(&self) -> f64 {
        let state = self.state();
        1.0 - state.idle / state.capacity
    }

    /// The sessions there are, for each kind of which there was one since the start.
    pub fn active(&self) -> Vec<Active> {
        let state = self.state();
        let of = |(input, transcoding, _)| {
            let sessions = state.active[slot(input, transcoding)]?;
            Some(Active { input, transcoding, sessions })
        };
        KINDS.into_iter().filter_map(of).collect()
    }

    /// Advice for the operator at the start: which configured costs are so high for this machine that sessions will be refused
    /// though it idles. `None` if there is none.
    pub fn advice(&self) -> Option<String> {
        let state = self.state();
        let free = state.capacity * (1.0 - state.costs.min_idle_ratio);
        let of = |(input, transcoding, key): (InputKind, bool, &str)| {
            let cost = state.cost(slot(input, transcoding));
            (cost > 0.0 && cost >= free).then(|| format!("{key}: {cost:.1}"))
        };
        let keys: Vec<String> = KINDS.into_iter().filter_map(of).collect();
        if keys.is_empty() {
            return None;
        }
        Some(format!(
            "this machine has {:.1} CPUs, of which {free:.1} are for sessions (cpu_cost.min_idle_ratio {}), and a session is \
             configured to cost as much or more ({}). It takes the first session, but no second one while that runs. If a \
             session costs less here (livekit_node_cpu_load shows it), lower these keys under cpu_cost",
            state.capacity,
            state.costs.min_idle_ratio,
            keys.join(", ")
        ))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.capacity.state();
        if let Some(sessions) = &mut state.active[self.slot] {
            *sessions = sessions.saturating_sub(1);
        }
        state.pending.retain(|p| p.number != self.number);
    }
}

const SLOTS: usize = 6;
/// Every kind of session with the key of its cost. Passthrough costs the same whatever its input.
const KINDS: [(InputKind, bool, &str); SLOTS] = [
    (InputKind::Rtmp, true, "rtmp_cpu_cost"),
    (InputKind::Rtmp, false, "whip_bypass_transcoding_cpu_cost"),
    (InputKind::Whip, true, "whip_cpu_cost"),
    (InputKind::Whip, false, "whip_bypass_transcoding_cpu_cost"),
    (InputKind::Url, true, "url_cpu_cost"),
    (InputKind::Url, false, "whip_bypass_transcoding_cpu_cost"),
];

/// The index of a kind in [`KINDS`].
fn slot(input: InputKind, transcoding: bool) -> usize {
    let kind = match input {
        InputKind::Rtmp => 0,
        InputKind::Whip => 2,
        InputKind::Url => 4,
    };
    kind + usize::from(!transcoding)
}

/// A session that was admitted a moment ago: what it costs does not show in the machine's load yet.
#[derive(Debug)]
struct Pending {
    until: Instant,
    number: u64,
    cost: f64,
}

#[derive(Debug)]
struct State {
    capacity: f64,
    costs: CpuCost,
    idle: f64,
    /// What was admitted lately, and until when it is counted. Grows by what is admitted within a second.
    pending: VecDeque<Pending>,
    /// Admitted so far.
    admitted: u64,
    /// Sessions by kind; `None` if there never was one.
    active: [Option<u32>; SLOTS],
    draining: bool,
}

impl State {
    fn cost(&self, slot: usize) -> f64 {
        match KINDS[slot] {
            (_, false, _) => self.costs.whip_bypass_transcoding,
            (InputKind::Rtmp, ..) => self.costs.rtmp,
            (InputKind::Whip, ..) => self.costs.whip,
            (InputKind::Url, ..) => self.costs.url,
        }
    }

    /// CPUs free beyond a reserve; may be less than 0.
    fn free(&mut self, reserve: f64, now: Instant) -> f64 {
        while self.pending.front().is_some_and(|p| p.until <= now) {
            self.pending.pop_front();
        }
        let pending: f64 = self.pending.iter().map(|p| p.cost).sum();
        self.idle - pending - reserve * self.capacity
    }

    fn alone(&self) -> bool {
        self.active.iter().flatten().all(|sessions| *sessions == 0)
    }

    fn try_admit(&mut self, slot: usize, now: Instant) -> Result<u64, Fault> {
        if self.draining {
            return Err(Fault::transient(Blame::Draining, "this machine is shutting down and takes no new session"));
        }
        let cost = self.cost(slot);
        let reserve = self.costs.min_idle_ratio / 2.0;
        let free = self.free(reserve, now);
        if cost > 0.0 && free <= cost && !(self.alone() && free > 0.0) {
            return Err(self.full(slot, free, reserve));
        }
        self.admitted += 1;
        self.pending.push_back(Pending { until: now + PENDING_COST, number: self.admitted, cost });
        let sessions = self.active[slot].get_or_insert(0);
        *sessions = sessions.saturating_add(1);
        Ok(self.admitted)
    }

    fn full(&self, slot: usize, free: f64, reserve: f64) -> Fault {
        let (input, transcoding, key) = KINDS[slot];
        let name = match (input, transcoding) {
            (InputKind::Rtmp, true) => "an RTMP session",
            (InputKind::Rtmp, false) => "an RTMP session without transcoding",
            (InputKind::Whip, true) => "a WHIP session with transcoding",
            (InputKind::Whip, false) => "a WHIP session without transcoding",
            (InputKind::Url, _) => "a URL session",
        };
        let text = format!(
            "this machine is full: {name} needs {:.1} CPUs (cpu_cost.{key}), and {:.1} of {:.1} are free besides the {:.1} \
             that stay idle (cpu_cost.min_idle_ratio)",
            self.cost(slot),
            free.max(0.0),
            self.capacity,
            reserve * self.capacity,
        );
        Fault::transient(Blame::Capacity, text)
    }

    /// What to bid for a session of this cost; `None` if it doesn't fit.
    fn bid(&mut self, cost: f64, now: Instant) -> Option<f32> {
        if self.draining {
            return None;
        }
        let free = self.free(self.costs.min_idle_ratio, now);
        if cost == 0.0 || free > cost {
            return Some(1.0 + (free / self.capacity).clamp(0.0, 1.0) as f32);
        }
        (self.alone() && free > 0.0).then_some(FIRST_SESSION_BID)
    }
}

#[cfg(test)]
mod tests;
