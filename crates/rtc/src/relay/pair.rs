//! Both ends of an address at a TURN server, for tests and fuzzing: ours, and a server that checks what it is asked as a real one does.
//! What goes between them passes through the caller's hands.

use super::{Carrier, Relay, RelayEvent};
use model::Secret;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};
use turn_client_proto::stun::types::attribute::{ErrorCode, Nonce, Realm};
use turn_client_proto::stun::types::message::{
    IntegrityAlgorithm, LongTermKeyCredentials, Message, MessageIntegrityCredentials, MessageWriteVec, TransactionId,
};
use turn_client_proto::stun::types::prelude::{MessageWrite, MessageWriteExt};
use turn_client_proto::types::attribute::{ChannelNumber, Data, Lifetime, XorPeerAddress, XorRelayedAddress};
use turn_client_proto::types::channel::ChannelData;
use turn_client_proto::types::message::{ALLOCATE, CHANNEL_BIND, CREATE_PERMISSION, DATA, REFRESH, SEND};

const USER: &str = "user";
const PASSWORD: &str = "password";
const REALM: &str = "realm";
const NONCE: &str = "nonce";
const LIFETIME: u32 = 600;

/// A client and the server that answers it, for tests.
#[derive(Debug)]
pub struct Pair {
    relay: Relay,
    now: Instant,
    carrier: Carrier,
    key: MessageIntegrityCredentials,
    allocated: bool,
    permitted: Vec<IpAddr>,
    channels: Vec<(u16, SocketAddr)>,
    /// What the server sent on for the client: to whom, and what.
    pub sent_on: Vec<(SocketAddr, Vec<u8>)>,
    /// What the client got of others: from whom, and what.
    pub got: Vec<(SocketAddr, Vec<u8>)>,
    /// What became of the client's address.
    pub events: Vec<RelayEvent>,
}

impl Pair {
    /// The address at the server.
    pub const ADDRESS: ([u8; 4], u16) = ([203, 0, 113, 7], 50_000);

    /// A client that is about to ask.
    pub fn new(carrier: Carrier) -> Self {
        let now = Instant::now();
        let (local, server) = (SocketAddr::from(([10, 0, 0, 2], 4_000)), SocketAddr::from(([10, 0, 0, 1], 3_478)));
        let credentials = LongTermKeyCredentials::new(USER.into(), PASSWORD.into(), REALM.into());
        Self {
            relay: Relay::new(carrier, local, server, (USER, &Secret::new(PASSWORD)), false, now),
            now,
            carrier,
            key: credentials.into(),
            allocated: false,
            permitted: Vec::new(),
            channels: Vec::new(),
            sent_on: Vec::new(),
            got: Vec::new(),
            events: Vec::new(),
        }
    }

    /// The client.
    pub fn relay(&self) -> &Relay {
        &self.relay
    }

    /// The client sends a datagram from its address.
    pub fn send(&mut self, to: SocketAddr, datagram: &[u8], media: bool) {
        self.relay.send(to, datagram, media, self.now);
    }

    /// The next message of the client's.
    pub fn from_client(&mut self) -> Option<Vec<u8>> {
        self.relay.transmit()
    }

    /// The client gives its address back.
    pub fn release(&mut self) {
        self.relay.release(self.now);
    }

    /// Bytes for the client, genuine or not.
    pub fn to_client(&mut self, bytes: &[u8]) {
        let got = &mut self.got;
        self.relay.receive(bytes, self.now, |from, datagram| got.push((from, datagram.to_vec())));
        self.events.extend(std::iter::from_fn(|| self.relay.event()));
    }

    /// Time passes, as far as the client has something due at most; true if it had.
    pub fn pass(&mut self, time: Duration) -> bool {
        let until = self.now + time;
        let due = self.relay.deadline().filter(|due| *due <= until);
        self.now = due.unwrap_or(until).max(self.now);
        if due.is_some() {
            self.relay.tick(self.now);
            self.events.extend(std::iter::from_fn(|| self.relay.event()));
        }
        due.is_some()
    }

