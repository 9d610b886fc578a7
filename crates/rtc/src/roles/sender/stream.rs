//! One RTP stream on its way out: a video layer, or audio.

use super::rewriter::Rewriter;
use super::stream_tracker::{StreamTracker, min_packets};
use crate::codec::{OPUS_CLOCK_RATE, VIDEO_CLOCK_RATE};
use crate::descriptor::{Descriptors, FrameStamp};
use crate::payload::{H264, MAX_PAYLOAD, Payloader, Vp8};
use crate::red::{RedEncoder, RtpPosition};
use model::{MediaTime, Packet, VideoCodec, VideoFormat};
use std::sync::Arc;
use std::time::{Duration, Instant};
use str0m::media::{Pt, Rid};
use str0m::rtp::{ExtensionValues, RtpWrite, StreamTx, VideoOrientation};

/// Packets kept for retransmission (RTX, RFC 4588), per stream: 3 s of a layer at 5 Mbit/s are 1 600, and what is asked for later
/// than that comes too late for any viewer.
const RTX_PACKETS: usize = 2_000;
const RTX_AGE: Duration = Duration::from_secs(3);
/// How much of the last second's bytes may be retransmissions. The engine's own limit (0.15) refuses to repair a key frame of a
/// small layer, which is a quarter of that layer's second.
const RTX_SHARE: f32 = 0.3;
/// The same for passthrough: each packet once more. livekit-server (1.13.5) drops packets whose timestamps go back as their
/// sequence numbers go on, as those of B-frames do, asks for them, and takes them as retransmissions.
const RTX_SHARE_PASSTHROUGH: f32 = 0.5;

/// What a report may say of one layer: more than a machine sends, and of three layers a thousandfold fits into 32 bits.
const MAX_REPORTED_KBITS: u32 = 1_000_000;

/// A frame to send.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// When it is to be shown or heard.
    pub pts: MediaTime,
    /// The wall clock of `pts`: sender reports map the one to the other with it (RFC 3550 §6.4.1).
    pub at: Instant,
    /// The access unit: H.264 as Annex B, VP8 as one frame, Opus as one packet.
    pub data: &'a [u8],
    /// Loudness in dBov, of audio where known.
    pub level: Option<i8>,
}

/// What a stream's packets are sent as.
#[derive(Clone, Copy, Debug)]
pub(super) struct PayloadTypes {
    /// The codec's payload type.
    pub(super) plain: Pt,
    /// The one of RED (RFC 2198), if that was agreed on, and how many packets each of them repeats.
    pub(super) red: Option<(Pt, usize)>,
}

impl PayloadTypes {
    /// Payload type and payload to send this one with. Where RED was agreed on all packets are of its type, as the SFU goes by
    /// the first.
    fn wrap(self, red: &mut RedEncoder, at: RtpPosition, payload: Arc<[u8]>) -> (Pt, Arc<[u8]>) {
        match self.red {
            Some((pt, level)) => (pt, red.wrap(at, &payload, *self.plain, level, MAX_PAYLOAD).into()),
            None => (self.plain, payload),
        }
    }
}

/// Where packets of a stream go.
pub(super) struct Outlet<'a> {
    pub(super) tx: &'a mut StreamTx,
    pub(super) types: PayloadTypes,
    /// The wall clock to report for them.
    pub(super) wallclock: Instant,
}

#[derive(Debug)]
pub(super) struct Stream {
    pub(super) rid: Option<Rid>,
    /// Whether what was sent last was passed through.
    passthrough: bool,
    /// `None` for codecs that are only passed through.
    payloader: Option<Payloader>,
    clock_rate: u32,
    rewriter: Rewriter,
    /// Of what is passed through.
    descriptors: Option<Descriptors>,
    red: RedEncoder,
    last_pts: Option<MediaTime>,
    /// Of video layers.
    tracker: Option<StreamTracker>,
    /// How many bytes had been sent when the other side last reported, and when that was.
    reported: Option<(u64, Instant)>,
}

impl Stream {
    /// A video layer of this rank (lowest 0), one of so many streams.
    pub(super) fn video(format: &VideoFormat, rid: Option<&str>, rank: usize, streams: usize) -> Self {
        let payloader = match format.codec {
            VideoCodec::H264 => Some(Payloader::H264(H264::default())),
            VideoCodec::Vp8 => Some(Payloader::Vp8(Vp8::new(rand::random()))),
            _ => None,
        };
        let descriptors = Descriptors::of(format, rank, streams);
        let tracker = Some(StreamTracker::of_layer(rank));
        Self { tracker, descriptors, ..Self::new(rid.map(Rid::from), payloader, VIDEO_CLOCK_RATE) }
    }

    pub(super) fn audio() -> Self {
        Self::new(None, Some(Payloader::Opus), OPUS_CLOCK_RATE)
    }

    fn new(rid: Option<Rid>, payloader: Option<Payloader>, clock_rate: u32) -> Self {
        Self {
            rid,
            passthrough: false,
            payloader,
            clock_rate,
            rewriter: Rewriter::new(clock_rate, first_sequence()),
            descriptors: None,
            red: RedEncoder::default(),
            last_pts: None,
            tracker: None,
            reported: None,
        }
    }

