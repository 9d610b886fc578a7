//! Streams whose packets do not say to which line of the offer they belong: no MID in a header extension, and an SSRC that the offer does
//! not name, or names wrongly. Small stacks and devices send so. Their payload types tell, as those of one transport are distinct
//! (RFC 8843 §9.1); the engine goes by MID and SSRC alone.

use super::Receiver;
use crate::offer::Common;
use crate::rtp_header::RtpHeader;
use model::Kind;
use std::time::{Duration, Instant};
use str0m::Rtc;
use str0m::media::Mid;

/// How long the stream of a line is silent before another takes its place. Anybody can write an SSRC into a packet that is not checked
/// yet; nobody takes a stream's place while it flows.
const SILENCE: Duration = Duration::from_millis(500);

/// The SSRCs heard last on each line, and when.
#[derive(Debug, Default)]
pub(super) struct Heard {
    audio: Option<(u32, Instant)>,
    video: Option<(u32, Instant)>,
}

impl Heard {
    /// Whether this SSRC is another one than the line's, which has fallen silent.
    fn is_new(&mut self, kind: Kind, ssrc: u32, now: Instant) -> bool {
        let heard = self.of(kind);
        match heard {
            Some((known, at)) if *known == ssrc => {
                *at = now;
                false
            }
            Some((_, at)) => now.saturating_duration_since(*at) >= SILENCE,
            None => true,
        }
    }

    fn of(&mut self, kind: Kind) -> &mut Option<(u32, Instant)> {
        match kind {
            Kind::Audio => &mut self.audio,
            Kind::Video => &mut self.video,
        }
    }
}

impl Receiver {
    /// Looks at a packet before the engine does, and tells the engine to which line its stream belongs if nothing else would.
    pub(super) fn mark(&mut self, rtc: &mut Rtc, data: &[u8], now: Instant) {
        let Some(header) = RtpHeader::read(data) else { return };
        let Some((kind, common, main)) = self.line(header.payload_type) else { return };
        let mid = Mid::from(common.mid.as_str());
        let marked = common.extensions.iter().any(|(id, uri)| uri.ends_with(":sdes:mid") && header.has(*id));
        if main {
            self.mark_main(rtc, kind, mid, header.ssrc, marked, now);
        } else if !marked {
            // Of retransmissions nobody knows the stream before they know the main one.
            let mut direct = rtc.direct_api();
            if let Some(main) = direct.stream_rx_by_mid(mid, None).filter(|rx| rx.rtx().is_none()).map(|rx| rx.ssrc()) {
                direct.expect_stream_rx(main, Some(header.ssrc.into()), mid, None);
            }
        }
    }

    fn mark_main(&mut self, rtc: &mut Rtc, kind: Kind, mid: Mid, ssrc: u32, marked: bool, now: Instant) {
        if !self.heard.is_new(kind, ssrc, now) {
            return;
        }
        let mut direct = rtc.direct_api();
        if !marked && direct.stream_rx(&ssrc.into()).is_none() {
            if let Some(before) = direct.stream_rx_by_mid(mid, None).map(|rx| rx.ssrc()) {
                direct.remove_stream_rx(before);
            }
            tracing::debug!(kind = kind.as_str(), ssrc, "a stream is known by its payload type alone");
            let rx = direct.expect_stream_rx(ssrc.into(), None, mid, None);
            rx.suppress_nack(!self.tracks.sends_nack(mid));
        }
        *self.heard.of(kind) = Some((ssrc, now));
    }

    /// The line that a payload type belongs to, and whether it is its main stream; `None` also where layers have ids.
    fn line(&self, payload_type: u8) -> Option<(Kind, &Common, bool)> {
        if let Some(audio) = &self.offer.audio
            && (audio.common.pt == payload_type || audio.red == Some(payload_type))
        {
            return Some((Kind::Audio, &audio.common, true));
        }
        let video = self.offer.video.as_ref().filter(|video| video.rids.is_empty())?;
        let main = video.common.pt == payload_type;
        (main || video.rtx == Some(payload_type)).then_some((Kind::Video, &video.common, main))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_flows_is_not_replaced() {
        let (mut heard, t0) = (Heard::default(), Instant::now());
        assert!(heard.is_new(Kind::Video, 1, t0));
        *heard.of(Kind::Video) = Some((1, t0));
        assert!(!heard.is_new(Kind::Video, 1, t0 + SILENCE));
        assert!(!heard.is_new(Kind::Video, 2, t0 + SILENCE * 3 / 2));
        assert!(heard.is_new(Kind::Video, 2, t0 + SILENCE * 2));
        assert!(heard.is_new(Kind::Audio, 2, t0));
    }
}