    /// Whether the client's channel to this address is bound.
    pub fn has_channel(&self, to: SocketAddr) -> bool {
        self.channels.iter().any(|(_, peer)| *peer == to)
    }

    /// A message for the server; what it answers, framed for the stream if there is one.
    pub fn to_server(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        if let Ok(channel) = ChannelData::parse(bytes) {
            let to = self.channels.iter().find(|(id, _)| *id == channel.id())?.1;
            self.sent_on.push((to, channel.data().to_vec()));
            return None;
        }
        let message = Message::from_bytes(bytes).ok()?;
        if message.has_method(SEND) {
            let to = peer_of(&message)?;
            if self.permitted.contains(&to.ip()) {
                self.sent_on.push((to, message.attribute::<Data>().ok()?.data().to_vec()));
            }
            return None;
        }
        if message.validate_integrity(&self.key).is_err() {
            return Some(refusal(&message));
        }
        let mut answer = Message::builder_success(&message, MessageWriteVec::new());
        if message.has_method(ALLOCATE) {
            self.allocated = true;
            let address = SocketAddr::from(Self::ADDRESS);
            answer.add_attribute(&XorRelayedAddress::new(address, message.transaction_id())).ok()?;
            answer.add_attribute(&Lifetime::new(LIFETIME)).ok()?;
        } else if message.has_method(REFRESH) {
            let lifetime = message.attribute::<Lifetime>().ok()?;
            self.allocated = lifetime.seconds() > 0;
            answer.add_attribute(&Lifetime::new(lifetime.seconds().min(LIFETIME))).ok()?;
        } else if message.has_method(CREATE_PERMISSION) {
            self.permitted.push(peer_of(&message)?.ip());
        } else if message.has_method(CHANNEL_BIND) {
            let peer = peer_of(&message)?;
            self.channels.push((message.attribute::<ChannelNumber>().ok()?.channel(), peer));
        }
        answer.add_message_integrity(&self.key, IntegrityAlgorithm::Sha1).ok()?;
        Some(answer.finish())
    }

    /// Somebody sends to the client's address; what the server says of it.
    pub fn from_peer(&self, from: SocketAddr, datagram: &[u8]) -> Option<Vec<u8>> {
        if !self.allocated || !self.permitted.contains(&from.ip()) {
            return None;
        }
        let Some((channel, _)) = self.channels.iter().find(|(_, peer)| *peer == from) else {
            let mut data = Message::builder_indication(DATA, MessageWriteVec::new());
            let transaction: TransactionId = data.transaction_id();
            data.add_attribute(&XorPeerAddress::new(from, transaction)).ok()?;
            data.add_attribute(&Data::new(datagram)).ok()?;
            return Some(data.finish());
        };
        let mut data = channel.to_be_bytes().to_vec();
        data.extend(u16::try_from(datagram.len()).ok()?.to_be_bytes());
        data.extend(datagram);
        if self.carrier == Carrier::Stream {
            data.resize(data.len().next_multiple_of(4), 0);
        }
        Some(data)
    }
}

fn peer_of(message: &Message<'_>) -> Option<SocketAddr> {
    Some(message.attribute::<XorPeerAddress>().ok()?.addr(message.transaction_id()))
}

/// Who is asked without a password says how to show it.
fn refusal(message: &Message<'_>) -> Vec<u8> {
    let mut answer = Message::builder_error(message, MessageWriteVec::new());
    let (realm, nonce) = (Realm::new(REALM), Nonce::new(NONCE));
    if let (Ok(error), Ok(realm), Ok(nonce)) = (ErrorCode::builder(ErrorCode::UNAUTHORIZED).build(), realm, nonce) {
        // They fit: the message holds nothing else.
        let _ = answer
            .add_attribute(&error)
            .and_then(|()| answer.add_attribute(&realm))
            .and_then(|()| answer.add_attribute(&nonce));
    }
    answer.finish()
}
