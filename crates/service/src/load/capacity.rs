//! Whether one more session fits on this machine.
//!
//! A session fits if more cores are free than it will need, and as much memory. Free cores are the lesser of two:
//!
//! - what is idle now, less what was admitted within the last second (it doesn't show in the idle figure yet);
//! - what would be left if all layers of every session here were wanted (see [`costs`](super::costs)): viewers of those that rest
//!   now may come at any moment.
//!
//! A reserve stays free besides. The whole reserve (`min_idle_ratio`) is kept when livekit-server asks beforehand whether this machine
//! would take a session, half of it once a session is here.
//!
//! A machine without any session takes one as soon as more than the reserve is idle, whatever the cost: else a small machine would
//! never take any. A configured cost of 0 always fits, as far as there is memory.

use super::costs::{Cost, Demand, Meter, Rates};
use super::memory::Memory;
use super::process::ProcessUsage;
use crate::config::CpuCost;
use model::{Blame, Fault, IngressSpec, InputKind, ResourceId, VideoPreset};
use session::Work;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How long an admitted session's cost is counted beside the measured load: until a whole sample has seen it.
const PENDING_COST: Duration = Duration::from_secs(1);

/// What a machine without sessions bids if the cost exceeds what is free: less than any machine where it fits.
const FIRST_SESSION_BID: f32 = 0.5;

/// The share of the machine below which what is idle may be none at all: workers get less than they want. Chosen; two samples of a full
/// machine differ by about as much.
const STARVED: f64 = 0.05;

/// Bytes of memory that stay free beside sessions, for this process itself and the system: connections, bursts. Chosen.
const MEMORY_RESERVE: u64 = 64 << 20;

/// Decides whether sessions fit. Clones share one state.
#[derive(Clone, Debug)]
pub struct Capacity {
    state: Arc<Mutex<State>>,
}

/// The capacity that a session takes; given back when dropped.
#[derive(Debug)]
pub struct Permit {
    capacity: Capacity,
    resource: ResourceId,
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

/// What is there for sessions, in cores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cores {
    /// What the sessions here need when all of their layers are wanted.
    pub committed: f64,
    /// What is free for one more that is here already; less than 0 where the reserve is in use.
    pub free: f64,
}

