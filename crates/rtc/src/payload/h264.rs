//! H.264 (RFC 6184), packetization mode 1: single NAL units, STAP-A for parameter sets and SEI, FU-A for what is too long.

use super::split::split;
use media::nal::annex_b;
use media::nal::h264::{AUD, FILLER, FU_A, IDR, PPS, SEI, SPS, STAP_A};

/// Bytes of parameter sets kept at most; real ones have some dozens. A stranger's stream reaches this.
const MAX_PARAMETER_SETS: usize = 4096;

/// Cuts H.264 access units.
#[derive(Debug, Default)]
pub struct H264 {
    /// The newest parameter sets, each with its NAL header: put before a key frame that comes without. The SFU takes only
    /// what holds an SPS for a key frame, and a viewer who joins there has seen no earlier one.
    sps: Vec<u8>,
    pps: Vec<u8>,
    /// The payload being put together.
    scratch: Vec<u8>,
}

impl H264 {
    /// Hands each payload of an Annex B access unit to `send`, with whether it is the last one; slices are cut into `at_least`
    /// so many pieces. Access unit delimiters and filler are left out: they say nothing that RTP doesn't. So are NAL unit types
    /// that mean something else inside RTP.
    pub fn payloads(&mut self, access_unit: &[u8], max: usize, at_least: usize, mut send: impl FnMut(&[u8], bool)) {
        let mut units: Vec<&[u8]> = annex_b(access_unit).filter(|n| sendable(n)).collect();
        let keep = self.parameter_sets(&units);
        if let Some((sps, pps)) = &keep
            && let Some(idr) = units.iter().position(|n| kind(n) == IDR)
        {
            units.splice(idr..idr, [&sps[..], &pps[..]]);
        }
        let mut rest = &units[..];
        while let Some((first, after)) = rest.split_first() {
            let together = aggregate_len(rest, max);
            if together > 1 {
                self.stap_a(&rest[..together]);
                rest = &rest[together..];
                send(&self.scratch, rest.is_empty());
                continue;
            }
            rest = after;
            // Two bytes at least go behind the header then: a fragment that is the first and the last may not be.
            let cut = at_least > 1 && first.len() > 2 && matches!(kind(first), 1..=IDR);
            if first.len() <= max && !cut {
                send(first, rest.is_empty());
            } else {
                self.fu_a(first, max, at_least, |p, end| send(p, end && rest.is_empty()));
            }
        }
    }

    /// Remembers the parameter sets in `units`; returns those to add, if there is a key frame without any.
    fn parameter_sets(&mut self, units: &[&[u8]]) -> Option<(Vec<u8>, Vec<u8>)> {
        let mut seen = false;
        for unit in units.iter().filter(|u| u.len() <= MAX_PARAMETER_SETS) {
            match kind(unit) {
                SPS => {
                    seen = true;
                    replace(&mut self.sps, unit);
                }
                PPS => replace(&mut self.pps, unit),
                _ => {}
            }
        }
        let lacking = !seen && !self.sps.is_empty() && !self.pps.is_empty() && units.iter().any(|u| kind(u) == IDR);
        lacking.then(|| (self.sps.clone(), self.pps.clone()))
    }

    /// RFC 6184 §5.7.1: header with the highest NRI of all, then each unit after its 16-bit size.
    fn stap_a(&mut self, units: &[&[u8]]) {
        self.scratch.clear();
        let nri = units.iter().map(|u| u[0] & 0x60).max().unwrap_or(0);
        self.scratch.push(nri | STAP_A);
        for unit in units {
            // aggregate_len keeps each below `max`, which is far below 65 536.
            self.scratch.extend_from_slice(&(unit.len() as u16).to_be_bytes());
            self.scratch.extend_from_slice(unit);
        }
    }

    /// RFC 6184 §5.8: the NAL header is split into an indicator with its NRI and an FU header with its type.
    fn fu_a(&mut self, unit: &[u8], max: usize, at_least: usize, mut send: impl FnMut(&[u8], bool)) {
        let (header, body) = (unit[0], &unit[1..]);
        for piece in split(body.len(), max - 2, at_least) {
            let (start, end) = (piece.start == 0, piece.end == body.len());
            self.scratch.clear();
            self.scratch.push(header & 0x60 | FU_A);
            self.scratch.push(u8::from(start) << 7 | u8::from(end) << 6 | header & 0x1f);
            self.scratch.extend_from_slice(&body[piece]);
            send(&self.scratch, end);
        }
    }
}

fn kind(unit: &[u8]) -> u8 {
    unit[0] & 0x1f
}

fn sendable(unit: &[u8]) -> bool {
    unit.first().is_some_and(|h| matches!(h & 0x1f, 1..STAP_A) && !matches!(h & 0x1f, AUD | FILLER))
}

fn replace(to: &mut Vec<u8>, from: &[u8]) {
    to.clear();
    to.extend_from_slice(from);
}

/// How many of the first units go into one STAP-A: parameter sets and SEI, as long as they fit. Slices go alone, so that
/// one lost packet costs one slice.
fn aggregate_len(units: &[&[u8]], max: usize) -> usize {
    let mut size = 1;
    units
        .iter()
        .take_while(|u| {
            size += 2 + u.len();
            matches!(kind(u), SEI | SPS | PPS) && size <= max
        })
        .count()
}

#[cfg(test)]
mod tests;
