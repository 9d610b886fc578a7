//! Bounds on connections of strangers: in all, and for each network on those that have not shown what they are for.
//!
//! Who waits gives way, the oldest first: one who opens connections and is silent keeps nobody out. Who publishes keeps its place. Who
//! tries keys is charged for those that are wrong: for a while beyond its connection, and apart from the connections there are, so that
//! one that is mistyped keeps no neighbour out.
//! Pure but for its lock, under which tokens are dropped: what becomes of a connection that gives way is up to its token.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many times the bound of a /64 a /48 may have: that is what a site or a hosting customer gets, with 65,536 /64 in it. Four
/// leaves an office with some subnets alone (chosen).
const SITE_FACTOR: usize = 4;

/// Wrong keys that a network may show within the time for which one is charged, at the least: an encoder that tries its mistyped key
/// again and again shows one or two a second, and others may share its address.
const MIN_TRIES: usize = 10;

/// Why a connection is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// All slots are taken, and none of them gives way.
    Full,
    /// All slots of its network are taken, and none of them gives way.
    Address,
}

impl Refusal {
    /// The value of the metric's label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Full => "connections",
            Self::Address => "address",
        }
    }
}

/// See the module. Each connection leaves a token, which is dropped when the connection has to give way.
#[derive(Debug)]
pub struct ConnectionLimits<T> {
    max: usize,
    max_per_address: usize,
    table: Mutex<Table<T>>,
}

/// A connection's slot. Dropping it frees it for another.
#[derive(Debug)]
pub struct ConnectionSlot<T> {
    limits: Arc<ConnectionLimits<T>>,
    id: u64,
}

/// Whom a connection is charged to: an IPv4 address; of IPv6 the /64, as that is what one customer gets at least, and the /48.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Network {
    Address(IpAddr),
    Site(Ipv6Addr),
}

#[derive(Debug)]
struct Table<T> {
    /// The next id, and the next place among those that wait: both rise.
    next: u64,
    entries: HashMap<u64, Entry<T>>,
    /// Those that give way, by their place: the oldest first.
    waiting: BTreeMap<u64, u64>,
    /// Those that are charged for a wrong key, by their place. They give way where nobody waits.
    fines: BTreeMap<u64, u64>,
    networks: HashMap<Network, Charge>,
}

/// What a network has. Only networks with a connection that is charged are kept, so they are bounded by the connections.
#[derive(Debug, Default)]
struct Charge {
    connections: usize,
    waiting: BTreeMap<u64, u64>,
    fines: usize,
}

impl Charge {
    /// Those that have shown a key: it is being looked up, or was wrong.
    fn tries(&self) -> usize {
        self.connections - self.waiting.len() + self.fines
    }
}

#[derive(Debug)]
struct Entry<T> {
    networks: [Option<Network>; 2],
    /// `None` while it does not give way.
    place: Option<u64>,
    /// Its place among the fines.
    fine: Option<u64>,
    _token: T,
}

impl<T> ConnectionLimits<T> {
    /// At most `max` connections, and `max_per_address` of one address (IPv6: of a /64; four times as many of a /48) that do not
    /// publish.
    pub fn new(max: usize, max_per_address: usize) -> Self {
        Self { max, max_per_address, table: Mutex::default() }
    }

    /// Takes a slot for a connection that waits; another may have to give way for it. Without an address it is charged to nobody: a
    /// proxy's, which is to say whom it brings.
    ///
    /// # Errors
    /// [`Refusal`]; the token is dropped.
    pub fn enter(self: &Arc<Self>, address: Option<IpAddr>, token: T) -> Result<ConnectionSlot<T>, Refusal> {
        let networks = address.map_or([None; 2], networks);
        let mut table = self.table();
        self.make_way(&mut table, networks)?;
        if table.entries.len() >= self.max {
            let oldest = table.waiting.first_key_value().or_else(|| table.fines.first_key_value()).map(|(_, id)| *id);
            table.remove(oldest.ok_or(Refusal::Full)?);
        }
        let id = table.next;
        table.next += 1;
        table.entries.insert(id, Entry { networks: [None; 2], place: None, fine: None, _token: token });
        table.charge(id, networks);
        table.wait(id);
        drop(table);
        Ok(ConnectionSlot { limits: Arc::clone(self), id })
    }

    /// Lets the oldest of each of these networks give way that has no slot left. Nobody gives way if that is not enough.
    fn make_way(&self, table: &mut Table<T>, networks: [Option<Network>; 2]) -> Result<(), Refusal> {
        let mut giving_way = Vec::new();
        for network in networks.into_iter().flatten() {
            let bound = match network {
                Network::Address(_) => self.max_per_address,
                Network::Site(_) => self.max_per_address.saturating_mul(SITE_FACTOR),
            };
            let Some(charge) = table.networks.get(&network) else { continue };
            if charge.tries() >= bound.max(MIN_TRIES) {
                return Err(Refusal::Address);
            }
            if charge.connections < bound {
                continue;
            }
            // One of the /64 is one of its /48, too.
            if !giving_way.is_empty() {
                continue;
            }
            let oldest = charge.waiting.first_key_value();
            giving_way.push(*oldest.ok_or(Refusal::Address)?.1);
        }
        giving_way.into_iter().for_each(|id| table.remove(id));
        Ok(())
    }

