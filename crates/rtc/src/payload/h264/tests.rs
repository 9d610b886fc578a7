//! What goes in comes out again: a depacketiser written from RFC 6184 alone, and hand-made packets.

use super::*;
use proptest::prelude::*;

/// Puts NAL units together again (RFC 6184 §5.6 to §5.8), checking what a receiver relies on.
fn depacketise(payloads: &[Vec<u8>]) -> Result<Vec<Vec<u8>>, String> {
    let mut units = Vec::new();
    let mut open: Option<Vec<u8>> = None;
    for p in payloads {
        let header = *p.first().ok_or("an empty payload")?;
        if open.is_some() && header & 0x1f != FU_A {
            return Err("a fragmented unit was not finished".into());
        }
        match header & 0x1f {
            STAP_A => {
                let mut rest = &p[1..];
                while !rest.is_empty() {
                    let size = usize::from(u16::from_be_bytes([rest[0], *rest.get(1).ok_or("half a size")?]));
                    let unit = rest.get(2..2 + size).ok_or("a size beyond the end")?;
                    if unit[0] & 0x60 > header & 0x60 {
                        return Err("a unit matters more than its aggregate".into());
                    }
                    units.push(unit.to_vec());
                    rest = &rest[2 + size..];
                }
            }
            FU_A => {
                let fu = *p.get(1).ok_or("no FU header")?;
                match (&mut open, fu & 0x80 != 0) {
                    (None, true) => open = Some(vec![header & 0xe0 | fu & 0x1f]),
                    (Some(_), false) => {}
                    _ => return Err("start bit where it does not belong".into()),
                }
                if let Some(unit) = &mut open {
                    unit.extend_from_slice(&p[2..]);
                }
                if fu & 0x40 != 0 {
                    if fu & 0x80 != 0 {
                        return Err("start and end in one fragment (RFC 6184 §5.8)".into());
                    }
                    units.extend(open.take());
                }
            }
            _ => units.push(p.clone()),
        }
    }
    if open.is_some() { Err("a fragmented unit was not finished".into()) } else { Ok(units) }
}

fn cut(h264: &mut H264, access_unit: &[u8], max: usize) -> Vec<Vec<u8>> {
    cut_into(h264, access_unit, max, 1)
}

fn cut_into(h264: &mut H264, access_unit: &[u8], max: usize, at_least: usize) -> Vec<Vec<u8>> {
    let mut payloads = Vec::new();
    let mut lasts = Vec::new();
    h264.payloads(access_unit, max, at_least, |p, last| {
        payloads.push(p.to_vec());
        lasts.push(last);
    });
    if let Some((end, before)) = lasts.split_last() {
        assert!(*end && before.iter().all(|l| !l), "the marker belongs to the last packet only: {lasts:?}");
    }
    payloads
}

fn annex_b(units: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    for (i, u) in units.iter().enumerate() {
        // Both lengths of start code occur in the wild, and zeros may trail.
        out.extend_from_slice(if i % 2 == 0 { &[0, 0, 0, 1] } else { &[0, 0, 1] });
        out.extend_from_slice(u);
    }
    out
}

/// A NAL unit as an encoder makes it: emulation prevention inside (ITU-T H.264 §7.4.1), no zero at the end.
fn unit(kind: impl Strategy<Value = u8>, max_len: usize) -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![3 => any::<u8>(), 1 => 0u8..4];
    (kind, 0u8..4, proptest::collection::vec(byte, 0..max_len)).prop_map(|(kind, nri, body)| {
        let mut out = vec![nri << 5 | kind];
        let mut zeros = 0;
        for b in body {
            if zeros >= 2 && b <= 3 {
                out.push(3);
                zeros = 0;
            }
            zeros = if b == 0 { zeros + 1 } else { 0 };
            out.push(b);
        }
        out.push(0x80);
        out
    })
}

