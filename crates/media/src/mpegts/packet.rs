//! One packet of MPEG-TS (ISO 13818-1 §2.4.3).

/// Bytes of a packet (§2.4.3.2).
pub const PACKET: usize = 188;
/// The first byte of a packet (sync_byte).
pub const SYNC: u8 = 0x47;

/// A packet, seen by its fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a>(pub &'a [u8; PACKET]);

impl<'a> Packet<'a> {
    /// The number of the stream that it belongs to (PID), 13 bits.
    pub fn pid(self) -> u16 {
        u16::from_be_bytes([self.0[1] & 0x1F, self.0[2]])
    }

    /// Whether a section or a PES packet begins in it (payload_unit_start_indicator).
    pub fn starts_unit(self) -> bool {
        self.0[1] & 0x40 != 0
    }

    /// Whether it was damaged on its way (transport_error_indicator).
    pub fn is_damaged(self) -> bool {
        self.0[1] & 0x80 != 0
    }

    /// Its continuity_counter, 4 bits.
    pub fn counter(self) -> u8 {
        self.0[3] & 0xF
    }

    /// Its payload (§2.4.3.3); `None` without one, or where the adaptation field claims to be longer than the packet.
    pub fn payload(self) -> Option<&'a [u8]> {
        match self.0[3] & 0x30 {
            0x10 => self.0.get(4..),
            0x30 => self.0.get(5 + usize::from(self.0[4])..),
            _ => None,
        }
    }

    /// Its clock reference (PCR) in nanoseconds: 33 bits of 90 kHz, and 9 bits of 27 MHz (§2.4.3.5).
    pub fn pcr(self) -> Option<i64> {
        let packet = self.0;
        if packet[3] & 0x20 == 0 || packet[4] < 7 || packet[5] & 0x10 == 0 {
            return None;
        }
        let [a, b, c, d, e, f] = [6, 7, 8, 9, 10, 11].map(|i| i64::from(packet[i]));
        let base = a << 25 | b << 17 | c << 9 | d << 1 | e >> 7;
        Some((base * 300 + ((e & 1) << 8 | f)) * 1000 / 27)
    }

    /// Whether a packet with a payload is filled up with stuffing (stuffing_byte, §2.4.3.5).
    pub fn is_stuffed(self) -> bool {
        let packet = self.0;
        let length = usize::from(packet[4]);
        if packet[3] & 0x30 != 0x30 || length == 0 {
            return packet[3] & 0x30 == 0x30;
        }
        let (flags, mut used) = (packet[5], 1);
        // PCR, original PCR, splice countdown.
        for (flag, bytes) in [(0x10, 6), (0x08, 6), (0x04, 1)] {
            used += if flags & flag != 0 { bytes } else { 0 };
        }
        // Private data and the extension carry their own lengths.
        for flag in [0x02, 0x01] {
            if flags & flag != 0 {
                used += 1 + packet.get(5 + used).map_or(0, |l| usize::from(*l));
            }
        }
        // An adaptation field without any flag is as good as stuffing.
        flags == 0 || length > used
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_a_packet() {
        let mut bytes = [0xFF; PACKET];
        bytes[..5].copy_from_slice(&[SYNC, 0x41, 2, 0x10, 9]);
        let of = |bytes: &[u8; PACKET]| {
            let packet = Packet(bytes);
            (packet.pid(), packet.starts_unit(), packet.payload().map(<[u8]>::len))
        };
        assert_eq!(of(&bytes), (0x102, true, Some(184)));
        bytes[1] = 0x81;
        bytes[3] = 0x35;
        assert_eq!(of(&bytes), (0x102, false, Some(174)));
        assert!(Packet(&bytes).is_damaged() && Packet(&bytes).counter() == 5);
        for (length, left) in [(0, Some(183)), (183, Some(0)), (184, None), (255, None)] {
            bytes[4] = length;
            assert_eq!(Packet(&bytes).payload().map(<[u8]>::len), left, "{length}");
        }
        for none in [0x00, 0x20] {
            bytes[3] = none;
            assert_eq!(Packet(&bytes).payload(), None);
        }
    }
}
