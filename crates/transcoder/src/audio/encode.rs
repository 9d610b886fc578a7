//! The Opus encoder: interleaved samples in, packets of 20 ms with their time out.

use super::timeline::RATE;
use crate::error::Error;
use crate::outbox::Outbox;
use crate::strand::{Output, Strand, element, set_known};
use bytes::Bytes;
use gstreamer::{self as gst, prelude::MulDiv};
use gstreamer_audio as gst_audio;
use link::ToParent;
use model::{AudioEncoding, MediaTime};
use std::collections::VecDeque;

/// Samples of each channel in one packet: 20 ms, Opus' usual length.
const PACKET: usize = 960;

/// Opus' look-ahead at 48 kHz (`OPUS_GET_LOOKAHEAD`; RFC 7845 §4.2 names 312 samples as the usual pre-skip): what a decoder gives
/// for a packet begins this much before what was put into it, so the packet is to be played that much earlier.
const LOOKAHEAD: MediaTime = MediaTime::from_nanos(312 * 1_000_000_000 / 48_000);

/// Cuts sound into packets and encodes them.
#[derive(Debug)]
pub(crate) struct Encoder {
    strand: Strand,
    outbox: Outbox,
    channels: usize,
    pending: Vec<i16>,
    start: MediaTime,
    /// Samples of each channel that were encoded since `start`, and since ever.
    encoded: i64,
    total: u64,
    times: VecDeque<MediaTime>,
}

impl Encoder {
    /// Opens the encoder.
    ///
    /// # Errors
    /// If it is not installed.
    pub(crate) fn new(encoding: AudioEncoding, outbox: Outbox) -> Result<Self, Error> {
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
        let strand = Strand::new(vec![opus], &gst::Caps::new_empty_simple("audio/x-opus"))?;
        let info =
            gst_audio::AudioInfo::builder(gst_audio::AudioFormat::S16le, RATE, u32::from(encoding.channels)).build()?;
        strand.caps(&info.to_caps()?)?;
        Ok(Self {
            strand,
            outbox,
            channels: usize::from(encoding.channels),
            pending: Vec::new(),
            start: MediaTime::ZERO,
            encoded: 0,
            total: 0,
            times: VecDeque::new(),
        })
    }

    /// The sound that follows begins at `at`. What waits for its packet to fill goes out before, filled up with silence.
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
        self.strand.drain();
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
        self.times.push_back(self.start + MediaTime::from_ticks(self.encoded, RATE) - LOOKAHEAD);
        let mut buffer = gst::Buffer::from_mut_slice(packet.iter().flat_map(|s| s.to_le_bytes()).collect::<Vec<u8>>());
        if let Some(b) = buffer.get_mut() {
            // A count, not the time: the encoder need not know of gaps.
            b.set_pts(gst::ClockTime::SECOND.mul_div_floor(self.total, u64::from(RATE)));
        }
        self.encoded += PACKET as i64;
        self.total += PACKET as u64;
        self.strand.push(buffer)?;
        self.send();
        Ok(())
    }

    fn send(&mut self) {
        while let Some(output) = self.strand.next_output() {
            let Output::Buffer(buffer, _) = output else { continue };
            // The drained look-ahead is one more packet than was put in.
            let end = self.start + MediaTime::from_ticks(self.encoded, RATE) - LOOKAHEAD;
            let pts = self.times.pop_front().unwrap_or(end);
            let Ok(map) = buffer.map_readable() else { continue };
            let data = Bytes::copy_from_slice(&map);
            let bytes = data.len();
            self.outbox.media(ToParent::Audio { pts, data }, bytes);
        }
    }
}
