//! Whether the source's own video goes out as the highest layer (passthrough) instead of what an encoder makes of it. Pure: access units
//! and `now` go in, decisions come out.
//!
//! | state | the highest layer is | left when |
//! |---|---|---|
//! | Encoding | encoded | enough of the source was seen that fits → Passing, at a key frame |
//! | Passing | the source's | an access unit does not fit: it is not sent → Encoding; a viewer needs a key frame → Bridging |
//! | Bridging | the source's, until the encoder's first key frame, and then encoded | the source's next key frame → Passing; an access unit does not fit, or too much is bridged → Encoding |
//!
//! Each access unit is judged, passed or not. What cost quality once is not tried again for a while.

use bytes::Bytes;
use media::{H264Stream, Unfit};
use model::{Frame, Layer, MediaTime, Rotation, VideoCodec, VideoConfig};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// A stream that does not say that nothing is reordered is watched for so many GOPs, and so long, before it passes.
const WATCHED_GOPS: u32 = 2;
const WATCHED_FOR: Duration = Duration::from_secs(2);
/// How far before its time of showing a picture may be decoded where nothing is reordered: encoders shift by a few pictures at most.
const MAX_COMPOSITION_OFFSET: MediaTime = MediaTime::from_millis(500);
/// The bitrate is a mean over this time, which is the rate control window that encoders for live streams are set to (1 or 2 s).
const RATE_WINDOW: Duration = Duration::from_secs(2);
/// How much more than the highest layer's a source's bitrate may be where no limit is configured. Chosen: half of it more is what a viewer's
/// connection that takes the layer mostly takes as well, and OBS's default of 2.5 Mbit/s for 720p is within it.
const BITRATE_BOUND: f64 = 1.5;
/// What was entered at the limit is left at this much more: a source at the limit does not go to and fro.
const HYSTERESIS: f64 = 1.2;
/// Pictures a second above those of the encoding, as a factor: rates are measured, and 30 is also 29.97.
const FRAME_RATE_BOUND: f64 = 1.1;
/// Bits within one second, as a factor of those allowed on average: more is a queue on a viewer's connection, and then loss.
const PEAK_BOUND: f64 = 2.0;
/// After it did not fit, the source is not tried again for this long; twice as long each time, up to the second.
const HOLD_OFF: Duration = Duration::from_secs(10);
const MAX_HOLD_OFF: Duration = Duration::from_secs(600);
/// A stream that has passed for this long begins with the short hold-off again.
const GOOD_AFTER: Duration = Duration::from_secs(60);
/// For how long the reason that was said stays so, once it was not seen any more: a stream may fail by several in turns.
const REASON_STAYS: Duration = Duration::from_secs(10);
/// A key frame that is due within this time is waited for. Chosen: a viewer who has just joined is not kept waiting for longer.
const SOON: Duration = Duration::from_millis(300);
/// Of this time, no more than this part may be bridged: then passing saves little, and viewers see every change.
const BRIDGED_OF: Duration = Duration::from_secs(60);
const BRIDGED_AT_MOST: Duration = Duration::from_secs(30);

/// What an operator says about passthrough.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Passthrough {
    /// Whether at all.
    pub enabled: bool,
    /// Bits a second at most; `None`: half as much again as the highest layer's.
    pub max_bitrate: Option<u64>,
    /// How far apart key frames may be.
    pub max_keyframe_interval: Duration,
}

impl Default for Passthrough {
    fn default() -> Self {
        Self { enabled: true, max_bitrate: None, max_keyframe_interval: Duration::from_secs(4) }
    }
}

/// Why the highest layer is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Too little was seen yet.
    Unknown,
    /// The source's codec is not the room's.
    Codec,
    /// Something of the stream itself.
    Stream(Unfit),
    /// Pictures that the encoder turns.
    Rotation,
    /// Its pictures are larger or smaller than the highest layer.
    Size,
    /// It has more pictures a second than the encoding.
    FrameRate,
    /// It takes more bits than the highest layer may.
    Bitrate,
    /// Key frames are too far apart.
    KeyInterval,
    /// Timestamps stand still, go back, or lie far ahead of those of decoding.
    Timestamps,
    /// So many key frames are asked for that it would be encoded most of the time.
    Bridging,
}

