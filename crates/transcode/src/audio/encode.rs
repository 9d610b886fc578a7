//! The Opus encoder: interleaved samples in, packets of 20 ms with their time out.

use gstreamer::{self as gst, prelude::MulDiv};
use gstreamer_audio as gst_audio;
use ipc::transcode::Event;
use model::{AudioEncoding, MediaTime};
use std::collections::VecDeque;
use timing::sample_clock::RATE;
use worker::pad_chain::{Output, PadChain, element, into_bytes, set_known};
use worker::{Error, Events};

/// Samples of each channel in one packet: 20 ms, Opus' usual length.
const PACKET: usize = 960;

/// Opus' look-ahead at 48 kHz (`OPUS_GET_LOOKAHEAD`; RFC 7845 §4.2 names 312 samples as the usual pre-skip): what a decoder gives
/// for a packet begins this much before what was put into it, so the packet is to be played that much earlier.
const LOOKAHEAD: MediaTime = MediaTime::from_nanos(312 * 1_000_000_000 / 48_000);

/// The level of digital silence, and the lowest that can be sent (RFC 6464 §3).
const SILENCE_LEVEL: i8 = -127;

/// How loud samples are: the root of their mean square against the loudest there can be, in dBov (RFC 6464 §3).
fn level(samples: &[i16]) -> i8 {
    let energy: f64 = samples.iter().map(|&s| f64::from(s) * f64::from(s)).sum();
    let mean = energy / samples.len().max(1) as f64;
    // The cast of what lies between the bounds holds.
    (10.0 * (mean / (32_768.0 * 32_768.0)).log10()).round().clamp(f64::from(SILENCE_LEVEL), 0.0) as i8
}

/// Cuts audio into packets and encodes them.
#[derive(Debug)]
pub(crate) struct Encoder {
    chain: PadChain,
    events: Events<Event>,
    channels: usize,
    pending: Vec<i16>,
    start: MediaTime,
    /// Samples of each channel that were encoded since `start`, and since ever.
    encoded: i64,
    total: u64,
    /// When each packet inside is to be played, and how loud it is.
    inside: VecDeque<(MediaTime, i8)>,
}

impl Encoder {
    /// Opens the encoder.
    ///
    /// # Errors
    /// If it is not installed.
    pub(crate) fn new(encoding: AudioEncoding, events: Events<Event>) -> Result<Self, Error> {
        let opus = element("opusenc")?;
        set_known(
            &opus,
            &[
                ("bitrate", &encoding.bitrate.to_string()),
                ("bitrate-type", "constrained-vbr"),
                ("audio-type", "generic"),
                ("frame-size", "20"),
                ("dtx", if encoding.dtx { "true" } else { "false" }),
            ],
        );
        let chain = PadChain::new(vec![opus], &gst::Caps::new_empty_simple("audio/x-opus"))?;
        let info =
            gst_audio::AudioInfo::builder(gst_audio::AudioFormat::S16le, RATE, u32::from(encoding.channels)).build()?;
        chain.caps(&info.to_caps()?)?;
        Ok(Self {
            chain,
            events,
            channels: usize::from(encoding.channels),
            pending: Vec::new(),
            start: MediaTime::ZERO,
            encoded: 0,
            total: 0,
            inside: VecDeque::new(),
        })
    }

    /// The audio that follows begins at `at`. What waits for its packet to fill goes out before, filled up with silence.
    ///
    /// # Errors
    /// If the encoder gives up.
    pub(crate) fn restart(&mut self, at: MediaTime) -> Result<(), Error> {
        self.flush()?;
        (self.start, self.encoded) = (at, 0);
        Ok(())
    }

    /// Adds interleaved samples.
    ///
    /// # Errors
    /// If the encoder gives up.
    pub(crate) fn push(&mut self, samples: &[i16]) -> Result<(), Error> {
        self.pending.extend_from_slice(samples);
        let length = PACKET * self.channels;
        let whole = self.pending.len() / length * length;
        let packets: Vec<i16> = self.pending.drain(..whole).collect();
        packets.chunks_exact(length).try_for_each(|p| self.encode(p))
    }

    /// Lets everything out. Nothing can be pushed after that.
    ///
    /// # Errors
    /// If the encoder gives up.
    pub(crate) fn finish(mut self) -> Result<(), Error> {
        self.flush()?;
        self.chain.drain();
        self.send();
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        if !self.pending.is_empty() {
            let missing = PACKET * self.channels - self.pending.len();
            self.push(&vec![0; missing])?;
        }
        Ok(())
    }

    fn encode(&mut self, packet: &[i16]) -> Result<(), Error> {
        let pts = self.start + MediaTime::from_ticks(self.encoded, RATE) - LOOKAHEAD;
        self.inside.push_back((pts, level(packet)));
        let mut buffer = gst::Buffer::from_mut_slice(packet.iter().flat_map(|s| s.to_le_bytes()).collect::<Vec<u8>>());
        if let Some(b) = buffer.get_mut() {
            // A count, not the time: the encoder need not know of gaps.
            b.set_pts(gst::ClockTime::SECOND.mul_div_floor(self.total, u64::from(RATE)));
        }
        self.encoded += PACKET as i64;
        self.total += PACKET as u64;
        self.chain.push(buffer)?;
        self.send();
        Ok(())
    }

    fn send(&mut self) {
        while let Some(output) = self.chain.next_output() {
            let Output::Buffer(buffer, _) = output else { continue };
            // The drained look-ahead is one more packet than was put in.
            let end = self.start + MediaTime::from_ticks(self.encoded, RATE) - LOOKAHEAD;
            let (pts, level) = self.inside.pop_front().unwrap_or((end, SILENCE_LEVEL));
            let Some(data) = into_bytes(buffer) else { continue };
            self.events.offer(&Event::AudioPacket { pts, level, data });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_those_of_the_rfc() {
        assert_eq!(level(&[i16::MIN; 960]), 0, "as loud as can be");
        assert_eq!(level(&[0; 960]), SILENCE_LEVEL);
        assert_eq!(level(&[]), SILENCE_LEVEL);
        assert_eq!(level(&[1; 960]), -90);
        let tone: Vec<i16> = (0..960).map(|n| ((f64::from(n) * 0.1).sin() * 32_767.0) as i16).collect();
        assert_eq!(level(&tone), -3, "a full sine lies 3 dB below a full square");
    }
}
