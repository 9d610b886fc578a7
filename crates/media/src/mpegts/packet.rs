//! Packets of MPEG-TS (ISO 13818-1 §2.4.3): what of them all need who look into one. Pure.

/// Bytes of a packet (§2.4.3.2).
pub const PACKET: usize = 188;
/// What a packet begins with.
pub const SYNC: u8 = 0x47;

/// The number of the stream that a packet belongs to (PID), 13 bits.
pub fn stream(packet: &[u8; PACKET]) -> u16 {
    u16::from_be_bytes([packet[1] & 0x1F, packet[2]])
}

/// Whether something begins with this packet's payload (payload_unit_start_indicator).
pub fn begins(packet: &[u8; PACKET]) -> bool {
    packet[1] & 0x40 != 0
}

/// A packet's payload, if it has one (§2.4.3.3). It is `None`, too, where what is in front of it would be longer than the packet.
pub fn payload(packet: &[u8; PACKET]) -> Option<&[u8]> {
    match packet[3] & 0x30 {
        0x10 => packet.get(4..),
        0x30 => packet.get(5 + usize::from(packet[4])..),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_packet_says_of_itself() {
        let mut packet = [0xFF; PACKET];
        packet[..5].copy_from_slice(&[SYNC, 0x41, 2, 0x10, 9]);
        assert_eq!((stream(&packet), begins(&packet), payload(&packet).map(<[u8]>::len)), (0x102, true, Some(184)));
        packet[1] = 0x81;
        packet[3] = 0x30;
        assert_eq!((stream(&packet), begins(&packet), payload(&packet).map(<[u8]>::len)), (0x102, false, Some(174)));
        for (length, left) in [(0, Some(183)), (183, Some(0)), (184, None), (255, None)] {
            packet[4] = length;
            assert_eq!(payload(&packet).map(<[u8]>::len), left, "{length}");
        }
        for none in [0x00, 0x20] {
            packet[3] = none;
            assert_eq!(payload(&packet), None);
        }
    }
}
