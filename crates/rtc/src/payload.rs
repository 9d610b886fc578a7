//! Payload formats: cuts encoded frames into RTP payloads. Pure: bytes in, payloads out; sequence numbers and timestamps are the
//! stream's.

mod h264;
mod split;
mod vp8;

pub use h264::H264;
pub use split::MAX_PAYLOAD;
pub use vp8::Vp8;

/// Bytes of an Opus packet at most: one packet is one payload (RFC 7587 §4.2), and IP fragments get lost. 1275 is the
/// longest single frame (RFC 6716 §3.2.1).
pub const MAX_OPUS: usize = 1275 + 4;

/// Cuts the frames of one encoded stream. Holds what the stream's packets have in common.
#[derive(Debug)]
pub enum Payloader {
    /// H.264 from Annex B access units.
    H264(H264),
    /// VP8 from whole frames.
    Vp8(Vp8),
    /// Opus, one packet each.
    Opus,
}

impl Payloader {
    /// Hands each payload of `frame` to `send`, in order, with whether it is the frame's last. Video is cut into `at_least` so
    /// many payloads, if it has as many bytes. A frame that holds nothing sendable yields no payload.
    pub fn payloads(&mut self, frame: &[u8], at_least: usize, send: impl FnMut(&[u8], bool)) {
        match self {
            Self::H264(p) => p.payloads(frame, MAX_PAYLOAD, at_least, send),
            Self::Vp8(p) => p.payloads(frame, MAX_PAYLOAD, at_least, send),
            Self::Opus => opus(frame, send),
        }
    }
}

/// RFC 7587 §4.2: the packet is the payload. The marker says "talk spurt begins" (RFC 3551 §4.1), which an encoded packet
/// does not tell, so it is never set.
fn opus(packet: &[u8], mut send: impl FnMut(&[u8], bool)) {
    if !packet.is_empty() && packet.len() <= MAX_OPUS {
        send(packet, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opus_is_one_payload_or_none() {
        let mut got = Vec::new();
        opus(&[1, 2, 3], |p, last| got.push((p.to_vec(), last)));
        opus(&[], |p, last| got.push((p.to_vec(), last)));
        opus(&[0; MAX_OPUS + 1], |p, last| got.push((p.to_vec(), last)));
        assert_eq!(got, [(vec![1, 2, 3], false)]);
    }
}