    /// Queues a frame's packets. The RTP timestamp comes from media time, so all streams of a session share one timebase,
    /// and a frame left out leaves no trace. Gives how many there are.
    pub(super) fn write(&mut self, outlet: Outlet<'_>, frame: &Frame<'_>) -> usize {
        let Outlet { tx, types, wallclock } = outlet;
        // Wraps as RTP timestamps do (RFC 3550 §5.1).
        let timestamp = frame.pts.as_ticks(self.clock_rate) as u32;
        let nackable = self.clock_rate == VIDEO_CLOCK_RATE;
        let interval = self.last_pts.replace(frame.pts).and_then(|last| frame.pts.since(last));
        let at_least = min_packets(interval.unwrap_or(Duration::ZERO));
        let Self { payloader, rewriter, red, .. } = self;
        let Some(payloader) = payloader else { return 0 };
        let mut count = 0;
        payloader.payloads(frame.data, at_least, |payload, last| {
            count += 1;
            let sequence = rewriter.next_own();
            let (pt, payload) = types.wrap(red, RtpPosition { sequence, timestamp }, payload.into());
            let mut packet =
                RtpWrite::new(pt, sequence.into(), timestamp, wallclock, payload).marker(last).nackable(nackable);
            if let Some(level) = frame.level {
                packet = packet.ext_vals(audio_level(level));
            }
            tx.write_rtp(packet);
        });
        count
    }

    /// Queues a packet that is passed through. `fresh`: packets were left out before it, which shall leave no gap. Gives how many
    /// go.
    pub(super) fn forward(&mut self, outlet: Outlet<'_>, packet: &Packet, fresh: bool) -> usize {
        let Outlet { tx, types, wallclock } = outlet;
        let Some(mut numbers) = self.rewriter.rewrite(packet, fresh) else { return 0 };
        let mut count = 1;
        if let Some(before) = &packet.before
            && let Some(moved) = self.rewriter.insert_before(packet, numbers)
        {
            let own = std::mem::replace(&mut numbers, moved);
            let write = RtpWrite::new(types.plain, own.sequence.into(), own.timestamp, wallclock, before.clone());
            tx.write_rtp(write.nackable(true));
            count += 1;
        }
        let mut extensions = packet.level.map(audio_level).unwrap_or_default();
        extensions.video_orientation = packet.orientation.map(VideoOrientation::from);
        let stamp = FrameStamp { timestamp: numbers.timestamp, restarted: numbers.restarted };
        if let Some(descriptor) = self.descriptors.as_mut().and_then(|d| d.next(packet, stamp)) {
            extensions.user_values.set(descriptor);
        }
        let position = RtpPosition { sequence: numbers.sequence, timestamp: numbers.timestamp };
        let (pt, payload) = types.wrap(&mut self.red, position, packet.payload.clone());
        let write = RtpWrite::new(pt, numbers.sequence.into(), numbers.timestamp, wallclock, payload)
            .marker(packet.marker)
            .nackable(true)
            .ext_vals(extensions);
        tx.write_rtp(write);
        count
    }

    /// From now on packets are passed through, or made of frames.
    pub(super) fn set_passthrough(&mut self, tx: &mut StreamTx, passthrough: bool) {
        if std::mem::replace(&mut self.passthrough, passthrough) != passthrough {
            self.clear_retransmissions(tx);
        }
    }

    /// What is sent from now on can be sent again, and nothing that was sent before.
    pub(super) fn clear_retransmissions(&self, tx: &mut StreamTx) {
        let share = if self.passthrough { RTX_SHARE_PASSTHROUGH } else { RTX_SHARE };
        tx.set_rtx_cache(RTX_PACKETS, RTX_AGE, Some(share));
    }

    /// So many packets are sent. Whether they show that the layer is back, see [`StreamTracker::count`].
    pub(super) fn count(&mut self, packets: usize, now: Instant) -> bool {
        self.tracker.as_mut().is_some_and(|tracker| tracker.count(packets, now))
    }

    /// See [`StreamTracker::pause`].
    pub(super) fn pause(&mut self) {
        if let Some(tracker) = &mut self.tracker {
            tracker.pause();
        }
    }

    /// So many bytes were sent in all, and of the last packets so much was lost (0 to 1), if there is a new receiver report. Gives
    /// the bit rate since the last report, in kbit/s, and the loss in thousandths.
    pub(super) fn report(&mut self, bytes: u64, loss: Option<f32>, now: Instant) -> Option<(u32, u32)> {
        let Some(loss) = loss else {
            if let Some((reported, at)) = &mut self.reported
                && *reported == bytes
            {
                // A time in which nothing was sent is none to compute a rate from.
                *at = now;
            }
            return None;
        };
        let (reported, at) = self.reported.replace((bytes, now))?;
        let ms = now.saturating_duration_since(at).as_millis().max(1);
        let kbits = u128::from(bytes.saturating_sub(reported)) * 8 / ms;
        let kbits = u32::try_from(kbits).unwrap_or(MAX_REPORTED_KBITS).min(MAX_REPORTED_KBITS);
        Some((kbits, (loss.clamp(0.0, 1.0) * 1000.0) as u32))
    }
}

/// RFC 6464 §3. The voice bit is for detectors of speech, which we have not; the SFU looks at the level only.
fn audio_level(level: i8) -> ExtensionValues {
    ExtensionValues { audio_level: Some(level.clamp(-127, 0)), voice_activity: Some(false), ..Default::default() }
}

/// Random (RFC 3550 §5.1), in the lower half: early packets that arrive out of order don't look like a rollover then, and the
/// rollover counter that a receiver of SRTP takes to be 0 is right (RFC 3711 §3.3.1).
fn first_sequence() -> u64 {
    u64::from(rand::random::<u16>() >> 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_tell_rate_and_loss() {
        let (mut stream, start) = (Stream::audio(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(stream.report(1_000, Some(0.5), at(0)), None, "nothing to compare with");
        assert_eq!(stream.report(126_000, Some(0.25), at(1_000)), Some((1_000, 250)));
        assert_eq!(stream.report(126_000, None, at(9_000)), None);
        assert_eq!(
            stream.report(251_000, Some(7.0), at(10_000)),
            Some((1_000, 1_000)),
            "a pause is no time to send in"
        );
    }
}
