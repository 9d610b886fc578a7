//! Demultiplexes the datagrams of many sessions that share a port. Pure but for the queues it fills.
//!
//! A STUN request names the session by its ICE user fragment (RFC 8445 §7.2.2). All else is assigned by its source address, once
//! the session has found a request from there to be genuine; what comes from other addresses is dropped after one look.

use crate::transport::Transport;
use bytes::Bytes;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc;

/// Datagrams that may wait for a session: a second of 8 Mbit/s. A session takes them at once; what comes on top is lost as
/// on a busy network, so one that is flooded or stalls costs nobody else anything.
const INBOX: usize = 1024;
/// Addresses remembered for one session: its candidates' and those they had before a change of network.
const MAX_ADDRESSES: usize = 16;

/// A datagram on its way to a session.
#[derive(Debug)]
pub(crate) struct Datagram {
    pub(crate) transport: Transport,
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) data: Bytes,
    /// Where answers go, over TCP.
    pub(crate) reply_to: Option<mpsc::Sender<Bytes>>,
}

type Inbox = mpsc::Sender<Datagram>;

#[derive(Debug, Default)]
struct Table {
    by_ufrag: HashMap<String, Inbox>,
    by_address: HashMap<(Transport, SocketAddr), Inbox>,
}

/// See the [module](self). Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mux(Arc<Mutex<Table>>);

impl Mux {
    /// Hands a datagram to its session; false if it has none.
    pub(crate) fn dispatch(&self, datagram: Datagram) -> bool {
        let inbox = {
            let table = self.lock();
            match local_ufrag(&datagram.data) {
                Some(ufrag) => table.by_ufrag.get(ufrag).cloned(),
                None => table.by_address.get(&(datagram.transport, datagram.from)).cloned(),
            }
        };
        // A full inbox loses the datagram; that it had a session is still true.
        inbox.is_some_and(|inbox| !matches!(inbox.try_send(datagram), Err(mpsc::error::TrySendError::Closed(_))))
    }

    /// Whether a session waits for requests with this datagram's user fragment.
    pub(crate) fn knows(&self, data: &[u8]) -> bool {
        local_ufrag(data).is_some_and(|ufrag| self.lock().by_ufrag.contains_key(ufrag))
    }

    /// Opens a session's inbox for a user fragment.
    pub(crate) fn register(&self, ufrag: String) -> (Registration, Inbox, mpsc::Receiver<Datagram>) {
        let (inbox, receiver) = mpsc::channel(INBOX);
        self.lock().by_ufrag.insert(ufrag.clone(), inbox.clone());
        let registration = Registration { mux: self.clone(), inbox: inbox.clone(), ufrag, addresses: Vec::new() };
        (registration, inbox, receiver)
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // Held for single map operations only, which cannot leave it half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A session's registration; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Registration {
    mux: Mux,
    inbox: Inbox,
    ufrag: String,
    addresses: Vec<(Transport, SocketAddr)>,
}

impl Registration {
    /// A genuine datagram of the session's came from this address. With a `check` (a STUN request that was found genuine) all that comes
    /// from there is the session's from here on, also where another session has claimed the address since: the newest check counts.
    pub(crate) fn admit_address(&mut self, transport: Transport, from: SocketAddr, check: bool) {
        let key = (transport, from);
        let known = self.addresses.iter().position(|a| *a == key);
        if let Some(known) = known {
            // The newest last, so that the one in use is not the first to be forgotten.
            if known + 1 < self.addresses.len() {
                self.addresses.remove(known);
                self.addresses.push(key);
            }
            if !check {
                return;
            }
        } else {
            if self.addresses.len() == MAX_ADDRESSES {
                let oldest = self.addresses.remove(0);
                self.forget(oldest);
            }
            self.addresses.push(key);
        }
        self.mux.lock().by_address.insert(key, self.inbox.clone());
    }

    /// ICE restarts under another user fragment.
    pub(crate) fn rename(&mut self, ufrag: String) {
        let mut table = self.mux.lock();
        table.by_ufrag.remove(&self.ufrag);
        table.by_ufrag.insert(ufrag.clone(), self.inbox.clone());
        drop(table);
        self.ufrag = ufrag;
    }

