//! Packets to be passed through: each leaves with its stream, its layer and what its payload says.

use super::{MAX_EVENTS, Received, Receiver};
use crate::descriptor::Descriptor;
use crate::red::split_blocks;
use model::{Kind, Packet, PassthroughMedia};
use std::time::Instant;
use str0m::Rtc;
use str0m::rtp::{RtpPacket, Ssrc};

impl Receiver {
    /// Takes a packet of the engine's, which hands each out once.
    pub(super) fn on_packet(&mut self, rtc: &mut Rtc, packet: RtpPacket) {
        let now = packet.timestamp;
        let Some((kind, index)) = self.find_stream(rtc, packet.header.ssrc) else { return };
        let Some(stream) = self.tracks.of(kind).and_then(|track| track.streams.get_mut(index)) else { return };
        let at = self.clock.captured_at(&mut stream.timestamps, packet.header.timestamp, now);
        let (mut key, mut before) = (true, None);
        if kind == Kind::Video {
            self.note_rate(index, &packet, at);
            (key, before) = self.inspect(index, &packet);
            self.watch_order(index, &packet);
        }
        self.settle_layers(now);
        let layer = if kind == Kind::Video { self.layers.rank(index) } else { Some(0) };
        // Media that nobody takes any more is not kept either.
        let (Some(layer), false) = (layer, self.over || self.packets.len() >= MAX_EVENTS) else { return };
        let is_red = kind == Kind::Audio && *packet.header.payload_type != self.opus_payload_type();
        let extensions = &packet.header.ext_vals;
        let packet = Packet {
            kind,
            layer,
            stream: u64::from(self.session) << 32 | u64::from(*packet.header.ssrc),
            sequence: *packet.seq_no,
            timestamp: packet.header.timestamp,
            at,
            marker: packet.header.marker,
            key,
            level: extensions.audio_level,
            orientation: extensions.video_orientation.map(|o| o as u8),
            descriptor: extensions.user_values.get::<Descriptor>().map(|d| d.0.clone()),
            before,
            payload: packet.payload,
        };
        if is_red {
            self.unwrap_red(&packet, now);
        } else if kind == Kind::Video || self.is_new(&packet) {
            self.packets.push(packet);
        }
    }

    /// Lets the rate estimate know of a packet's delay and of the gap before it.
    fn note_rate(&mut self, index: usize, packet: &RtpPacket, at: Instant) {
        let Some(rate) = &mut self.rate else { return };
        let Some(stream) = self.tracks.video.as_mut().and_then(|track| track.streams.get_mut(index)) else { return };
        let expected = stream.newest.map_or(*packet.seq_no, |newest| newest + 1);
        if *packet.seq_no >= expected {
            rate.packet((*packet.seq_no - expected).min(MAX_EVENTS as u64));
            stream.newest = Some(*packet.seq_no);
        }
        rate.delayed(packet.timestamp.saturating_duration_since(at));
    }

    /// Looks into a video packet: whether a key frame begins with it, and the parameter sets to put before it.
    fn inspect(&mut self, index: usize, packet: &RtpPacket) -> (bool, Option<std::sync::Arc<[u8]>>) {
        let stream = self.tracks.video.as_mut().and_then(|track| track.streams.get_mut(index));
        let (Some(video), Some(stream)) = (&self.offer.video, stream) else { return (true, None) };
        let timestamp = packet.header.timestamp;
        let before = stream.parameter_sets.before(video.format.codec, &packet.payload, timestamp);
        let Some(inspector) = &mut stream.inspector else { return (true, before) };
        let seen = inspector.look(&packet.payload, timestamp);
        stream.key_wanted &= !seen.key;
        if let Some(size) = seen.size {
            self.layers.sized(index, size, packet.timestamp);
        }
        (seen.key, before)
    }

    /// Tells of B-frames.
    fn watch_order(&mut self, index: usize, packet: &RtpPacket) {
        let stream = self.tracks.video.as_mut().and_then(|track| track.streams.get_mut(index));
        if stream.is_some_and(|s| s.order.reordered(*packet.seq_no, packet.header.timestamp, packet.timestamp)) {
            self.tell(Received::Passthrough(PassthroughMedia::Reordered));
        }
    }

    /// The payload type of Opus without redundancy.
    fn opus_payload_type(&self) -> u8 {
        self.offer.audio.as_ref().map_or(0, |a| a.common.pt)
    }

    /// Whether an audio packet has not come before, be it as a redundant block of another.
    fn is_new(&mut self, packet: &Packet) -> bool {
        let redundant = self.offer.audio.as_ref().is_some_and(|a| a.red.is_some());
        let stream = self.tracks.audio.as_mut().and_then(|track| track.streams.first_mut());
        !redundant || stream.is_some_and(|s| s.history.insert(packet.sequence, packet.timestamp))
    }

    /// Takes a RED packet (RFC 2198) apart: what it repeats goes first, where it did not come by itself.
    fn unwrap_red(&mut self, packet: &Packet, now: Instant) {
        let Some((redundant, primary)) = split_blocks(&packet.payload, self.opus_payload_type()) else { return };
        if !self.is_new(packet) {
            return;
        }
        let Some(stream) = self.tracks.audio.as_mut().and_then(|track| track.streams.first_mut()) else { return };
        for (i, (offset, block)) in redundant.iter().enumerate() {
            let timestamp = packet.timestamp.wrapping_sub(*offset);
            let back = redundant.len() - i;
            let Some(sequence) = stream.history.lost_sequence(packet.sequence, back, timestamp) else { continue };
            if stream.history.insert(sequence, timestamp) {
                let at = self.clock.captured_at(&mut stream.timestamps, timestamp, now);
                let payload = (*block).into();
                let lost = Packet { sequence, timestamp, at, marker: false, level: None, payload, ..packet.clone() };
                self.packets.push(lost);
            }
        }
        if !primary.is_empty() {
            self.packets.push(Packet { payload: primary.into(), ..packet.clone() });
        }
    }

    /// Which stream an SSRC is; a new one starts its stream's numbering again.
    fn find_stream(&mut self, rtc: &mut Rtc, ssrc: Ssrc) -> Option<(Kind, usize)> {
        if let Some(found) = self.tracks.by_ssrc(ssrc) {
            return Some(found);
        }
        let mut direct = rtc.direct_api();
        let rx = direct.stream_rx(&ssrc)?;
        let (mid, rid) = (rx.mid(), rx.rid());
        let found = self.tracks.begin_stream(ssrc, mid, rid)?;
        if self.tracks.sends_nack(mid) {
            rx.suppress_nack(false);
        }
        Some(found)
    }
}
