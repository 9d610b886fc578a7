//! The handshake (RTMP §5.2), plain and with digests.
//!
//! Digests are not in the specification: Flash Player 9 and hardware encoders sign C1 with HMAC-SHA256 and some of them want a
//! signed answer. The two places where the digest may be ("schemes") and the keys are those that librtmp and others document.

use crate::Error;
use hmac::{Hmac, Mac};
use sha2::Sha256;

/// Bytes of C1, C2, S1 and S2.
const SIZE: usize = 1536;
const DIGEST: usize = 32;

/// The end of both keys.
const KEY_TAIL: [u8; 32] = [
    0xf0, 0xee, 0xc2, 0x4a, 0x80, 0x68, 0xbe, 0xe8, 0x2e, 0x00, 0xd0, 0xd1, 0x02, 0x9e, 0x7e, 0x57, 0x6e, 0xec, 0x5d,
    0x2d, 0x29, 0x80, 0x6f, 0xab, 0x93, 0xb8, 0xe6, 0x36, 0xcf, 0xeb, 0x31, 0xae,
];
const CLIENT_KEY: &[u8] = b"Genuine Adobe Flash Player 001";
const SERVER_KEY: &[u8] = b"Genuine Adobe Flash Media Server 001";

/// The server version in a signed S1. It must not be 0, which means an unsigned one; 4.5.0.1 promises nothing that we lack.
const SERVER_VERSION: [u8; 4] = [4, 5, 0, 1];

/// The server's side of the handshake.
#[derive(Debug)]
pub(crate) struct Handshake {
    stage: Stage,
    /// C1 as far as it came. Freed with the answer.
    c1: Vec<u8>,
}

#[derive(Debug)]
enum Stage {
    C0,
    C1,
    /// Bytes of C2 still to come. Its content is not checked: encoders send anything here.
    C2(usize),
}

impl Handshake {
    pub(crate) fn new() -> Self {
        Self { stage: Stage::C0, c1: Vec::new() }
    }

    /// Takes bytes from the front of `input` and appends the answer to `out`; true when done.
    pub(crate) fn receive(&mut self, input: &mut &[u8], out: &mut Vec<u8>) -> Result<bool, Error> {
        loop {
            match &mut self.stage {
                Stage::C0 => {
                    let Some((&version, rest)) = input.split_first() else { return Ok(false) };
                    check_version(version)?;
                    *input = rest;
                    self.stage = Stage::C1;
                }
                Stage::C1 => {
                    let (taken, rest) = input.split_at(input.len().min(SIZE - self.c1.len()));
                    self.c1.extend_from_slice(taken);
                    *input = rest;
                    if self.c1.len() < SIZE {
                        return Ok(false);
                    }
                    answer(&std::mem::take(&mut self.c1), out);
                    self.stage = Stage::C2(SIZE);
                }
                Stage::C2(left) => {
                    let taken = input.len().min(*left);
                    *input = &input[taken..];
                    *left -= taken;
                    return Ok(*left == 0);
                }
            }
        }
    }
}

/// A version below 32 is answered with 3: the client takes it or leaves (RTMP §5.2.2). From 32 on it is text, and 22 is the
/// beginning of TLS: neither would understand an answer.
fn check_version(version: u8) -> Result<(), Error> {
    match version {
        22 => Err(Error::NotRtmp("it looks like TLS; RTMPS has a port of its own")),
        32.. => Err(Error::NotRtmp("it looks like text, perhaps HTTP")),
        _ => Ok(()),
    }
}

/// Appends S0, S1 and S2.
fn answer(c1: &[u8], out: &mut Vec<u8>) {
    let mut s1 = filler();
    s1[..8].fill(0);
    out.push(3);
    let signed = c1[4..8] != [0; 4];
    match [0, 1].into_iter().find_map(|scheme| signed.then(|| client_digest(c1, scheme)).flatten().map(|d| (scheme, d)))
    {
        Some((scheme, digest)) => {
            s1[4..8].copy_from_slice(&SERVER_VERSION);
            let at = digest_offset(&s1, scheme);
            let own = hmac(SERVER_KEY, &[&s1[..at], &s1[at + DIGEST..]]);
            s1[at..at + DIGEST].copy_from_slice(&own);
            out.extend(&s1);
            let mut s2 = filler();
            let key = hmac(&[SERVER_KEY, &KEY_TAIL].concat(), &[&digest]);
            let signature = hmac(&key, &[&s2[..SIZE - DIGEST]]);
            s2[SIZE - DIGEST..].copy_from_slice(&signature);
            out.extend(&s2);
        }
        None => {
            out.extend(&s1);
            out.extend(c1); // RTMP §5.2.4: the echo
        }
    }
}

/// The digest of C1, if it is where this scheme puts it.
fn client_digest(c1: &[u8], scheme: usize) -> Option<[u8; DIGEST]> {
    let at = digest_offset(c1, scheme);
    let digest = hmac(CLIENT_KEY, &[&c1[..at], &c1[at + DIGEST..]]);
    (c1[at..at + DIGEST] == digest).then_some(digest)
}

/// The offset of the digest: four bytes, added up, point into the half of the block that the scheme puts it in.
fn digest_offset(block: &[u8], scheme: usize) -> usize {
    let base = [8, 772][scheme];
    let sum: usize = block[base..base + 4].iter().map(|&b| usize::from(b)).sum();
    base + 4 + sum % 728
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; DIGEST] {
    let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(key).expect("HMAC takes keys of any length");
    parts.iter().for_each(|p| mac.update(p));
    mac.finalize().into_bytes().into()
}

/// The filler of a block. The specification asks for random bytes so that a peer can recognise its own echo; no secret depends on
/// them, so all connections get the same (xorshift32).
fn filler() -> [u8; SIZE] {
    let mut block = [0; SIZE];
    let mut state = 0x9e37_79b9u32;
    for byte in &mut block {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        *byte = (state >> 24) as u8;
    }
    block
}

#[cfg(test)]
mod tests;
