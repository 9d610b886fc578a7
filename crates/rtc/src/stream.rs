//! One encoded stream on its way out: a layer of a picture, or sound.

use crate::Frame;
use crate::payload::{H264, Payloader, Vp8, at_least};
use model::{EncodedVideo, MediaTime};
use std::time::{Duration, Instant};
use str0m::media::{Pt, Rid};
use str0m::rtp::{ExtensionValues, RtpWrite, StreamTx};

/// Ticks of a video RTP clock in a second (RFC 6184 §8.2.1, RFC 7741 §6.1).
const VIDEO_RATE: u32 = 90_000;
/// Ticks of Opus' RTP clock in a second (RFC 7587 §4.1).
const AUDIO_RATE: u32 = 48_000;

#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) rid: Option<Rid>,
    payloader: Payloader,
    rate: u32,
    /// Of the next packet. Starts below 65 536, as a receiver of SRTP takes its rollover counter to be 0 (RFC 3711 §3.3.1).
    sequence: u64,
    /// When the last frame is to be shown.
    last: Option<MediaTime>,
}

impl Stream {
    pub(crate) fn video(codec: EncodedVideo, rid: Option<&str>) -> Self {
        let payloader = match codec {
            EncodedVideo::H264 => Payloader::H264(H264::default()),
            EncodedVideo::Vp8 => Payloader::Vp8(Vp8::new(rand::random())),
        };
        Self { rid: rid.map(Rid::from), payloader, rate: VIDEO_RATE, sequence: first_sequence(), last: None }
    }

    pub(crate) fn audio() -> Self {
        Self { rid: None, payloader: Payloader::Opus, rate: AUDIO_RATE, sequence: first_sequence(), last: None }
    }

    /// Queues a frame's packets. The RTP timestamp comes from media time, so all streams of a session share one timebase,
    /// and a frame left out leaves no trace.
    pub(crate) fn write(&mut self, tx: &mut StreamTx, pt: Pt, wallclock: Instant, frame: &Frame<'_>) {
        // Wraps as RTP timestamps do (RFC 3550 §5.1).
        let timestamp = frame.pts.as_ticks(self.rate) as u32;
        let nackable = self.rate == VIDEO_RATE;
        let interval = self.last.replace(frame.pts).and_then(|last| frame.pts.since(last));
        let packets = at_least(interval.unwrap_or(Duration::ZERO));
        let sequence = &mut self.sequence;
        self.payloader.payloads(frame.data, packets, |payload, last| {
            let mut packet =
                RtpWrite::new(pt, (*sequence).into(), timestamp, wallclock, payload).marker(last).nackable(nackable);
            if let Some(level) = frame.level {
                packet = packet.ext_vals(audio_level(level));
            }
            tx.write_rtp(packet);
            *sequence += 1;
        });
    }
}

/// RFC 6464 §3. The voice bit is for detectors of speech, which we have not; the SFU looks at the level only.
fn audio_level(level: i8) -> ExtensionValues {
    ExtensionValues { audio_level: Some(level.clamp(-127, 0)), voice_activity: Some(false), ..Default::default() }
}

/// Random (RFC 3550 §5.1), in the lower half so that early packets that arrive out of order don't look like a rollover.
fn first_sequence() -> u64 {
    u64::from(rand::random::<u16>() >> 1)
}
