//! The media path of a session: from the source to the producers of the [plan](crate::layers::plan), from these to the
//! room, and requests back.

use super::Pipeline;
use super::encode::{Encoded, EncodedFrame};
use crate::layers::plan::{Change, Producer, TrackChange};
use crate::lifecycle::Input;
use crate::time::now;
use crate::workers::Gone;
use crate::{SourceEnd, SourceEvent, Status};
use model::{Blame, Fault, Frame, Kind, Media, Packet, PassthroughMedia};
use publish::{AccessUnit, Output};
use std::time::Instant;
use tracing::{debug, info, warn};

/// What a publisher hears whose timestamps stand still.
const STANDS_STILL: &str = "its timestamps stand still, so that it is shown as it comes; lips may not match";
/// What a publisher hears whose video has B-frames that are passed through.
const HAS_B_FRAMES: &str = "it has B-frames, which viewers see in the wrong order or not at all; turn them off in the encoder (bframes=0), \
                            or enable transcoding";
/// The rate of Opus in RTP (RFC 7587 §4.1).
const OPUS_RATE: u32 = 48_000;

impl Pipeline {
    pub(super) fn on_source(&mut self, event: Option<SourceEvent>) {
        match event {
            Some(SourceEvent::Media(media)) => self.on_media(media),
            Some(SourceEvent::Passthrough(media)) => self.on_passthrough(media),
            Some(SourceEvent::Splice(event)) => {
                if let Some(event) = self.ingest.splice(event, now()) {
                    self.egress.show_splice(event);
                }
            }
            Some(SourceEvent::Notice(text)) => {
                warn!(text, "the source is not as it should be");
                self.watch.notice(text);
                self.watch_tracks(now());
            }
            Some(SourceEvent::Ended(end)) => {
                self.ingest.ended();
                self.step(Input::SourceEnded(end));
            }
            None => {
                self.ingest.ended();
                let fault = Fault::transient(Blame::Us, "the connection's task ended unexpectedly; connect again");
                self.step(Input::SourceEnded(SourceEnd::Lost(fault)));
            }
        }
    }

    fn on_media(&mut self, media: Media) {
        match media {
            Media::Announced(tracks) => {
                self.watch.announced(tracks, now());
                self.step(Input::Announced(tracks));
            }
            Media::VideoConfig(config) => {
                debug!(codec = ?config.codec, size = ?config.size, "source video");
                self.watch.unusable(Kind::Video, None);
                self.step(Input::Configured(Kind::Video));
                self.reports.stats.video_codec(config.codec);
                self.ingest.video_config(now());
                self.configure_top(&config);
                if self.plan.encodes(Kind::Video) {
                    self.encode.video_config(config);
                }
            }
            Media::AudioConfig(config) => {
                debug!(codec = ?config.codec, rate = config.sample_rate, channels = config.channels, "source audio");
                self.watch.unusable(Kind::Audio, None);
                self.step(Input::Configured(Kind::Audio));
                self.reports.stats.audio_codec(config.codec);
                if self.plan.encodes(Kind::Audio) {
                    self.encode.audio_config(config);
                }
            }
            Media::Frame(frame) => self.on_frame(frame),
            Media::Unusable(kind, text) => self.unusable(kind, Fault::new(Blame::Source, text)),
        }
    }

    fn on_frame(&mut self, frame: Frame) {
        let (now, kind) = (now(), frame.kind);
        self.watch.came(kind, now);
        let taken = self.ingest.frame(frame, now);
        self.reports.stats.count(kind, taken.frame.data.len(), now);
        if self.ingest.stands_still(kind, now) {
            self.flawed(kind, STANDS_STILL, now);
        }
        if let Some(due) = taken.due {
            self.encode.catch_up(kind, due);
        }
        if taken.dropped {
            self.count_dropped();
        }
        self.pass_frame(&taken.frame, now);
        match kind {
            Kind::Audio if self.plan.encodes(Kind::Audio) => {
                if !self.encode.frame(taken.frame) {
                    self.count_dropped();
                }
            }
            Kind::Audio => {}
            Kind::Video => self.feed_decoder(),
        }
        self.step(Input::SourceFrame(kind));
    }

    /// A track can't be decoded.
    fn unusable(&mut self, kind: Kind, fault: Fault) {
        self.watch.unusable(kind, Some(fault.text.clone()));
        self.step(Input::Unusable(kind, fault));
        self.watch_tracks(now());
    }

    /// Viewers don't see a track as it is meant.
    fn flawed(&mut self, kind: Kind, why: &'static str, now: Instant) {
        if self.watch.flawed(kind, why, now) {
            warn!(text = format!("{}: {why}", kind.as_str()), "not all of the source gets through as it is meant");
            self.watch_tracks(now);
        }
    }