    fn forget(&self, key: (Transport, SocketAddr)) {
        let mut table = self.mux.lock();
        // Another session may have taken it over, behind a NAT that gave it away again.
        if table.by_address.get(&key).is_some_and(|i| i.same_channel(&self.inbox)) {
            table.by_address.remove(&key);
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.mux.lock().by_ufrag.remove(&self.ufrag);
        for key in std::mem::take(&mut self.addresses) {
            self.forget(key);
        }
    }
}

/// Whether a datagram is a check: a STUN request with a user fragment.
pub(crate) fn is_check(data: &[u8]) -> bool {
    local_ufrag(data).is_some()
}

/// The receiver's user fragment in a STUN binding request (RFC 8489 §5 and §14.3; RFC 8445 §7.2.2); `None` for all else.
pub(crate) fn local_ufrag(data: &[u8]) -> Option<&str> {
    const REQUEST: [u8; 2] = [0, 1];
    const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
    const USERNAME: u16 = 6;
    let (head, mut rest) = data.split_first_chunk::<20>()?;
    if head[..2] != REQUEST || head[4..8] != COOKIE {
        return None;
    }
    while let Some((&[t0, t1, l0, l1], after)) = rest.split_first_chunk::<4>() {
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        let value = after.get(..length)?;
        if u16::from_be_bytes([t0, t1]) == USERNAME {
            return std::str::from_utf8(value).ok()?.split(':').next();
        }
        rest = after.get(length.next_multiple_of(4)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request(user: &str) -> Bytes {
        let mut data = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
        data.extend([0; 12]);
        data.extend([0x80, 0x22, 0, 1, 9, 0, 0, 0]);
        data.extend([0, 6, 0, user.len() as u8]);
        data.extend(user.as_bytes());
        data.resize(data.len().next_multiple_of(4), 0);
        data.into()
    }

    fn datagram(from: &str, data: Bytes) -> Datagram {
        let to = "127.0.0.1:1".parse().unwrap();
        Datagram { transport: Transport::Udp, from: from.parse().unwrap(), to, data, reply_to: None }
    }

    const MEDIA: Bytes = Bytes::from_static(&[0x80, 96]);

    #[test]
    fn requests_go_by_ufrag_the_rest_by_address() {
        let mux = Mux::default();
        let (mut a, _, mut a_inbox) = mux.register("aaaa".into());
        let (_b, _, mut b_inbox) = mux.register("bbbb".into());
        assert!(mux.dispatch(datagram("127.0.0.1:1000", request("bbbb:x"))));
        assert!(b_inbox.try_recv().is_ok() && a_inbox.try_recv().is_err());
        assert!(!mux.dispatch(datagram("127.0.0.1:1000", MEDIA)), "no genuine request came from there");
        assert!(!mux.dispatch(datagram("127.0.0.1:1000", request("cccc:x"))));
        a.admit_address(Transport::Udp, "127.0.0.1:1000".parse().unwrap(), true);
        assert!(mux.dispatch(datagram("127.0.0.1:1000", MEDIA)) && a_inbox.try_recv().is_ok());
    }

    #[test]
    fn ended_session_leaves_nothing_behind() {
        let mux = Mux::default();
        let (mut a, _, _inbox) = mux.register("aaaa".into());
        for port in 1..=100u16 {
            a.admit_address(Transport::Udp, SocketAddr::from(([127, 0, 0, 1], port)), true);
        }
        assert_eq!(mux.lock().by_address.len(), MAX_ADDRESSES);
        let (mut b, _, mut b_inbox) = mux.register("bbbb".into());
        b.admit_address(Transport::Udp, SocketAddr::from(([127, 0, 0, 1], 100)), true);
        a.rename("cccc".into());
        assert!(!mux.knows(&request("aaaa:x")) && mux.knows(&request("cccc:x")));
        drop(a);
        assert_eq!(mux.lock().by_address.len(), 1);
        assert_eq!(mux.lock().by_ufrag.len(), 1);
        assert!(mux.dispatch(datagram("127.0.0.1:100", MEDIA)) && b_inbox.try_recv().is_ok());
    }

    /// Whoever holds a key can send a check for a session of his own from a forged address; the victim's next check takes it back.
    #[test]
    fn an_address_goes_to_the_newest_check() {
        let mux = Mux::default();
        let address: SocketAddr = "127.0.0.1:1000".parse().unwrap();
        let (mut a, _, mut a_inbox) = mux.register("aaaa".into());
        let (mut b, _, mut b_inbox) = mux.register("bbbb".into());
        a.admit_address(Transport::Udp, address, true);
        b.admit_address(Transport::Udp, address, true);
        assert!(mux.dispatch(datagram("127.0.0.1:1000", MEDIA)) && b_inbox.try_recv().is_ok());
        // Media that was on its way changes nothing.
        a.admit_address(Transport::Udp, address, false);
        assert!(mux.dispatch(datagram("127.0.0.1:1000", MEDIA)) && b_inbox.try_recv().is_ok());
        a.admit_address(Transport::Udp, address, true);
        assert!(mux.dispatch(datagram("127.0.0.1:1000", MEDIA)) && a_inbox.try_recv().is_ok());
        drop(b);
        assert!(mux.dispatch(datagram("127.0.0.1:1000", MEDIA)) && a_inbox.try_recv().is_ok());
    }

    #[test]
    fn flood_for_one_session_is_bounded() {
        let mux = Mux::default();
        let (_a, _, _inbox) = mux.register("aaaa".into());
        for _ in 0..INBOX * 2 {
            assert!(mux.dispatch(datagram("127.0.0.1:1000", request("aaaa:x"))));
        }
    }

    proptest! {
        #[test]
        fn the_newest_check_has_the_address(claims in proptest::collection::vec((0usize..3, 1u16..4, any::<bool>()), 1..60)) {
            let mux = Mux::default();
            let mut sessions: Vec<_> = ["aaaa", "bbbb", "cccc"].map(|ufrag| mux.register(ufrag.into())).into();
            let mut newest = HashMap::new();
            for (session, port, check) in claims {
                let address = SocketAddr::from(([127, 0, 0, 1], port));
                let known = sessions[session].0.addresses.contains(&(Transport::Udp, address));
                sessions[session].0.admit_address(Transport::Udp, address, check);
                if check || !known {
                    newest.insert(port, session);
                }
            }
            for (port, session) in newest {
                let from = format!("127.0.0.1:{port}");
                prop_assert!(mux.dispatch(datagram(&from, MEDIA)));
                prop_assert!(sessions[session].2.try_recv().is_ok());
            }
        }

        #[test]
        fn any_datagram_is_classified(mut data in proptest::collection::vec(any::<u8>(), 0..80), stun: bool) {
            if stun && data.len() >= 8 {
                data[..8].copy_from_slice(&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42]);
            }
            let _ = local_ufrag(&data);
        }
    }
}