proptest! {
    #[test]
    fn units_survive_cutting(
        units in proptest::collection::vec(unit(1u8..24, 5000), 0..12),
        max in 60usize..1500,
        least in 0usize..7,
    ) {
        let payloads = cut_into(&mut H264::default(), &annex_b(&units), max, least);
        prop_assert!(payloads.iter().all(|p| !p.is_empty() && p.len() <= max));
        let sent: Vec<_> = units.into_iter().filter(|u| !matches!(u[0] & 0x1f, AUD | FILLER)).collect();
        // A key frame before its own parameter sets gets none put in: none were seen.
        prop_assert_eq!(depacketise(&payloads).unwrap(), sent);
    }

    #[test]
    fn any_bytes_are_cut_without_panic(
        bytes in proptest::collection::vec(0u8..4, 0..4000),
        max in 4usize..1500,
        least in 0usize..7,
    ) {
        let mut h264 = H264::default();
        for _ in 0..2 {
            let payloads = cut_into(&mut h264, &bytes, max, least);
            prop_assert!(payloads.iter().all(|p| !p.is_empty() && p.len() <= max));
        }
    }
}

#[test]
fn key_frame_is_one_aggregate_and_fragments() {
    let (sps, pps, sei) = (vec![0x67, 0x42, 0xc0, 0x1f], vec![0x68, 0xce], vec![0x06, 0x05, 0x80]);
    let idr: Vec<u8> = std::iter::once(0x65).chain((0..250u8).map(|b| b | 1)).collect();
    let au = annex_b(&[vec![0x09, 0xf0], sps.clone(), pps.clone(), sei.clone(), idr]);
    let got = cut(&mut H264::default(), &au, 100);
    assert_eq!(got[0], [&[0x78, 0, 4][..], &sps, &[0, 2], &pps, &[0, 3], &sei].concat());
    let heads: Vec<_> = got[1..].iter().map(|p| (p[0], p[1], p.len())).collect();
    assert_eq!(heads, [(0x7c, 0x85, 86), (0x7c, 0x05, 85), (0x7c, 0x45, 85)]);
}

#[test]
fn small_frame_is_cut_into_min_packets() {
    let picture = annex_b(&[vec![0x67, 1, 1], vec![0x68, 1], vec![0x65, 1, 2, 3, 4, 5, 6, 7, 8, 9]]);
    let sizes = |least| cut_into(&mut H264::default(), &picture, 1000, least).iter().map(Vec::len).collect::<Vec<_>>();
    // Parameter sets together, and the slice behind two bytes of its own in each packet.
    assert_eq!(sizes(1), [10, 10]);
    assert_eq!(sizes(5), [10, 4, 4, 4, 4, 3]);
    // One byte behind the header can't be cut.
    assert_eq!(cut_into(&mut H264::default(), &annex_b(&[vec![0x41, 1]]), 1000, 5), [vec![0x41, 1]]);
}

#[test]
fn bare_key_frame_gets_known_parameter_sets() {
    let (sps, pps) = (vec![0x67, 0x42, 0xc0, 0x1f], vec![0x68, 0xce]);
    let (idr, delta) = (vec![0x65, 0x88], vec![0x41, 0x9a]);
    let mut h264 = H264::default();
    cut(&mut h264, &annex_b(&[sps.clone(), pps.clone(), idr.clone()]), 1000);
    assert_eq!(cut(&mut h264, &annex_b(std::slice::from_ref(&delta)), 1000), [delta]);
    let again = cut(&mut h264, &annex_b(&[vec![0x06, 0x80], idr.clone()]), 1000);
    assert_eq!(depacketise(&again).unwrap(), [vec![0x06, 0x80], sps, pps, idr]);
}

#[test]
fn rtp_only_nal_types_are_left_out() {
    let units = [vec![0x78, 0, 1, 9], vec![0x7c, 0x85, 7], vec![0x60, 1], vec![0x41, 1]];
    assert_eq!(cut(&mut H264::default(), &annex_b(&units), 1000), [vec![0x41, 1]]);
}