    /// Much of a track is damaged, or no longer is.
    fn damaged(&mut self, kind: Kind, why: Option<String>) {
        let damaged = why.is_some();
        if !self.watch.damaged(kind, why) {
            return;
        }
        match damaged {
            true => warn!(text = self.watch.text(), "much of the source comes damaged"),
            false => info!(kind = kind.as_str(), "the source comes undamaged again"),
        }
        self.watch_tracks(now());
    }

    /// Sends an access unit of the source to the output that passes it through.
    fn pass_frame(&mut self, frame: &Frame, now: Instant) {
        let output = match frame.kind {
            Kind::Audio if self.plan.passes_audio() => Output::Audio,
            Kind::Audio => return,
            // What is passed in an encoder's place is judged and rewritten first.
            Kind::Video if self.plan.may_pass_top() => return self.pass_top(frame, now),
            Kind::Video => match self.plan.route(Producer::Passthrough(0), frame.key) {
                Some(layer) => Output::Video(layer),
                None => return,
            },
        };
        let (pts, at, key) = (frame.pts, self.ingest.wall(frame.pts, now), frame.key);
        self.send_unit(output, AccessUnit { pts, at, key, data: frame.data.clone(), level: None }, now);
    }

    pub(super) fn send_unit(&mut self, output: Output, unit: AccessUnit, now: Instant) {
        let at = unit.at;
        self.send(output, publish::Media::AccessUnit(unit), at, now);
    }

    fn send(&mut self, output: Output, media: publish::Media, at: Instant, now: Instant) {
        let quality = match output {
            Output::Audio => None,
            Output::Video(layer) => self.plan.quality(layer),
        };
        self.watch.out(if output == Output::Audio { Kind::Audio } else { Kind::Video });
        let flows = self.egress.send(output, quality, media, at, now);
        if flows && self.session.status() == Status::Buffering {
            self.step(Input::MediaOut);
        }
    }

    /// Gives the decoder the access units of video whose time it is.
    pub(super) fn feed_decoder(&mut self) {
        let now = now();
        while let Some(frame) = self.ingest.next_picture(self.encode.full(), now) {
            if !self.encode.frame(frame) {
                self.count_dropped();
                self.ingest.overflow();
            }
        }
    }

    /// Brings the decoder of a new worker up to date.
    pub(super) fn replay(&mut self) {
        if let Some(from) = self.ingest.replay(now()) {
            self.encode.encode_from(Kind::Video, from);
            self.feed_decoder();
        }
    }

    fn count_dropped(&self) {
        self.observer.dropped(1);
    }

    /// When the last picture is to be shown once more; `None` while nobody would see it. A full queue is left alone.
    pub(super) fn repeat_due(&self) -> Option<Instant> {
        let seen = self.publishing() && (self.plan.encoders_seen() || self.top_seen()) && self.encode.ready();
        self.ingest.repeat_due().filter(|_| seen)
    }

    pub(super) fn repeat_picture(&mut self) {
        if self.repeat_due().is_some_and(|due| due <= now()) {
            self.stall_top(now());
        }
        if self.repeat_due().is_some()
            && let Some(at) = self.ingest.repeat(now())
        {
            self.encode.repeat(at);
        }
    }

    fn on_passthrough(&mut self, media: PassthroughMedia) {
        match media {
            PassthroughMedia::Expected(format) => self.plan.expect(format),
            PassthroughMedia::Video(format, layers) => {
                debug!(?format, ?layers, "source video");
                self.reports.stats.passthrough_codec(Kind::Video, format.codec.rtp_name());
                let top = layers.last().map_or((0, 0), |l| (l.width, l.height));
                self.source_picture(top, None);
                let change = self.plan.source_video(format, layers);
                self.follow(change);
                self.video_known();
            }
            PassthroughMedia::Audio(format) => {
                self.reports.stats.passthrough_codec(Kind::Audio, "OPUS");
                let channels = if format.stereo { 2 } else { 1 };
                if self.reports.stats.audio_format(OPUS_RATE, channels) {
                    self.stats_changed();
                }
                self.plan.source_audio(format);
                self.step(Input::Decodable(Kind::Audio));
            }
            PassthroughMedia::Packets(packets) => self.on_packets(packets),
            PassthroughMedia::Reordered => self.flawed(Kind::Video, HAS_B_FRAMES, now()),
        }
    }

    fn on_packets(&mut self, packets: Vec<Packet>) {
        let now = now();
        let mut seen = [false; 2];
        for packet in &packets {
            self.reports.stats.count(packet.kind, packet.payload.len(), now);
            seen[usize::from(packet.kind == Kind::Video)] = true;
        }
        for (kind, _) in [Kind::Audio, Kind::Video].into_iter().zip(seen).filter(|(_, seen)| *seen) {
            self.watch.came(kind, now);
            self.step(Input::SourceFrame(kind));
        }
        for (output, packets) in self.by_output(packets) {
            let Some(at) = packets.last().map(|packet| packet.at) else { continue };
            self.send(output, publish::Media::Packets(packets), at, now);
        }
    }

