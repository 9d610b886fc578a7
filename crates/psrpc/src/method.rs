//! What both sides must agree on about a method.

/// A method of a service, as its proto file declares it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Method {
    /// Its name in the proto file.
    pub name: &'static str,
    /// Whether only one server looks at each request (decided by a lock on the bus), rather than all.
    pub queue: bool,
    /// Whether servers bid and the client chooses before the request is done.
    pub claim: bool,
    /// Whether bids differ, so that the client waits a little for better ones.
    pub affinity: bool,
}

impl Method {
    /// A method that any one server does: what psrpc makes of a plain `rpc` line.
    pub const fn any_one(name: &'static str) -> Self {
        Self { name, queue: true, claim: true, affinity: false }
    }

    /// A method that the best bidder does (`affinity_func`).
    pub const fn best(name: &'static str) -> Self {
        Self { name, queue: false, claim: true, affinity: true }
    }

    /// A method that all servers do and answer (`multi`).
    pub const fn every(name: &'static str) -> Self {
        Self { name, queue: false, claim: false, affinity: false }
    }

    /// A method on a topic that only one server has (`single_server`).
    pub const fn only(name: &'static str) -> Self {
        Self { name, queue: true, claim: false, affinity: false }
    }
}
