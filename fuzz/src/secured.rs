//! What reaches the DTLS of WHIP sessions: a handshake of two ends, with somebody on the wire between them.

use rtc::Handshake;
use std::collections::VecDeque;
use std::time::Duration;

/// Datagrams that wait on the wire at most; more are lost, as on a busy network.
const ON_THE_WIRE: usize = 64;
/// What an end may say at most because of one datagram: a flight, in the small pieces of an MTU of 300.
const FLIGHT: usize = 24;
const MTU: usize = 300;

/// Steps of two bytes each, what and how much: genuine datagrams pass, get lost, come twice, in another order, cut or changed, and
/// bytes of the input itself come in between. Promises: an end that has keys has those of the other one, and is not ended by
/// anything but that one; one datagram makes no flood; who gave up stays so.
pub fn dtls_handshake(data: &[u8]) {
    let mut pair = Handshake::new(MTU);
    // On their way to the client, and to the server.
    let mut wire: [VecDeque<Vec<u8>>; 2] = Default::default();
    let mut rest = data;
    collect(&mut pair, &mut wire);
    while let Some((&[what, much], after)) = rest.split_first_chunk::<2>() {
        rest = after;
        let to = usize::from(what & 1);
        let was_over = pair.over(to);
        let front = wire[to].pop_front();
        let datagram = match (what >> 1) % 8 {
            0 | 1 => front,
            2 => None,
            3 => {
                wire[to].extend(front.clone());
                front
            }
            4 => {
                wire[to].extend(front);
                None
            }
            5 => front.map(|mut datagram| {
                let at = usize::from(much) % datagram.len().max(1);
                if let Some(byte) = datagram.get_mut(at) {
                    *byte = byte.wrapping_add(what | 1);
                }
                if what & 0x80 != 0 {
                    datagram.truncate(at);
                }
                datagram
            }),
            6 => {
                wire[to].extend(front);
                let own;
                (own, rest) = rest.split_at(usize::from(much).min(rest.len()));
                Some(own.to_vec())
            }
            _ => {
                wire[to].extend(front);
                pair.pass(Duration::from_millis(u64::from(much) * 10));
                None
            }
        };
        let was_up = pair.keys(to).is_some();
        let gave_up = datagram.is_some_and(|datagram| !pair.hand(to, &datagram));
        assert!(!(gave_up && was_up), "somebody ended a session that was up");
        let said = collect(&mut pair, &mut wire);
        assert!(said.iter().all(|said| *said <= FLIGHT), "{said:?}");
        assert!(!(was_over || gave_up) || pair.over(to));
        if let (Some(a), Some(b)) = (pair.keys(0), pair.keys(1)) {
            assert_eq!(a, b);
        }
    }
}

/// Puts on the wire what each end has to say; how many datagrams that were.
fn collect(pair: &mut Handshake, wire: &mut [VecDeque<Vec<u8>>; 2]) -> [usize; 2] {
    [0, 1].map(|side| {
        let said = pair.poll(side);
        let count = said.len();
        let room = ON_THE_WIRE.saturating_sub(wire[1 - side].len());
        wire[1 - side].extend(said.into_iter().take(room));
        count
    })
}