    /// The packets of each output, in their order. Those that no output passes through are left out.
    fn by_output(&mut self, packets: Vec<Packet>) -> Vec<(Output, Vec<Packet>)> {
        let mut outputs: Vec<(Output, Vec<Packet>)> = Vec::new();
        for packet in packets {
            let output = match packet.kind {
                Kind::Audio => self.plan.passes_audio().then_some(Output::Audio),
                Kind::Video => self.plan.route(Producer::Passthrough(packet.layer), packet.key).map(Output::Video),
            };
            let Some(output) = output else { continue };
            match outputs.iter_mut().find(|(known, _)| *known == output) {
                Some((_, packets)) => packets.push(packet),
                None => outputs.push((output, vec![packet])),
            }
        }
        outputs
    }

    pub(super) fn on_encoded(&mut self, encoded: Encoded) {
        match encoded {
            Encoded::VideoFormat { width, height, frame_rate } => {
                self.watch.unusable(Kind::Video, None);
                self.source_picture((width, height), frame_rate);
                let change = self.plan.decoded_size((width, height), now());
                self.follow(change);
                self.video_known();
            }
            Encoded::AudioFormat { sample_rate, channels } => {
                self.watch.unusable(Kind::Audio, None);
                if self.reports.stats.audio_format(sample_rate, channels) {
                    self.stats_changed();
                }
                self.step(Input::Decodable(Kind::Audio));
            }
            Encoded::Video(frame) => self.on_encoded_frame(frame),
            Encoded::VideoInOrder(frames) => frames.into_iter().for_each(|frame| self.on_encoded_frame(frame)),
            Encoded::Audio { pts, level, data } => {
                let now = now();
                let at = self.ingest.wall(pts, now);
                self.send_unit(Output::Audio, AccessUnit { pts, at, key: true, data, level: Some(level) }, now);
            }
            Encoded::Unusable { kind, fault } => self.unusable(kind, fault),
            Encoded::Damaged { kind, why } => self.damaged(kind, why),
            Encoded::Failed(fault) => self.step(Input::TranscoderFailed(fault)),
            Encoded::Finished => self.step(Input::TranscoderFinished),
            Encoded::Gone(gone) => {
                if self.session.running() {
                    warn!(?gone, "the transcoder is gone");
                }
                self.step(match gone {
                    Gone::Crashed(how) => Input::TranscoderCrashed(how),
                    Gone::NotStarted(how) => Input::TranscoderNotStarted(how),
                });
            }
        }
    }

    fn on_encoded_frame(&mut self, frame: EncodedFrame) {
        let now = now();
        let EncodedFrame { encoder, pts, key, data } = frame;
        if !self.admits_encoded(encoder, pts, key) {
            return;
        }
        let Some(layer) = self.plan.route(Producer::Encoder(encoder), key) else { return };
        let at = self.ingest.wall(pts, now);
        self.send_unit(Output::Video(layer), AccessUnit { pts, at, key, data, level: None }, now);
    }

    /// The source's pictures have this size and rate.
    fn source_picture(&mut self, (width, height): (u32, u32), frame_rate: Option<f64>) {
        if !self.plan.video_known() {
            info!(width, height, frame_rate, "source picture");
        }
        if self.reports.stats.video_format(width, height, frame_rate) {
            debug!(width, height, frame_rate, "source picture changes");
            self.stats_changed();
        }
    }

    /// Tells the lifecycle that a video track can be published, once all is known about it.
    fn video_known(&mut self) {
        if self.plan.video_known() {
            self.step(Input::Decodable(Kind::Video));
        }
    }

    /// Does what a change of the plan asks for.
    pub(super) fn follow(&mut self, change: Change) {
        if change.encoders {
            self.encode.layers(self.plan.encoder_layers());
            self.resize_top();
        }
        match change.track {
            TrackChange::None => {}
            TrackChange::Resized => self.egress.resize(self.plan.layers()),
            TrackChange::Replaced => {
                if let Some(tracks) = self.egress.leave_to_rejoin() {
                    self.publish(tracks);
                }
            }
        }
        change.keyframes.into_iter().for_each(|producer| self.request_keyframe(producer));
    }

    pub(super) fn request_keyframe(&mut self, producer: Producer) {
        match producer {
            Producer::Encoder(encoder) => self.encode.request_keyframe(encoder),
            Producer::Passthrough(layer) => self.ingest.request_keyframe(layer),
        }
    }

    pub(super) fn on_wanted(&mut self, wanted: &[bool]) {
        for (producer, wanted) in self.plan.want(wanted) {
            debug!(?producer, wanted, "layer");
            // No source can be told to send a layer or not: the publisher leaves out what nobody wants.
            if let Producer::Encoder(encoder) = producer {
                self.encode.want(encoder, wanted);
            }
        }
        self.watch.idle(Kind::Video);
        if let Some(latest) = self.ingest.watched(self.plan.encoders_watched(), now()) {
            self.encode.encode_from(Kind::Video, latest);
        }
        self.feed_decoder();
    }
}
