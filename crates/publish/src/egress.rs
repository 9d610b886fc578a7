//! Media that leaves for the SFU: what of it goes out (the [`Gate`], the [`Uplink`], muting) and when (audio pacing, and video
//! beside it). Pure: media, what the room and the network say, and `now` go in; what is to be sent comes out.
//!
//! Each output may have a producer of its own. Access units of audio are paced, and video of whichever shape is held beside them.
//! Packets of audio keep the pace of their source: a jitter buffer here would delay more than it saves.

use crate::gate::{Gate, Passed, Unit};
use crate::uplink::{Decision, Uplink};
use crate::{AccessUnit, Media, Output};
use model::{Kind, Packet};
use std::time::Instant;
use timing::audio_pacer::AudioPacer;
use timing::av_aligner::AvAligner;

/// What is to be sent.
#[derive(Debug)]
pub(crate) enum Outgoing {
    AccessUnit(Output, AccessUnit),
    /// A packet, which names its output, and whether others of its stream were left out before it.
    Packet(Packet, bool),
}

/// Which layers go out, and which of them need a key frame for it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LayerChange {
    pub(crate) wanted: Vec<bool>,
    pub(crate) keyframes: Vec<usize>,
}

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Egress {
    gate: Gate,
    uplink: Uplink,
    /// Which layers the room wants, whether the uplink carries them or not.
    wanted: Vec<bool>,
    audio_muted: bool,
    /// Packets of audio were left out since the last one that went out.
    audio_gap: bool,
    audio: AudioPacer<AccessUnit>,
    video: AvAligner<(usize, Media)>,
}

impl Egress {
    /// `layers`: layers of the video track; 0 while there is none.
    pub(crate) fn new(layers: usize) -> Self {
        Self {
            gate: Gate::new(layers),
            uplink: Uplink::new(layers),
            wanted: vec![true; layers],
            audio_muted: false,
            audio_gap: false,
            audio: AudioPacer::new(),
            video: AvAligner::new(),
        }
    }

    /// There is a video track of so many layers. A track can't change them: only the first call counts.
    pub(crate) fn add_video(&mut self, layers: usize) {
        if self.gate.is_empty() {
            (self.gate, self.uplink, self.wanted) = (Gate::new(layers), Uplink::new(layers), vec![true; layers]);
        }
    }

    /// Takes media. `audio_ready` says whether packets of audio would be sent now. Call [`Egress::due`] afterwards.
    pub(crate) fn take(
        &mut self,
        output: Output,
        media: Media,
        audio_ready: bool,
        now: Instant,
        out: &mut Vec<Outgoing>,
    ) {
        match (output, media) {
            (Output::Audio, Media::AccessUnit(unit)) => self.audio.push(unit.at, now, unit),
            (Output::Audio, Media::Packets(packets)) => self.audio_packets(packets, audio_ready, out),
            (Output::Video(layer), media) => {
                let at = match &media {
                    Media::AccessUnit(unit) => Some(unit.at),
                    Media::Packets(packets) => packets.first().map(|packet| packet.at),
                };
                if let Some(at) = at {
                    self.video.push(at, self.audio.hold(now), now, (layer, media));
                }
            }
        }
    }

    /// Gives what is due.
    pub(crate) fn due(&mut self, now: Instant, out: &mut Vec<Outgoing>) {
        while let Some(unit) = self.audio.pop(now) {
            if !self.audio_muted {
                out.push(Outgoing::AccessUnit(Output::Audio, unit));
            }
        }
        while let Some((layer, media)) = self.video.pop(now) {
            match media {
                Media::AccessUnit(unit) => out.extend(self.gate.pass(layer, Unit::AccessUnit(unit)).map(departure)),
                Media::Packets(packets) => {
                    let units = packets.into_iter().map(Unit::Packet);
                    out.extend(units.filter_map(|unit| self.gate.pass(layer, unit)).map(departure));
                }
            }
        }
    }

    /// When [`Egress::due`] will have something.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        [self.audio.deadline(), self.video.deadline()].into_iter().flatten().min()
    }

    /// The connection takes video now. Gives what has waited for it, and the layers that need a key frame.
    pub(crate) fn connect(&mut self) -> (Vec<Outgoing>, Vec<usize>) {
        let (waited, lacking) = self.gate.connect();
        (waited.into_iter().map(departure).collect(), lacking)
    }

    /// The connection takes nothing any more.
    pub(crate) fn disconnect(&mut self) {
        self.gate.disconnect();
    }

    /// The room mutes or unmutes a track. Gives the layers that need a key frame.
    pub(crate) fn mute(&mut self, kind: Kind, muted: bool) -> Vec<usize> {
        match kind {
            Kind::Video => self.gate.mute(muted),
            Kind::Audio => {
                self.audio_muted = muted;
                Vec::new()
            }
        }
    }

    /// Whether anybody watches each layer.
    pub(crate) fn want(&mut self, wanted: Vec<bool>) -> LayerChange {
        self.wanted = wanted;
        self.change()
    }

    /// The SFU reports on a layer: so many kbit/s were sent, and so many thousandths of them were lost. Gives what is decided on that,
    /// and what it changes.
    pub(crate) fn report(
        &mut self,
        layer: usize,
        kbits: u32,
        lost: u32,
        now: Instant,
    ) -> Option<(Decision, LayerChange)> {
        let decision = self.uplink.report(layer, kbits, lost, now)?;
        Some((decision, self.change()))
    }

    /// Applies what is wanted and what the uplink carries.
    fn change(&mut self) -> LayerChange {
        let wanted: Vec<_> = self.wanted.iter().enumerate().map(|(l, w)| *w && self.uplink.allows(l)).collect();
        let keyframes = self.gate.want(&wanted);
        LayerChange { wanted, keyframes }
    }

    fn audio_packets(&mut self, packets: Vec<Packet>, ready: bool, out: &mut Vec<Outgoing>) {
        for packet in packets {
            if ready && !self.audio_muted {
                let packet = Packet { kind: Kind::Audio, layer: 0, ..packet };
                out.push(Outgoing::Packet(packet, std::mem::take(&mut self.audio_gap)));
            } else {
                self.audio_gap = true;
            }
        }
    }
}

/// What a gate lets through, to its output.
fn departure(passed: Passed) -> Outgoing {
    let Passed { layer, unit, resumes } = passed;
    match unit {
        Unit::AccessUnit(unit) => Outgoing::AccessUnit(Output::Video(layer), unit),
        Unit::Packet(packet) => Outgoing::Packet(Packet { kind: Kind::Video, layer, ..packet }, resumes),
    }
}

#[cfg(test)]
mod tests;
