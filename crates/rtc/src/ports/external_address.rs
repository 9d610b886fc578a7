//! Our external address, behind NAT: asked of STUN servers (RFC 8489) in the background, again and again, as it may change.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::net::{UdpSocket, lookup_host};
use tokio::time::{sleep, timeout};

/// How long to wait for an answer, and how often to ask: a lost datagram or two are forgiven.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);
const MAX_ATTEMPTS: u32 = 3;
/// How long to look a name up.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);
/// When to ask again: an address that is known changes rarely; one that isn't is wanted.
const REFRESH_INTERVAL: Duration = Duration::from_secs(5 * 60);
const RETRY_INTERVAL: Duration = Duration::from_secs(10);

/// For each address of ours its external one, as far as known. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct ExternalAddresses(Arc<RwLock<HashMap<IpAddr, IpAddr>>>);

impl ExternalAddresses {
    pub(super) fn get(&self) -> HashMap<IpAddr, IpAddr> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps them up to date, for ever.
    pub(super) async fn refresh(self, locals: Vec<IpAddr>, servers: Vec<String>) {
        let locals: Vec<_> = locals.into_iter().filter(|ip| !ip.is_loopback()).collect();
        let mut told = false;
        loop {
            let mut known = 0;
            for &local in &locals {
                let Some(seen) = ask_all(local, &servers).await else { continue };
                known += 1;
                let before = self.0.write().unwrap_or_else(PoisonError::into_inner).insert(local, seen);
                if before != Some(seen) {
                    tracing::info!(%local, external = %seen, "external address");
                }
            }
            // Said once, and again when it had been known in between: not each ten seconds for as long as a network is down.
            if known == 0 && !told {
                tracing::warn!(?servers, "no STUN server tells our external address");
            }
            told = known == 0;
            sleep(if known < locals.len() { RETRY_INTERVAL } else { REFRESH_INTERVAL }).await;
        }
    }
}

async fn ask_all(local: IpAddr, servers: &[String]) -> Option<IpAddr> {
    for server in servers {
        let Ok(Ok(found)) = timeout(LOOKUP_TIMEOUT, lookup_host(server.as_str())).await else { continue };
        for address in found.filter(|a| a.is_ipv4() == local.is_ipv4()).take(2) {
            if let Ok(Some(seen)) = ask(local, address).await {
                return Some(seen);
            }
        }
    }
    None
}

async fn ask(local: IpAddr, server: SocketAddr) -> io::Result<Option<IpAddr>> {
    let socket = UdpSocket::bind((local, 0)).await?;
    // Only what comes from there is read.
    socket.connect(server).await?;
    let id: [u8; 12] = rand::random();
    let mut buffer = [0; 548];
    for _ in 0..MAX_ATTEMPTS {
        socket.send(&request(id)).await?;
        if let Ok(answer) = timeout(ANSWER_TIMEOUT, socket.recv(&mut buffer)).await
            && let Some(seen) = mapped(&buffer[..answer?], id)
        {
            return Ok(Some(seen));
        }
    }
    Ok(None)
}

const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

/// A binding request without attributes.
fn request(id: [u8; 12]) -> Vec<u8> {
    [&[0, 1, 0, 0][..], &COOKIE, &id].concat()
}

/// The XOR-MAPPED-ADDRESS (RFC 8489 §14.2) of the answer to the request with this id.
fn mapped(answer: &[u8], id: [u8; 12]) -> Option<IpAddr> {
    const SUCCESS: [u8; 2] = [1, 1];
    const XOR_MAPPED: u16 = 0x20;
    let (head, mut rest) = answer.split_first_chunk::<20>()?;
    if head[..2] != SUCCESS || head[4..8] != COOKIE || head[8..] != id {
        return None;
    }
    while let Some((&[t0, t1, l0, l1], after)) = rest.split_first_chunk::<4>() {
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        let value = after.get(..length)?;
        if u16::from_be_bytes([t0, t1]) == XOR_MAPPED {
            return match value {
                [_, 1, _, _, ip @ ..] => {
                    let ip: [u8; 4] = ip.try_into().ok()?;
                    Some(IpAddr::from(std::array::from_fn::<u8, 4, _>(|i| ip[i] ^ COOKIE[i])))
                }
                [_, 2, _, _, ip @ ..] => {
                    let ip: [u8; 16] = ip.try_into().ok()?;
                    let key: Vec<u8> = COOKIE.iter().chain(&id).copied().collect();
                    Some(IpAddr::from(std::array::from_fn::<u8, 16, _>(|i| ip[i] ^ key[i])))
                }
                _ => None,
            };
        }
        rest = after.get(length.next_multiple_of(4)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn answer_of_rfc_5769() {
        // §2.2, with its other attributes.
        let answer = [
            0x01, 0x01, 0x00, 0x3c, 0x21, 0x12, 0xa4, 0x42, 0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87,
            0xdf, 0xae, 0x80, 0x22, 0x00, 0x0b, 0x74, 0x65, 0x73, 0x74, 0x20, 0x76, 0x65, 0x63, 0x74, 0x6f, 0x72, 0x20,
            0x00, 0x20, 0x00, 0x08, 0x00, 0x01, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43,
        ];
        let id = [0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae];
        assert_eq!(mapped(&answer, id), Some("192.0.2.1".parse().unwrap()));
        assert_eq!(mapped(&answer, [0; 12]), None, "the answer to another request");
    }

    #[tokio::test]
    async fn server_is_asked_until_it_answers() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap().to_string();
        let answering = tokio::spawn(async move {
            let mut buffer = [0; 100];
            server.recv_from(&mut buffer).await.unwrap();
            let (_, from) = server.recv_from(&mut buffer).await.unwrap();
            let attribute = [0, 0x20, 0, 8, 0, 1, 0, 0, 198 ^ 0x21, 51 ^ 0x12, 100 ^ 0xa4, 7 ^ 0x42];
            let answer = [&[1, 1, 0, 12], &buffer[4..20], &attribute[..]].concat();
            server.send_to(&answer, from).await.unwrap();
        });
        let seen = ask_all(IpAddr::from([127, 0, 0, 1]), &[address]).await;
        assert_eq!(seen, Some(IpAddr::from([198, 51, 100, 7])));
        answering.await.unwrap();
    }

    proptest! {
        #[test]
        fn any_answer_is_read(mut answer in proptest::collection::vec(any::<u8>(), 20..80)) {
            answer[..8].copy_from_slice(&[1, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42]);
            let id = answer[8..20].try_into().unwrap();
            let _ = mapped(&answer, id);
        }
    }
}
