//! The highest layer of a transcoded session: the source's own video while that fits ([`passing`](crate::layers::passing)), else what its
//! encoder makes. What is decided there is carried out here: the plan's producer, the encoder's rest, and the order of what is sent.
//!
//! The source's access units are here before the encoder has made anything of them. So those that come while the encoder is to take over
//! wait for it: it takes over with a key frame that is newer than all that was sent, and no picture is lost or sent twice.

use super::Pipeline;
use crate::TopLayer;
use crate::layers::passing::{Passing, Passthrough, Top};
use crate::layers::plan::Producer;
use crate::time::now;
use model::{EncodedVideo, Frame, IngressSpec, Kind, MediaTime, VideoCodec, VideoConfig};
use publish::{AccessUnit, Output};
use std::collections::VecDeque;
use std::time::{Duration, Instant};
use tracing::{debug, info};

/// What has to come after a picture that was sent: the next one, however close.
const NEXT: MediaTime = MediaTime::from_nanos(1);
/// How long the source's access units wait for an encoder that is to take over. Chosen: it takes one picture's time and its encoding where
/// the decoder is at work, some more where that has to catch up; a viewer notices no pause below it much.
const HOLD: Duration = Duration::from_millis(200);
/// How often they wait for one encoder: each time its key frame has come too late. After that the source's next key frame is waited for.
const HOLDS: u32 = 4;
/// Access units that wait at most: HOLD at 120 a second, and some more.
const MAX_HELD: usize = 32;

/// What the pipeline knows of the highest layer.
#[derive(Debug)]
pub(super) struct TopOutput {
    passing: Passing,
    /// What is encoded for the room.
    codec: EncodedVideo,
    max_frame_rate: f64,
    /// The newest access unit of the source that was sent, and the newest of any maker.
    sent: Option<MediaTime>,
    newest: Option<MediaTime>,
    /// The source's that wait for the encoder, until when, and how often they may again.
    held: VecDeque<AccessUnit>,
    hold_until: Option<Instant>,
    holds_left: u32,
}

impl TopOutput {
    /// Of a session that begins.
    pub(super) fn new(spec: &IngressSpec, wish: Passthrough) -> Self {
        let encoding = &spec.video.encoding;
        Self {
            passing: Passing::new(wish),
            codec: encoding.codec,
            max_frame_rate: encoding.max_frame_rate,
            sent: None,
            newest: None,
            held: VecDeque::new(),
            hold_until: None,
            holds_left: 0,
        }
    }

    /// When to call [`Pipeline::release_top`].
    pub(super) fn due(&self) -> Option<Instant> {
        self.hold_until.filter(|_| !self.held.is_empty())
    }
}

impl Pipeline {
    /// The source's video is coded like this from now on.
    pub(super) fn configure_top(&mut self, config: &VideoConfig) {
        let room = match self.top.codec {
            EncodedVideo::H264 => VideoCodec::H264,
            EncodedVideo::Vp8 => VideoCodec::Vp8,
        };
        let before = self.top.passing.state();
        if self.top.passing.configure(config, room, now()) {
            self.follow_top(before);
        }
    }

    /// Another source takes over.
    pub(super) fn restart_top(&mut self, now: Instant) {
        let before = self.top.passing.state();
        if self.top.passing.restart(now) {
            self.follow_top(before);
        }
    }

    /// Whether viewers want the highest layer, whoever makes it.
    pub(super) fn top_seen(&self) -> bool {
        self.plan.top().is_some_and(|(top, _)| self.plan.wanted(top))
    }

    /// The highest layer has another size or bitrate.
    pub(super) fn resize_top(&mut self) {
        let max_frame_rate = self.top.max_frame_rate;
        self.top.passing.encoded(self.plan.top().map(|(_, layer)| Top { layer, max_frame_rate }));
    }

    /// Sends an access unit of the source as the highest layer, if it fits.
    pub(super) fn pass_top(&mut self, frame: &Frame, now: Instant) {
        let stands_still = self.ingest.stands_still(Kind::Video, now);
        let before = self.top.passing.state();
        let verdict = self.top.passing.picture(frame, stands_still, self.top.newest, now);
        if verdict.changed {
            self.follow_top(before);
        }
        let Some((top, _)) = self.plan.top().filter(|_| verdict.passes) else { return };
        if self.plan.route(Producer::Passthrough(0), frame.key).is_none() {
            return;
        }
        self.rest_top_encoder(top);
        let Some(data) = self.top.passing.rewritten(frame) else { return };
        let at = self.ingest.wall(frame.pts, now);
        self.top.held.push_back(AccessUnit { pts: frame.pts, at, key: frame.key, data, level: None });
        let waits = self.top.hold_until.is_some_and(|until| now < until) && self.top.held.len() <= MAX_HELD;
        if !waits {
            self.send_held(None);
        }
    }

