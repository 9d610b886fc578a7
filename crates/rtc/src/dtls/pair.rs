//! Two ends of a handshake over a wire that somebody owns: for tests, and for fuzzing of what else may be on the wire.

use super::{DtlsCert, DtlsInstance, DtlsOutput, DtlsProvider, DtlsVersion, OpenSsl};
use std::time::{Duration, Instant};

/// The longest datagram that an end is asked for, in these bytes of buffer.
const BUFFER: usize = 2000;

/// Two ends, the client (0) and the server (1), and what came out of each.
pub struct Pair {
    pub(super) ends: [Box<dyn DtlsInstance>; 2],
    now: Instant,
    pub(super) seen: [Vec<String>; 2],
    pub(super) keys: [Option<Vec<u8>>; 2],
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pair").field("seen", &self.seen).finish_non_exhaustive()
    }
}

impl Pair {
    /// Two that are about to begin, with datagrams of at most `mtu` bytes.
    ///
    /// # Panics
    /// Without entropy for a certificate.
    pub fn new(mtu: usize) -> Self {
        Self::with(mtu, OpenSsl.generate_certificate().expect("there is entropy"))
    }

    /// The client has this certificate.
    pub(super) fn with(mtu: usize, client: DtlsCert) -> Self {
        let now = Instant::now();
        let end = |active| {
            let own = || OpenSsl.generate_certificate().expect("there is entropy");
            let cert = if active { client.clone() } else { own() };
            let mut end =
                OpenSsl.new_dtls(&cert, now, DtlsVersion::Dtls12, Some(mtu)).expect("the certificate is ours");
            end.set_active(active);
            end.handle_timeout(now).expect("no time has passed");
            end
        };
        let mut ends = [end(true), end(false)];
        ends[0].handle_packet(&[]).expect("a client begins");
        Self { ends, now, seen: Default::default(), keys: Default::default() }
    }

    /// What this end has to say; events are noted.
    ///
    /// # Panics
    /// If there is anything that none of these has.
    pub fn poll(&mut self, side: usize) -> Vec<Vec<u8>> {
        let (mut packets, mut buffer) = (Vec::new(), vec![0; BUFFER]);
        loop {
            match self.ends[side].poll_output(&mut buffer) {
                DtlsOutput::Packet(p) => packets.push(p.to_vec()),
                DtlsOutput::Timeout(_) => return packets,
                DtlsOutput::KeyingMaterial(keys, _) => self.keys[side] = Some(keys.to_vec()),
                DtlsOutput::Connected => self.seen[side].push("connected".into()),
                DtlsOutput::CloseNotify => self.seen[side].push("closed".into()),
                DtlsOutput::PeerCert(_) => self.seen[side].push("certificate".into()),
                other => panic!("{other:?}"),
            }
        }
    }

    /// Hands a datagram to this end; false if it gives up over it.
    pub fn hand(&mut self, side: usize, datagram: &[u8]) -> bool {
        self.ends[side].handle_packet(datagram).is_ok()
    }

    /// Carries everything back and forth until nobody says any more; `lost` tells which datagrams don't arrive.
    ///
    /// # Panics
    /// If an end gives up.
    pub fn carry(&mut self, mut lost: impl FnMut(usize, &[u8]) -> bool) {
        loop {
            let mut quiet = true;
            for side in [0, 1] {
                for packet in self.poll(side) {
                    quiet = false;
                    assert!(lost(side, &packet) || self.hand(1 - side, &packet), "genuine datagrams are taken");
                }
            }
            if quiet {
                return;
            }
        }
    }

    /// Lets time pass.
    ///
    /// # Panics
    /// If an end gives up.
    pub fn pass(&mut self, time: Duration) {
        self.now += time;
        self.ends.iter_mut().for_each(|e| e.handle_timeout(self.now).expect("time alone ends nothing"));
    }

    /// The keys that this end has agreed on, once it has.
    pub fn keys(&self, side: usize) -> Option<&[u8]> {
        self.keys[side].as_deref()
    }

    /// Whether this end is over: closed, or given up.
    pub fn over(&self, side: usize) -> bool {
        self.ends[side].is_closed()
    }
}
