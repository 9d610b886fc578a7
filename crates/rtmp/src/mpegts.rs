//! Recognizes MPEG-TS where RTMP belongs: FFmpeg with `-f mpegts` writes it into messages as if it were FLV.

/// Bytes of a packet of MPEG-TS (ISO 13818-1 §2.4.3.2), and its first.
const PACKET: usize = 188;
const SYNC: u8 = 0x47;
/// Packets in a row that can't be chance: one in four billion.
const MIN_PACKETS: usize = 4;

/// Whether these bytes are packets of MPEG-TS, but for what is before the first.
pub(crate) fn is_mpegts(bytes: &[u8]) -> bool {
    let packets = |from: usize| bytes[from..].iter().step_by(PACKET);
    // A header of a message may cut one of them in two.
    (0..bytes.len().min(2 * PACKET)).any(|from| {
        let in_row = packets(from).take_while(|first| **first == SYNC).count();
        in_row >= MIN_PACKETS
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_in_a_row_are_recognized() {
        let packet = [&[SYNC][..], &[7; PACKET - 1]].concat();
        for before in [0, 13, 200] {
            let bytes = [vec![1; before], packet.repeat(5)].concat();
            assert!(is_mpegts(&bytes), "{before}");
        }
        assert!(!is_mpegts(&packet.repeat(3)));
        assert!(!is_mpegts(&[]) && !is_mpegts(&[7; 5_000]));
    }
}
