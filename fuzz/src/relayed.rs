//! What reaches our end of a TURN server: its messages, others' datagrams in them, and anything between.

use rtc::{Carrier, RelayEvent, RelayPair};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

/// Messages that wait on the wire at most; more are lost.
const ON_THE_WIRE: usize = 64;
/// Whom the client sends to.
const PEER: ([u8; 4], u16) = ([198, 51, 100, 9], 7_882);

/// Steps of two bytes each, what and how much: messages of the server pass, get lost, come twice, in another order, or changed; bytes of
/// the input come in between; the client sends, others send to it. Promises: what the client got came from somebody it had sent to, an
/// address is named once, and who has none does not ask for a time to be called.
pub fn turn_messages(data: &[u8]) {
    let Some((&first, mut rest)) = data.split_first() else { return };
    let carrier = if first & 1 == 0 { Carrier::Datagrams } else { Carrier::Stream };
    let mut pair = RelayPair::new(carrier);
    let mut wire: VecDeque<Vec<u8>> = VecDeque::new();
    let peer = SocketAddr::from(PEER);
    let mut sent = false;
    while let Some((&[what, much], after)) = rest.split_first_chunk::<2>() {
        rest = after;
        while let Some(message) = pair.from_client() {
            let answer = pair.to_server(&message).filter(|_| wire.len() < ON_THE_WIRE);
            wire.extend(answer);
        }
        match what % 10 {
            0..=2 => wire.pop_front().into_iter().for_each(|message| pair.to_client(&message)),
            3 => _ = wire.pop_front(),
            4 => wire.front().cloned().into_iter().for_each(|message| pair.to_client(&message)),
            5 => wire.rotate_left(usize::from(wire.len() > 1)),
            6 => {
                if let Some(mut message) = wire.pop_front() {
                    let at = usize::from(much) % message.len();
                    message[at] = message[at].wrapping_add(what | 1);
                    pair.to_client(&message);
                }
            }
            7 => {
                let own;
                (own, rest) = rest.split_at(usize::from(much).min(rest.len()));
                pair.to_client(own);
            }
            8 => {
                sent |= pair.relay().address().is_some();
                pair.send(peer, &[much; 9][..usize::from(much) % 10], what & 0x80 != 0);
            }
            _ => {
                if let Some(message) = pair.from_peer(peer, &[much; 30]) {
                    wire.push_back(message);
                }
                pair.pass(Duration::from_millis(u64::from(much) * 20));
            }
        }
        assert!(sent || pair.got.is_empty(), "somebody was let in");
        let opened = pair.events.iter().filter(|event| matches!(event, RelayEvent::Open(_))).count();
        assert!(opened <= 1 && pair.events.len() <= 2, "{:?}", pair.events);
        let closed = matches!(pair.events.last(), Some(RelayEvent::Closed(_)));
        assert!(!closed || (pair.relay().deadline().is_none() && pair.relay().address().is_none()));
    }
}