    fn table(&self) -> MutexGuard<'_, Table<T>> {
        // The table is whole after a panic: nothing in here panics between two changes.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> ConnectionSlot<T> {
    /// It has shown what it is for and waits for an answer: it does not give way from here on. False if it has given way already.
    pub fn hold(&self) -> bool {
        let mut table = self.limits.table();
        table.unwait(self.id);
        table.entries.contains_key(&self.id)
    }

    /// It waits again, as the youngest.
    pub fn wait(&self) {
        let mut table = self.limits.table();
        table.unwait(self.id);
        table.wait(self.id);
    }

    /// It publishes: it does not give way, and its address is not charged for it any longer. False if it has given way already.
    pub fn publishes(&self) -> bool {
        let mut table = self.limits.table();
        table.unwait(self.id);
        table.charge(self.id, [None; 2]);
        table.entries.contains_key(&self.id)
    }

    /// Its connection has ended, for a wrong key: its network stays charged for that until this is dropped, and for no connection.
    pub fn fine(&self) {
        let mut table = self.limits.table();
        table.unwait(self.id);
        table.fine(self.id);
    }

    /// It waits on behalf of this address: a proxy says so.
    ///
    /// # Errors
    /// [`Refusal`]: the address has no slot left, or this one has given way already.
    pub fn charge(&self, address: IpAddr) -> Result<(), Refusal> {
        let networks = networks(address);
        let mut table = self.limits.table();
        let entry = table.entries.get(&self.id).ok_or(Refusal::Full)?;
        if entry.networks == networks {
            return Ok(());
        }
        self.limits.make_way(&mut table, networks)?;
        table.unwait(self.id);
        table.charge(self.id, networks);
        table.wait(self.id);
        Ok(())
    }
}

impl<T> Drop for ConnectionSlot<T> {
    fn drop(&mut self) {
        self.limits.table().remove(self.id);
    }
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self {
            next: 0,
            entries: HashMap::new(),
            waiting: BTreeMap::new(),
            fines: BTreeMap::new(),
            networks: HashMap::new(),
        }
    }
}

impl<T> Table<T> {
    /// Puts a connection behind all that wait.
    fn wait(&mut self, id: u64) {
        let place = self.next;
        let Some(entry) = self.entries.get_mut(&id).filter(|entry| entry.fine.is_none()) else { return };
        self.next += 1;
        entry.place = Some(place);
        self.waiting.insert(place, id);
        for network in entry.networks.iter().flatten() {
            self.networks.entry(*network).or_default().waiting.insert(place, id);
        }
    }

    /// It does not give way.
    fn unwait(&mut self, id: u64) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let Some(place) = entry.place.take() else { return };
        self.waiting.remove(&place);
        for network in entry.networks.iter().flatten() {
            if let Some(charge) = self.networks.get_mut(network) {
                charge.waiting.remove(&place);
            }
        }
    }

    /// Charges a connection that does not wait to these networks, in place of those before.
    fn charge(&mut self, id: u64, networks: [Option<Network>; 2]) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let fined = entry.fine.is_some();
        for network in std::mem::replace(&mut entry.networks, networks).into_iter().flatten() {
            if let Some(charge) = self.networks.get_mut(&network) {
                *(if fined { &mut charge.fines } else { &mut charge.connections }) -= 1;
                if charge.connections + charge.fines == 0 {
                    self.networks.remove(&network);
                }
            }
        }
        for network in networks.into_iter().flatten() {
            self.networks.entry(network).or_default().connections += 1;
        }
    }

    /// Makes a connection that does not wait a fine.
    fn fine(&mut self, id: u64) {
        let Some(entry) = self.entries.get_mut(&id).filter(|entry| entry.fine.is_none()) else { return };
        entry.fine = Some(self.next);
        self.fines.insert(self.next, id);
        self.next += 1;
        for network in entry.networks.iter().flatten() {
            if let Some(charge) = self.networks.get_mut(network) {
                charge.connections -= 1;
                charge.fines += 1;
            }
        }
    }

    /// Ends a connection's slot, if it has not ended yet.
    fn remove(&mut self, id: u64) {
        self.unwait(id);
        self.charge(id, [None; 2]);
        if let Some(fine) = self.entries.remove(&id).and_then(|entry| entry.fine) {
            self.fines.remove(&fine);
        }
    }
}

/// What is charged for an address.
fn networks(address: IpAddr) -> [Option<Network>; 2] {
    match address.to_canonical() {
        v4 @ IpAddr::V4(_) => [Some(Network::Address(v4)), None],
        IpAddr::V6(v6) => {
            let first = |bits: u32| Ipv6Addr::from(u128::from(v6) & (u128::MAX << (128 - bits)));
            [Some(Network::Address(first(64).into())), Some(Network::Site(first(48)))]
        }
    }
}

#[cfg(test)]
mod tests;