impl Reason {
    /// Its name in metrics and log fields.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Codec => "codec",
            Self::Stream(unfit) => unfit.as_str(),
            Self::Rotation => "rotation",
            Self::Size => "size",
            Self::FrameRate => "frame_rate",
            Self::Bitrate => "bitrate",
            Self::KeyInterval => "key_interval",
            Self::Timestamps => "timestamps",
            Self::Bridging => "bridging",
        }
    }

    /// What whoever set up the encoder can do about it; empty where nothing is.
    pub fn hint(self) -> &'static str {
        match self {
            Self::Stream(Unfit::BFrames) => "set B-frames to 0 (x264: Tune zerolatency) to save a part of a core here",
            Self::KeyInterval => "set the keyframe interval to 2 s to save a part of a core here",
            Self::Bitrate => "lower the bitrate, or raise passthrough_max_bitrate, to save a part of a core here",
            Self::Size => "send pictures of the size of the highest layer to save a part of a core here",
            Self::FrameRate => "send no more pictures a second than the encoding has to save a part of a core here",
            Self::Stream(Unfit::Profile | Unfit::Chroma | Unfit::Depth) => {
                "set the profile to high, main or baseline (4:2:0, 8 bit) to save a part of a core here"
            }
            _ => "",
        }
    }
}

/// Who makes the highest layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// An encoder, for this reason.
    Encoding(Reason),
    /// The source.
    Passing,
    /// An encoder, up to the source's next key frame.
    Bridging,
}

/// What becomes of an access unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Whether it goes out: [`Passing::rewritten`] gives what of it.
    pub(crate) passes: bool,
    /// Who makes the highest layer is decided anew.
    pub(crate) changed: bool,
}

/// The highest layer, as it would be encoded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Top {
    /// Its size and bitrate.
    pub(crate) layer: Layer,
    /// Pictures a second at most; 0: as the source.
    pub(crate) max_frame_rate: f64,
}

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Passing {
    wish: Passthrough,
    state: State,
    stream: Option<H264Stream>,
    /// What stands against the stream whatever its pictures are.
    config: Option<Reason>,
    top: Option<Top>,
    gops: Gops,
    rate: Rate,
    /// Since when all fits.
    clean: Option<(Instant, u32)>,
    last_pts: Option<MediaTime>,
    /// When the newest access unit is to be decoded.
    at: MediaTime,
    /// Not to be tried before; and how long to wait the next time.
    not_before: Option<Instant>,
    hold_off: Duration,
    since: Option<Instant>,
    /// When the reason that was said was seen last.
    reason_seen: Option<Instant>,
    bridges: Bridges,
}

impl Passing {
    /// Nothing is known of the source yet.
    pub(crate) fn new(wish: Passthrough) -> Self {
        Self {
            wish,
            state: State::Encoding(Reason::Unknown),
            stream: None,
            config: Some(Reason::Unknown),
            top: None,
            gops: Gops::default(),
            rate: Rate::default(),
            clean: None,
            last_pts: None,
            at: MediaTime::ZERO,
            not_before: None,
            hold_off: HOLD_OFF,
            since: None,
            reason_seen: None,
            bridges: Bridges::default(),
        }
    }

    /// Who makes the highest layer.
    pub(crate) fn state(&self) -> State {
        self.state
    }

    /// The video to come is coded like this. `room`: the codec of the layers that are encoded. Whether it is decided anew.
    pub(crate) fn configure(&mut self, config: &VideoConfig, room: VideoCodec, now: Instant) -> bool {
        if !self.wish.enabled {
            return false;
        }
        let codec = config.codec == VideoCodec::H264 && room == VideoCodec::H264;
        let square = config.pixel_aspect.is_none_or(|(width, height)| width == height);
        let against = match config.rotation {
            _ if !codec => Some(Reason::Codec),
            Rotation::None if square => None,
            Rotation::None => Some(Reason::Stream(Unfit::Aspect)),
            _ => Some(Reason::Rotation),
        };
        let stream = codec.then(|| H264Stream::new(&config.record));
        let same = self.stream.as_ref().zip(stream.as_ref()).is_some_and(|(before, stream)| before.same_as(stream));
        if same && self.config == against {
            return false;
        }
        (self.stream, self.config) = (stream, against);
        self.restart(now)
    }

