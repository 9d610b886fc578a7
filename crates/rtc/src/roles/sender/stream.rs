//! One encoded stream on its way out: a layer of a picture, or sound.

use crate::Frame;
use crate::descriptor::Descriptors;
use crate::payload::{H264, MAX_PAYLOAD, Payloader, Place, Red, Vp8, at_least};
use crate::pulse::Pulse;
use crate::rewrite::Rewriter;
use model::{MediaTime, Packet, VideoCodec, VideoFormat};
use std::sync::Arc;
use std::time::{Duration, Instant};
use str0m::media::{Pt, Rid};
use str0m::rtp::{ExtensionValues, RtpWrite, StreamTx, VideoOrientation};

/// Ticks of a video RTP clock in a second (RFC 6184 §8.2.1, RFC 7741 §6.1).
const VIDEO_RATE: u32 = 90_000;
/// Ticks of Opus' RTP clock in a second (RFC 7587 §4.1).
const AUDIO_RATE: u32 = 48_000;

/// What a stream's packets are sent as.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Types {
    /// The codec's payload type.
    pub(crate) plain: Pt,
    /// The one of redundant packets (RFC 2198), if that was agreed on, and how many each of them repeats.
    pub(crate) red: Option<(Pt, usize)>,
}

#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) rid: Option<Rid>,
    /// Whether what was sent last was passed on.
    pub(crate) passed_on: bool,
    /// `None` for codecs that are passed on only.
    payloader: Option<Payloader>,
    rate: u32,
    numbers: Rewriter,
    /// Of what is passed on.
    descriptors: Option<Descriptors>,
    red: Red,
    /// When the last frame is to be shown.
    last: Option<MediaTime>,
    /// Of a picture's layer.
    pub(crate) pulse: Option<Pulse>,
    /// How many bytes had been sent when the other side last reported.
    pub(crate) reported: Option<(u64, Instant)>,
}

impl Types {
    /// Payload type and payload to send this one with. Where redundancy was agreed on all packets are of its type, as the SFU
    /// goes by the first.
    fn wrap(self, red: &mut Red, at: Place, payload: Arc<[u8]>) -> (Pt, Arc<[u8]>) {
        match self.red {
            Some((pt, repeat)) => (pt, red.wrap(at, &payload, *self.plain, repeat, MAX_PAYLOAD).into()),
            None => (self.plain, payload),
        }
    }
}

impl Stream {
    /// A picture's layer of this rank, one of so many streams.
    pub(crate) fn video(format: &VideoFormat, rid: Option<&str>, rank: usize, streams: usize) -> Self {
        let payloader = match format.codec {
            VideoCodec::H264 => Some(Payloader::H264(H264::default())),
            VideoCodec::Vp8 => Some(Payloader::Vp8(Vp8::new(rand::random()))),
            _ => None,
        };
        let descriptors = Descriptors::of(format, rank, streams);
        Self { pulse: Some(Pulse::of_layer(rank)), descriptors, ..Self::new(rid.map(Rid::from), payloader, VIDEO_RATE) }
    }

    pub(crate) fn audio() -> Self {
        Self::new(None, Some(Payloader::Opus), AUDIO_RATE)
    }

    fn new(rid: Option<Rid>, payloader: Option<Payloader>, rate: u32) -> Self {
        // Starts below 65 536, as a receiver of SRTP takes its rollover counter to be 0 (RFC 3711 §3.3.1).
        let numbers = Rewriter::new(rate, first_sequence());
        Self {
            rid,
            passed_on: false,
            payloader,
            rate,
            numbers,
            descriptors: None,
            red: Red::default(),
            last: None,
            pulse: None,
            reported: None,
        }
    }

    /// Queues a frame's packets. The RTP timestamp comes from media time, so all streams of a session share one timebase,
    /// and a frame left out leaves no trace. Says how many there are.
    pub(crate) fn write(&mut self, tx: &mut StreamTx, types: Types, wallclock: Instant, frame: &Frame<'_>) -> usize {
        // Wraps as RTP timestamps do (RFC 3550 §5.1).
        let timestamp = frame.pts.as_ticks(self.rate) as u32;
        let nackable = self.rate == VIDEO_RATE;
        let interval = self.last.replace(frame.pts).and_then(|last| frame.pts.since(last));
        let packets = at_least(interval.unwrap_or(Duration::ZERO));
        let Self { payloader, numbers, red, .. } = self;
        let Some(payloader) = payloader else { return 0 };
        let mut count = 0;
        payloader.payloads(frame.data, packets, |payload, last| {
            count += 1;
            let sequence = numbers.own();
            let (pt, payload) = types.wrap(red, Place { sequence, timestamp }, payload.into());
            let mut packet =
                RtpWrite::new(pt, sequence.into(), timestamp, wallclock, payload).marker(last).nackable(nackable);
            if let Some(level) = frame.level {
                packet = packet.ext_vals(audio_level(level));
            }
            tx.write_rtp(packet);
        });
        count
    }

    /// Queues a packet that is passed on. `fresh`: packets were left out before it, which shall leave no gap. Says how many go.
    pub(crate) fn forward(
        &mut self,
        tx: &mut StreamTx,
        types: Types,
        wallclock: Instant,
        packet: &Packet,
        fresh: bool,
    ) -> usize {
        let Some(mut numbers) = self.numbers.numbers(packet, fresh) else { return 0 };
        let mut count = 1;
        if let Some(before) = &packet.before
            && let Some(moved) = self.numbers.room_before(packet, numbers)
        {
            let own = std::mem::replace(&mut numbers, moved);
            let write = RtpWrite::new(types.plain, own.sequence.into(), own.timestamp, wallclock, before.clone());
            tx.write_rtp(write.nackable(true));
            count += 1;
        }
        let mut extensions = packet.level.map(audio_level).unwrap_or_default();
        extensions.video_orientation = packet.orientation.map(VideoOrientation::from);
        if let Some(descriptor) = self.descriptors.as_mut().and_then(|d| d.next(packet, numbers)) {
            extensions.user_values.set(descriptor);
        }
        let place = Place { sequence: numbers.sequence, timestamp: numbers.timestamp };
        let (pt, payload) = types.wrap(&mut self.red, place, packet.payload.clone());
        let write = RtpWrite::new(pt, numbers.sequence.into(), numbers.timestamp, wallclock, payload)
            .marker(packet.marker)
            .nackable(true)
            .ext_vals(extensions);
        tx.write_rtp(write);
        count
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