impl Capacity {
    /// A machine of this many cores, taken to be idle until the first sample.
    pub fn new(cores: f64, costs: CpuCost) -> Self {
        let state = State {
            cores,
            costs,
            rates: Rates::default(),
            idle: cores,
            memory: None,
            pending: VecDeque::new(),
            sessions: HashMap::new(),
            seen: [false; SLOTS],
            admitted: 0,
            draining: false,
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets how many cores are idle.
    pub fn set_idle(&self, idle: f64) {
        self.state().idle = idle;
    }

    /// Sets how much memory there is.
    pub(crate) fn set_memory(&self, memory: Option<Memory>) {
        self.state().memory = memory;
    }

    /// Looks at what the sessions' workers use, as `read` has it by process id.
    pub(crate) fn measure(&self, read: impl Fn(u32) -> Option<ProcessUsage>) {
        let workers = self.state().workers();
        // Files are read without the lock.
        let usages = workers.into_iter().filter_map(|(resource, pid)| Some((resource, pid, read(pid)?)));
        let usages: Vec<_> = usages.collect();
        self.state().sample(usages, Instant::now());
    }

    /// Takes a session that is here already (a publisher that connected, a request this machine won).
    ///
    /// # Errors
    /// A transient fault if it doesn't fit, or if this machine is draining. Its text is public.
    pub fn try_admit(&self, resource: &ResourceId, spec: &IngressSpec) -> Result<Permit, Fault> {
        let number = self.state().try_admit(resource, spec, Instant::now())?;
        Ok(Permit { capacity: self.clone(), resource: resource.clone(), number })
    }

    fn with_meter(&self, resource: &ResourceId, tell: impl FnOnce(&mut Meter)) {
        // One that is over is of no interest.
        if let Some(session) = self.state().sessions.get_mut(resource) {
            tell(&mut session.meter);
        }
    }

    /// The worker of a session is asked for this from now on.
    pub fn works(&self, resource: &ResourceId, work: Work) {
        self.with_meter(resource, |meter| meter.works(work));
    }

    /// Whether the source of a session has sent nothing for some time.
    pub fn stalled(&self, resource: &ResourceId, stalled: bool) {
        self.with_meter(resource, |meter| meter.stalled(stalled));
    }

    /// Whether the source of a session makes the highest layer itself.
    pub fn passes(&self, resource: &ResourceId, passes: bool) {
        self.with_meter(resource, |meter| meter.passes(passes));
    }

    /// Whether a session of any kind would fit, with the default encoding: what `/availability` answers.
    pub fn can_accept_every_kind(&self) -> bool {
        let mut state = self.state();
        let now = Instant::now();
        (0..SLOTS).all(|slot| state.bid(slot, &usual(slot), now).is_some())
    }

    /// What this machine bids for a session that livekit-server wants to place: -1 for no bid; from 1 to 2, the more is free;
    /// less than 1 if it would be taken only for being the first here. The Go ingress always bids 1. Without a valid ingress the bid is
    /// for the default encoding.
    pub fn affinity(&self, input: InputKind, spec: Option<&IngressSpec>) -> f32 {
        let slot = slot(input, spec.is_none_or(|spec| spec.transcode));
        let demand = spec.map_or_else(|| usual(slot), Demand::of);
        self.state().bid(slot, &demand, Instant::now()).unwrap_or(-1.0)
    }

    /// No session is taken any more.
    pub fn drain(&self) {
        self.state().draining = true;
    }

    /// The share of the machine in use, from 0 to 1.
    pub fn load(&self) -> f64 {
        let state = self.state();
        1.0 - state.idle / state.cores
    }

    /// What is there for sessions.
    pub fn cores(&self) -> Cores {
        let mut state = self.state();
        let reserve = state.costs.min_idle_ratio / 2.0;
        Cores { committed: state.committed(), free: state.free(reserve, Instant::now()) }
    }

    /// The sessions there are, for each kind of which there was one since the start.
    pub fn active(&self) -> Vec<Active> {
        let state = self.state();
        let of = |(slot, (input, transcoding, _)): (usize, (InputKind, bool, _))| {
            let sessions = state.sessions.values().filter(|session| session.slot == slot).count();
            state.seen[slot].then_some(Active { input, transcoding, sessions: sessions as u32 })
        };
        KINDS.into_iter().enumerate().filter_map(of).collect()
    }

    /// Advice for the operator at the start: which configured costs are so high for this machine that sessions will be refused
    /// though it idles. `None` if there is none.
    pub fn advice(&self) -> Option<String> {
        let state = self.state();
        let free = state.cores * (1.0 - state.costs.min_idle_ratio);
        let of = |(slot, (.., key)): (usize, (InputKind, bool, &str))| {
            let cost = state.configured(slot)?;
            (cost > 0.0 && cost >= free).then(|| format!("{key}: {cost:.1}"))
        };
        let mut keys: Vec<String> = KINDS.into_iter().enumerate().filter_map(of).collect();
        keys.dedup();
        if keys.is_empty() {
            return None;
        }
        Some(format!(
            "this machine has {:.1} cores, of which {free:.1} are for sessions (cpu_cost.min_idle_ratio {}), and a session is \
             configured to cost as much or more ({}). It takes the first session, but no second one while that runs. Leave these \
             keys out under cpu_cost, and sessions count with what they are measured to use",
            state.cores,
            state.costs.min_idle_ratio,
            keys.join(", ")
        ))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.capacity.state();
        state.sessions.remove(&self.resource);
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

/// What a session of a kind is to encode that asks for nothing special.
fn usual(slot: usize) -> Demand {
    match KINDS[slot] {
        (_, false, _) => Demand::PASSTHROUGH,
        _ => Demand::encoded_as(&VideoPreset::H264_720p30Layers3.encoding()),
    }
}

/// A session that was admitted a moment ago: what it costs does not show in the machine's load yet.
#[derive(Debug)]
struct Pending {
    until: Instant,
    number: u64,
    cost: f64,
}

#[derive(Debug)]
struct Session {
    slot: usize,
    meter: Meter,
}

#[derive(Debug)]
struct State {
    cores: f64,
    costs: CpuCost,
    rates: Rates,
    idle: f64,
    /// `None` where it can't be read: then it is no reason to refuse.
    memory: Option<Memory>,
    /// What was admitted lately, and until when it is counted. Grows by what is admitted within a second.
    pending: VecDeque<Pending>,
    sessions: HashMap<ResourceId, Session>,
    /// The kinds of which there was a session.
    seen: [bool; SLOTS],
    /// Admitted so far.
    admitted: u64,
    draining: bool,
}

impl State {
    /// What the operator says that a session costs.
    fn configured(&self, slot: usize) -> Option<f64> {
        match KINDS[slot] {
            (_, false, _) => self.costs.whip_bypass_transcoding,
            (InputKind::Rtmp, ..) => self.costs.rtmp,
            (InputKind::Whip, ..) => self.costs.whip,
            (InputKind::Url, ..) => self.costs.url,
        }
    }

    /// What has to be free for a session.
    fn cost(&self, slot: usize, demand: &Demand) -> Cost {
        let expected = self.rates.cost(demand);
        Cost { cpu: self.configured(slot).unwrap_or(expected.cpu), ..expected }
    }

    /// What the sessions here need when all of it is wanted. A configured cost is what has to be free for another one; where it is more
    /// than a session turns out to need, it does not keep others out.
    fn committed(&self) -> f64 {
        let of = |session: &Session| {
            let cpu = session.meter.cost(&self.rates).cpu;
            self.configured(session.slot).map_or(cpu, |configured| configured.min(cpu))
        };
        // The sum of nothing is -0.0, which shows in metrics.
        self.sessions.values().map(of).fold(0.0, std::ops::Add::add)
    }

    /// Cores free beyond a reserve; may be less than 0.
    fn free(&mut self, reserve: f64, now: Instant) -> f64 {
        while self.pending.front().is_some_and(|p| p.until <= now) {
            self.pending.pop_front();
        }
        let pending: f64 = self.pending.iter().map(|p| p.cost).sum();
        let idle = self.idle - pending;
        idle.min(self.cores - self.committed()) - reserve * self.cores
    }

    /// Bytes free for one more session, and in all; `None` if unknown.
    fn free_memory(&self) -> Option<(u64, u64)> {
        let Memory { total, free } = self.memory?;
        let to_come: u64 = self.sessions.values().map(|session| session.meter.memory_to_come()).sum();
        Some((free.saturating_sub(to_come).saturating_sub(MEMORY_RESERVE), total))
    }

    fn try_admit(&mut self, resource: &ResourceId, spec: &IngressSpec, now: Instant) -> Result<u64, Fault> {
        if self.draining {
            return Err(Fault::transient(Blame::Draining, "this machine is shutting down and takes no new session"));
        }
        let slot = slot(spec.input, spec.transcode);
        let cost = self.cost(slot, &Demand::of(spec));
        let reserve = self.costs.min_idle_ratio / 2.0;
        let free = self.free(reserve, now);
        if cost.cpu > 0.0 && free <= cost.cpu && !(self.sessions.is_empty() && free > 0.0) {
            return Err(self.full(slot, cost.cpu, free, reserve));
        }
        if let Some((free, total)) = self.free_memory().filter(|(free, _)| *free < cost.memory) {
            return Err(short_of_memory(slot, cost.memory, free, total));
        }
        self.admitted += 1;
        self.pending.push_back(Pending { until: now + PENDING_COST, number: self.admitted, cost: cost.cpu });
        self.sessions.insert(resource.clone(), Session { slot, meter: Meter::new(spec) });
        self.seen[slot] = true;
        Ok(self.admitted)
    }

    fn full(&self, slot: usize, cost: f64, free: f64, reserve: f64) -> Fault {
        let key = match self.configured(slot) {
            Some(_) => format!(" (cpu_cost.{})", KINDS[slot].2),
            None => String::new(),
        };
        let text = format!(
            "this machine is full: {} needs {cost:.2} cores{key}, and {:.2} of {:.1} are free besides the {:.2} that stay idle \
             (cpu_cost.min_idle_ratio); the sessions here may need {:.2}",
            name(slot),
            free.max(0.0),
            self.cores,
            reserve * self.cores,
            self.committed(),
        );
        Fault::transient(Blame::Capacity, text)
    }

    /// What to bid for a session; `None` if it doesn't fit.
    fn bid(&mut self, slot: usize, demand: &Demand, now: Instant) -> Option<f32> {
        if self.draining {
            return None;
        }
        let cost = self.cost(slot, demand);
        if self.free_memory().is_some_and(|(free, _)| free < cost.memory) {
            return None;
        }
        let free = self.free(self.costs.min_idle_ratio, now);
        if cost.cpu == 0.0 || free > cost.cpu {
            return Some(1.0 + (free / self.cores).clamp(0.0, 1.0) as f32);
        }
        (self.sessions.is_empty() && free > 0.0).then_some(FIRST_SESSION_BID)
    }

    /// The sessions that have a worker, with its process id.
    fn workers(&self) -> Vec<(ResourceId, u32)> {
        let worker = |(resource, session): (&ResourceId, &Session)| Some((resource.clone(), session.meter.worker()?));
        self.sessions.iter().filter_map(worker).collect()
    }

    fn sample(&mut self, usages: Vec<(ResourceId, u32, ProcessUsage)>, now: Instant) {
        let starved = self.idle < STARVED * self.cores;
        for (resource, pid, usage) in usages {
            // It may have got another worker since.
            let session = self.sessions.get_mut(&resource).filter(|session| session.meter.worker() == Some(pid));
            if let Some(session) = session {
                session.meter.sample(usage, starved, &mut self.rates, now);
            }
        }
    }
}

fn short_of_memory(slot: usize, need: u64, free: u64, total: u64) -> Fault {
    let text = format!(
        "this machine is short of memory: {} needs {} MiB, and {} of {} MiB are free besides the {} that stay so",
        name(slot),
        need >> 20,
        free >> 20,
        total >> 20,
        MEMORY_RESERVE >> 20,
    );
    Fault::transient(Blame::Capacity, text)
}

fn name(slot: usize) -> &'static str {
    match KINDS[slot] {
        (InputKind::Rtmp, true, _) => "an RTMP session",
        (InputKind::Rtmp, false, _) => "an RTMP session without transcoding",
        (InputKind::Whip, true, _) => "a WHIP session with transcoding",
        (InputKind::Whip, false, _) => "a WHIP session without transcoding",
        (InputKind::Url, ..) => "a URL session",
    }
}

#[cfg(test)]
mod tests;
