//! The heads of PES packets (ISO 13818-1 §2.4.3.6), as payloads of packets begin with them.

/// Whether a PES packet begins here.
pub(super) fn begins(payload: &[u8]) -> bool {
    payload.starts_with(&[0, 0, 1])
}

/// Whether a PES packet of video begins here that does not say how long it is (PES_packet_length is 0, §2.4.3.7).
pub(super) fn is_unbounded_video(payload: &[u8]) -> bool {
    matches!(payload, [0, 0, 1, 0xE0..=0xEF, 0, 0, ..])
}

/// The PTS of the PES packet that begins here, in ticks of 90 kHz (§2.4.3.7).
pub(super) fn pts(payload: &[u8]) -> Option<i64> {
    let head = payload.first_chunk::<14>()?;
    if !begins(head) || head[7] & 0x80 == 0 {
        return None;
    }
    Some(ticks([head[9], head[10], head[11], head[12], head[13]]))
}

/// The DTS of the PES packet that begins here, or its PTS where it has no other, in ticks of 90 kHz (§2.4.3.7).
pub(super) fn dts(payload: &[u8]) -> Option<i64> {
    let shown = pts(payload)?;
    match payload.get(14..19) {
        Some([a, b, c, d, e]) if payload[7] & 0x40 != 0 => Some(ticks([*a, *b, *c, *d, *e])),
        _ => Some(shown),
    }
}

/// A time of 33 bits between its marker bits.
fn ticks(bytes: [u8; 5]) -> i64 {
    let [a, b, c, d, e] = bytes.map(i64::from);
    (a >> 1 & 7) << 30 | b << 22 | (c >> 1) << 15 | d << 7 | e >> 1
}