    /// What comes next is of another source, or does not follow what came before: it is judged anew. Whether that decides anew who makes
    /// the highest layer.
    pub(crate) fn restart(&mut self, now: Instant) -> bool {
        (self.gops, self.rate, self.clean, self.last_pts) = (Gops::default(), Rate::default(), None, None);
        self.leave(self.config.unwrap_or(Reason::Unknown), false, now)
    }

    /// The highest layer would be encoded like this.
    pub(crate) fn encoded(&mut self, top: Option<Top>) {
        self.top = top;
    }

    /// An access unit of the source. `stands_still`: its timestamps do. `newest`: of what was sent as the highest layer, by whomever.
    pub(crate) fn picture(
        &mut self,
        frame: &Frame,
        stands_still: bool,
        newest: Option<MediaTime>,
        now: Instant,
    ) -> Verdict {
        let nothing = Verdict { passes: false, changed: false };
        if !self.wish.enabled {
            return nothing;
        }
        let unit = self.stream.as_mut().map(|stream| stream.look(&frame.data));
        let Some(unit) = unit else {
            let changed = self.leave(self.config.unwrap_or(Reason::Unknown), false, now);
            return Verdict { changed, ..nothing };
        };
        // Bits and key frames count by the source's clock: a network that stalls is no fault of the encoder.
        self.at = frame.dts;
        self.rate.add(unit.bytes, self.at);
        // A key frame by its flag that is none can't be the beginning of anything.
        let idr = unit.idr;
        if idr {
            self.gops.key(self.at);
        }
        let ordered = self.last_pts.is_none_or(|last| frame.pts > last);
        self.last_pts = Some(frame.pts);
        let momentary = match unit.unfit {
            Some(unfit) => Some(Reason::Stream(unfit)),
            None if frame.key && !idr => Some(Reason::Stream(Unfit::NoIdr)),
            None if !ordered || stands_still || frame.pts - frame.dts > MAX_COMPOSITION_OFFSET => {
                Some(Reason::Timestamps)
            }
            None => None,
        };
        let against = self.config.or(momentary).or_else(|| self.limits());
        if let Some(reason) = against {
            self.clean = None;
            // What the network lost comes whole again with the next key frame.
            let failed = against != Some(Reason::Stream(Unfit::Missing));
            return Verdict { changed: self.leave(reason, failed, now), ..nothing };
        }
        let (_, gops) = self.clean.get_or_insert((now, 0));
        *gops += u32::from(idr);
        // Behind what was sent it would be dropped on its way, and what builds on it shown all the same.
        let begins = idr && newest.is_none_or(|newest| frame.pts > newest);
        let changed = self.advance(begins, now);
        // An access unit without a slice is nothing to send.
        Verdict { passes: self.passes() && unit.bytes > 0, changed }
    }

    /// What is sent of an access unit that passes, as Annex B.
    pub(crate) fn rewritten(&self, frame: &Frame) -> Option<Bytes> {
        self.stream.as_ref()?.rewritten(&frame.data)
    }

    /// A viewer needs a key frame of the highest layer. True: an encoder is to make it; false: one comes soon, or nothing is passed.
    pub(crate) fn keyframe_wanted(&mut self, now: Instant) -> bool {
        if self.state != State::Passing {
            return false;
        }
        if self.gops.due_within(SOON, self.at) {
            return false;
        }
        if self.bridges.in_last(BRIDGED_OF, now) > BRIDGED_AT_MOST {
            return self.leave(Reason::Bridging, true, now);
        }
        self.state = State::Bridging;
        self.bridges.begin(now);
        true
    }

