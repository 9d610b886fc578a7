//! Media that is passed on as it comes: no transcoder stands between the source and the room, and what the room wishes goes
//! back to the source.

use super::{Driver, now};
use crate::KeyframeRequest;
use crate::lifecycle::Input;
use ipc::transcode::Command;
use model::{Kind, Layer, OpusFormat, Packet, PassthroughMedia, VideoFormat};
use publish::Output;
use tracing::{debug, info};

/// What is known of it.
#[derive(Debug, Default)]
pub(super) struct State {
    /// What will be sent, before anything of it has come.
    pub(super) expected: Option<VideoFormat>,
    video: Option<VideoFormat>,
    audio: Option<OpusFormat>,
    /// The codec and number of layers that the room was told of.
    published: Option<(VideoFormat, usize)>,
}

impl Driver {
    pub(super) fn on_passed(&mut self, passed: PassthroughMedia) {
        match passed {
            PassthroughMedia::Expected(format) => {
                if let Some(state) = &mut self.passed {
                    state.expected = Some(format);
                }
            }
            PassthroughMedia::Video(format, layers) => self.on_passed_video(format, layers),
            PassthroughMedia::Audio(format) => {
                self.facts.passed_codec(Kind::Audio, "OPUS");
                let channels = if format.stereo { 2 } else { 1 };
                if self.facts.audio_format(48_000, channels) {
                    self.report_facts();
                }
                if let Some(state) = &mut self.passed {
                    state.audio = Some(format);
                }
                self.step(Input::Decodable(Kind::Audio));
            }
            PassthroughMedia::Packets(packets) => self.on_packets(packets),
        }
    }

    fn on_passed_video(&mut self, format: VideoFormat, layers: Vec<Layer>) {
        let Some(state) = &mut self.passed else { return };
        let top = layers.last().map_or((0, 0), |l| (l.width, l.height));
        let other = |f: &VideoFormat| (f.codec, f.described) != (format.codec, format.described);
        let other_codec = state.published.as_ref().is_some_and(|(f, n)| other(f) || *n != layers.len());
        state.video = Some(format.clone());
        debug!(?format, ?layers, "source video");
        self.facts.passed_codec(Kind::Video, format.codec.rtp_name());
        if self.facts.video_format(top.0, top.1, None) {
            if self.layers.is_empty() {
                info!(width = top.0, height = top.1, "source picture");
            }
            self.report_facts();
        }
        if self.wanted.len() != layers.len() {
            self.wanted = vec![true; layers.len()];
        }
        self.layers = layers;
        if other_codec {
            self.rejoin();
        }
        self.step(Input::Decodable(Kind::Video));
    }

    /// A track can't change its codec or its number of layers: the participant comes again with new tracks.
    fn rejoin(&mut self) {
        info!("the source's video is of another kind now: joining the room again");
        let Some(room) = self.room.take() else { return };
        self.room_events = None;
        self.connected = false;
        tokio::spawn(room.leave());
        let audio = self.passed.as_ref().is_some_and(|p| p.audio.is_some());
        self.publish(model::SourceTracks { video: true, audio });
    }

    fn on_packets(&mut self, packets: Vec<Packet>) {
        let now = now();
        let mut seen = [false; 2];
        for packet in &packets {
            self.facts.count(packet.kind, packet.payload.len(), now);
            seen[usize::from(packet.kind == Kind::Video)] = true;
        }
        for (kind, _) in [Kind::Audio, Kind::Video].into_iter().zip(seen).filter(|(_, seen)| *seen) {
            self.step(Input::SourceFrame(kind));
        }
        let Some(room) = &self.room else { return };
        let Some(last) = packets.last() else { return };
        let (output, at) = (output_of(last), last.at);
        for (output, packets) in by_output(packets) {
            room.send(output, publish::Media::Packets(packets));
        }
        let sampled = if let Output::Video(layer) = output { layer + 1 } else { 0 };
        self.sent(sampled, at);
    }

    pub(super) fn want_key_frame(&mut self, layer: usize) {
        if self.passed.is_none() {
            return self.tell_child(Command::KeyFrame { layer: layer as u8 });
        }
        if let Some(source) = &self.source {
            source.keyframes.request(KeyframeRequest { layer });
        }
    }

    pub(super) fn video_format(&mut self) -> VideoFormat {
        let Some(state) = &mut self.passed else { return self.spec.video.encoding.codec.into() };
        let format = state.video.clone().unwrap_or_else(|| self.spec.video.encoding.codec.into());
        state.published = Some((format.clone(), self.layers.len()));
        format
    }

    /// Whether the sound published has two channels, and whether it may be silent for long.
    pub(super) fn opus_format(&self) -> (bool, bool) {
        match self.passed.as_ref().and_then(|p| p.audio) {
            Some(format) => (format.stereo, format.dtx),
            None => (self.spec.audio.encoding.channels > 1, self.spec.audio.encoding.dtx),
        }
    }
}

/// The output that is made of the source's stream which a packet belongs to: each goes to the one of the same kind and layer.
fn output_of(packet: &Packet) -> Output {
    match packet.kind {
        Kind::Audio => Output::Audio,
        Kind::Video => Output::Video(packet.layer),
    }
}

/// The packets of each output, in their order.
fn by_output(packets: Vec<Packet>) -> Vec<(Output, Vec<Packet>)> {
    let mut outputs: Vec<(Output, Vec<Packet>)> = Vec::new();
    for packet in packets {
        let output = output_of(&packet);
        match outputs.iter_mut().find(|(known, _)| *known == output) {
            Some((_, packets)) => packets.push(packet),
            None => outputs.push((output, vec![packet])),
        }
    }
    outputs
}
