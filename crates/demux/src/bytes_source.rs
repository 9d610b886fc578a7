//! A source whose bytes the parent sends: it has the connection, and this worker the demultiplexer.
//!
//! Such a source is live. Back-pressure: while enough waits here the socket is not read, and the parent keeps what comes.

use crate::demuxer::{Demultiplexer, Tracks};
use crate::source::{Portable, Source};
use crate::time_shift;
use crate::track_queues::TrackQueues;
use bytes::Bytes;
use gstreamer as gst;
use ipc::demux::Container;
use model::Fault;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Pieces that may wait between the socket and the demultiplexer, each of at most [`ipc::demux::MAX_PIECE`] bytes: as much as the
/// socket itself holds.
const PIECES: usize = 4;

/// Makes the two ends of the bytes; without the first, they end.
pub(crate) fn input() -> (SyncSender<Bytes>, Receiver<Bytes>) {
    sync_channel(PIECES)
}

/// Opens a container whose bytes come here.
///
/// # Errors
/// If nothing here can demultiplex it.
pub(crate) fn open(container: Container, bytes: Receiver<Bytes>) -> Result<Source, Fault> {
    let kind = match container {
        Container::MpegTs => {
            gst::Caps::builder("video/mpegts").field("systemstream", true).field("packetsize", 188i32).build()
        }
    };
    let queues = TrackQueues::live_over_srt();
    let tracks = Tracks::new(&queues);
    let demux = Demultiplexer::push(&tracks, time_shift::rebased(0), &kind)?;
    let feed = move || {
        for piece in bytes {
            // Nobody else holds the piece: it is not copied.
            if !demux.push_bytes(Vec::from(piece)) {
                break;
            }
        }
        demux.finish();
        tracks.end();
    };
    queues.fill("feed", feed)?;
    Ok(Source { queues, live: true, file: None, portable: Portable::default() })
}