    /// The source has sent no picture for so long that the last one is to be shown again, which an encoder has to do. Whether it is
    /// decided anew.
    pub(crate) fn stalls(&mut self, now: Instant) -> bool {
        let passing = self.state == State::Passing;
        if passing {
            self.state = State::Bridging;
            self.bridges.begin(now);
        }
        passing
    }

    fn passes(&self) -> bool {
        !matches!(self.state, State::Encoding(_))
    }

    /// All fits so far. `begins`: the source may take over with this access unit. Whether that decides anew who makes the highest layer.
    fn advance(&mut self, begins: bool, now: Instant) -> bool {
        let before = self.state;
        match self.state {
            State::Encoding(_) if begins && self.may_enter(now) => {
                (self.state, self.since) = (State::Passing, Some(now));
            }
            State::Encoding(_) => {}
            State::Bridging if begins => {
                self.state = State::Passing;
                self.bridges.end(now);
            }
            State::Bridging if self.bridges.in_last(BRIDGED_OF, now) > BRIDGED_AT_MOST => {
                self.leave(Reason::Bridging, true, now);
            }
            State::Passing | State::Bridging => {}
        }
        if self.passes() && self.since.is_some_and(|since| now.saturating_duration_since(since) >= GOOD_AFTER) {
            self.hold_off = HOLD_OFF;
        }
        self.state != before
    }

    /// Whether enough was seen.
    fn may_enter(&self, now: Instant) -> bool {
        let Some((since, gops)) = self.clean.filter(|_| self.top.is_some()) else { return false };
        let held_off = self.not_before.is_some_and(|at| now < at);
        let known = self.stream.as_ref().and_then(H264Stream::never_reorders) == Some(true);
        let watched = gops > WATCHED_GOPS && now.saturating_duration_since(since) >= WATCHED_FOR;
        // The distance of key frames has to be known in any case.
        !held_off && (watched || (known && gops > 1))
    }

    /// What stands against the stream as a whole.
    fn limits(&self) -> Option<Reason> {
        // Before that is known, nothing can stand against it, and nothing is passed.
        let top = self.top?;
        let facts = self.stream.as_ref().and_then(|stream| stream.facts())?;
        let slack = if self.passes() { HYSTERESIS } else { 1.0 };
        let even = |(width, height): (u32, u32)| (width.next_multiple_of(2), height.next_multiple_of(2));
        let limit = self.wish.max_bitrate.map_or(f64::from(top.layer.bitrate) * BITRATE_BOUND, |bits| bits as f64);
        let most = if top.max_frame_rate > 0.0 { top.max_frame_rate * FRAME_RATE_BOUND } else { f64::INFINITY };
        let mean = self.rate.mean(self.at);
        let rules = [
            (even(facts.size) == (top.layer.width, top.layer.height), Reason::Size),
            (mean.is_none_or(|(pictures, _)| pictures <= most * slack), Reason::FrameRate),
            (self.gops.longest(self.at) <= self.wish.max_keyframe_interval.mul_f64(slack), Reason::KeyInterval),
            (mean.is_none_or(|(_, bits)| bits <= limit * slack), Reason::Bitrate),
            (self.rate.peak(self.at) <= limit * slack * PEAK_BOUND, Reason::Bitrate),
        ];
        rules.into_iter().find(|(holds, _)| !holds).map(|(_, reason)| reason)
    }

    /// Goes over to encoding, or says another reason for it. Whether it is decided anew.
    fn leave(&mut self, reason: Reason, failed: bool, now: Instant) -> bool {
        let passed = self.passes();
        if self.state == State::Bridging {
            self.bridges.end(now);
        }
        if passed && failed {
            self.not_before = Some(now + self.hold_off);
            self.hold_off = (self.hold_off * 2).min(MAX_HOLD_OFF);
        }
        let state = State::Encoding(reason);
        let recent = self.reason_seen.is_some_and(|seen| now.saturating_duration_since(seen) < REASON_STAYS);
        if self.state != state && !passed && recent {
            return false;
        }
        // That nothing is known is no reason that lasts.
        self.reason_seen = (reason != Reason::Unknown).then_some(now);
        std::mem::replace(&mut self.state, state) != state
    }
}