    /// The source's access units wait for the encoder from now on.
    fn hold(&mut self, now: Instant) {
        if self.top.hold_until.is_none() && self.top.holds_left > 0 {
            self.top.holds_left -= 1;
            self.top.hold_until = Some(now + HOLD);
        }
    }

    /// The encoder that is to take over has not done so in time: the source's access units go on.
    pub(super) fn release_top(&mut self, now: Instant) {
        if self.top.due().is_some_and(|due| due <= now) {
            self.top.hold_until = None;
            self.send_held(None);
        }
    }

    /// Sends what waits, in order, up to this time; what is as new or newer is the encoder's.
    fn send_held(&mut self, before: Option<MediaTime>) {
        let Some((top, _)) = self.plan.top() else { return };
        let now = now();
        while let Some(unit) = self.top.held.pop_front() {
            if before.is_none_or(|before| unit.pts < before) {
                self.top.sent = Some(unit.pts);
                self.top.newest = self.top.newest.max(self.top.sent);
                self.send_unit(Output::Video(top), unit, now);
            }
        }
    }

    /// Whether an encoded picture may go out: of the highest layer none that is older than what the source's own video has brought. An
    /// encoder whose key frame comes too late for that makes another.
    pub(super) fn admits_encoded(&mut self, encoder: usize, pts: MediaTime, key: bool) -> bool {
        if self.plan.top().is_none_or(|(top, _)| top != encoder) {
            return true;
        }
        let takes_over = key && self.plan.keyframe_producer(encoder) == Some(Producer::Encoder(encoder));
        if self.top.sent.is_some_and(|sent| pts <= sent) {
            if takes_over {
                self.encode.request_keyframe(encoder);
                self.hold(now());
            }
            return false;
        }
        if takes_over {
            self.top.hold_until = None;
            self.send_held(Some(pts));
        }
        if self.plan.keyframe_producer(encoder) == Some(Producer::Encoder(encoder)) {
            self.top.newest = self.top.newest.max(Some(pts));
        }
        true
    }

    /// A viewer needs a key frame of the highest layer, which the source makes. False if it does not.
    pub(super) fn bridge_top(&mut self, output: usize, now: Instant) -> bool {
        if self.top.passing.state() != TopLayer::Passing || self.plan.top().is_none_or(|(top, _)| top != output) {
            return false;
        }
        if self.top.passing.keyframe_wanted(now) {
            self.follow_top(TopLayer::Passing);
            // A browser that pushes makes one at once; no other source can.
            self.ingest.request_keyframe(0);
        }
        true
    }

    /// The source stalls: the last picture is to be shown again, which an encoder has to do.
    pub(super) fn stall_top(&mut self, now: Instant) {
        if self.top.passing.stalls(now) {
            self.follow_top(TopLayer::Passing);
        }
    }

    /// Carries out what is decided about the highest layer; `before`: what was so far.
    fn follow_top(&mut self, before: TopLayer) {
        let (state, now) = (self.top.passing.state(), now());
        match state {
            TopLayer::Passing if before == TopLayer::Bridging => debug!("the highest layer is the source's own again"),
            TopLayer::Passing => info!("the source's own video is the highest layer now: it is not encoded again"),
            TopLayer::Bridging => debug!("the highest layer is encoded up to the source's next key frame"),
            TopLayer::Encoding(reason) => {
                let (reason, hint) = (reason.as_str(), reason.hint());
                info!(reason, hint, "the highest layer is encoded");
            }
        }
        self.observer.top_layer(state);
        let passes = state == TopLayer::Passing;
        let Some((encoder, change)) = self.plan.pass_top(passes) else { return };
        if passes {
            // The key frame that is waited for is the one that was judged.
            self.top.hold_until = None;
            return;
        }
        (self.top.hold_until, self.top.holds_left) = (None, HOLDS);
        self.hold(now);
        self.follow(change);
        // An encoder that rested begins with a key frame.
        self.encode.want(encoder, self.plan.wanted(encoder));
        if let Some(latest) = self.ingest.watched(self.plan.encoders_watched(), now) {
            // The newest picture was sent as it came.
            self.encode.encode_from(Kind::Video, latest + NEXT);
        }
        self.feed_decoder();
    }

    /// The source's own video has taken over: nobody needs the encoder's.
    fn rest_top_encoder(&mut self, top: usize) {
        if self.encode.wants(top) && self.plan.keyframe_producer(top) == Some(Producer::Passthrough(0)) {
            self.encode.want(top, false);
            self.ingest.watched(self.plan.encoders_watched(), now());
        }
    }
}