/// How far apart key frames are.
#[derive(Debug, Default)]
struct Gops {
    last: Option<MediaTime>,
    /// The newest distances.
    distances: VecDeque<Duration>,
}

impl Gops {
    const KEPT: usize = 3;

    fn key(&mut self, now: MediaTime) {
        if let Some(last) = self.last.replace(now) {
            if self.distances.len() == Self::KEPT {
                self.distances.pop_front();
            }
            self.distances.push_back((now - last).to_duration());
        }
    }

    /// The longest of the newest distances, the current one as far as it goes.
    fn longest(&self, now: MediaTime) -> Duration {
        let current = self.last.map_or(Duration::ZERO, |last| (now - last).to_duration());
        self.distances.iter().copied().max().unwrap_or_default().max(current)
    }

    /// Whether the next is to be expected within this time: where the distance is steady.
    fn due_within(&self, time: Duration, now: MediaTime) -> bool {
        let (Some(last), Some(longest)) = (self.last, self.distances.iter().max()) else { return false };
        let steady = self.distances.iter().all(|d| longest.saturating_sub(*d) < SOON / 3);
        let next = last + MediaTime::from(*longest);
        steady && next >= now && next <= now + MediaTime::from(time)
    }
}

/// Bitrate and picture rate of the stream.
#[derive(Debug, Default)]
struct Rate {
    /// When access units are to be decoded, how many, and their bytes, within the window. Those of a few milliseconds stand together.
    units: VecDeque<(MediaTime, u32, usize)>,
    began: Option<MediaTime>,
}

impl Rate {
    const TOGETHER: Duration = Duration::from_millis(5);

    fn add(&mut self, bytes: usize, now: MediaTime) {
        self.began.get_or_insert(now);
        match self.units.back_mut() {
            Some((at, units, sum)) if (now - *at).to_duration() < Self::TOGETHER => {
                (*units, *sum) = (units.saturating_add(1), sum.saturating_add(bytes));
            }
            _ => self.units.push_back((now, 1, bytes)),
        }
        while self.units.front().is_some_and(|(at, ..)| (now - *at).to_duration() > RATE_WINDOW) {
            self.units.pop_front();
        }
    }

    /// Access units and bytes of the newest time.
    fn newest(&self, time: Duration, now: MediaTime) -> (f64, f64) {
        let within = self.units.iter().filter(|(at, ..)| (now - *at).to_duration() <= time);
        within.fold((0.0, 0.0), |(units, sum), (_, n, bytes)| (units + f64::from(*n), sum + *bytes as f64))
    }

    /// Pictures and bits a second, over the window; `None` before it is full.
    fn mean(&self, now: MediaTime) -> Option<(f64, f64)> {
        let full = self.began.is_some_and(|began| (now - began).to_duration() >= RATE_WINDOW);
        let (units, bytes) = self.newest(RATE_WINDOW, now);
        full.then(|| (units / RATE_WINDOW.as_secs_f64(), bytes * 8.0 / RATE_WINDOW.as_secs_f64()))
    }

    /// Bits within the newest second.
    fn peak(&self, now: MediaTime) -> f64 {
        self.newest(Duration::from_secs(1), now).1 * 8.0
    }
}

/// When the encoder had to bridge.
#[derive(Debug, Default)]
struct Bridges {
    began: Option<Instant>,
    /// Beginning and end, the newest last.
    done: VecDeque<(Instant, Instant)>,
}

impl Bridges {
    fn begin(&mut self, now: Instant) {
        self.began = Some(now);
    }

    fn end(&mut self, now: Instant) {
        if let Some(began) = self.began.take() {
            self.done.push_back((began, now));
        }
    }

    /// How much of the time before `now` was bridged.
    fn in_last(&mut self, time: Duration, now: Instant) -> Duration {
        let from = now.checked_sub(time).unwrap_or(now);
        self.done.retain(|(_, end)| *end > from);
        let current = self.began.map(|began| (began, now));
        self.done
            .iter()
            .copied()
            .chain(current)
            .map(|(began, end)| end.saturating_duration_since(began.max(from)))
            .sum()
    }
}

#[cfg(test)]
mod tests;
