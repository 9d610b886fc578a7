//! Live access units leave as early as they can, and a source may begin new streams for as long as it lasts.

use super::*;
use crate::track_queues::{Item, Next, TrackQueues};
use std::process::Command;
use std::str::FromStr;
use std::time::{Duration, Instant};

/// An MPEG-TS of video alone, as FFmpeg sends it live, cut before each access unit.
fn access_units(codec: &[&str]) -> Vec<Vec<u8>> {
    let input = ["-f", "lavfi", "-i", "testsrc2=size=320x180:rate=30:duration=3"];
    let mut command = Command::new("ffmpeg");
    command.args(["-hide_banner", "-nostdin", "-loglevel", "error"]).args(input).args(codec);
    let made = command.args(["-pix_fmt", "yuv420p", "-g", "30", "-f", "mpegts", "pipe:1"]).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let mut pieces = vec![Vec::new()];
    for packet in made.stdout.chunks(188) {
        // FFmpeg's first stream has the id 0x100; an access unit begins where payload_unit_start_indicator is set (ISO 13818-1 §2.4.3.2).
        if packet[1] & 0x5F == 0x41 && packet[2] == 0 {
            pieces.push(Vec::new());
        }
        pieces.last_mut().unwrap().extend_from_slice(packet);
    }
    pieces
}

#[test]
fn a_live_access_unit_does_not_wait_for_the_next() {
    gst::init().unwrap();
    let h264 = ["-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency"];
    let h265 = ["-c:v", "libx265", "-preset", "ultrafast", "-tune", "zerolatency", "-x265-params", "log-level=error"];
    for codec in [&h264[..], &h265] {
        let queues = TrackQueues::live();
        let kind = gst::Caps::from_str("video/mpegts,systemstream=true,packetsize=188").unwrap();
        let demux = Demultiplexer::push(&Tracks::new(&queues), time_shift::none(), &kind).unwrap();
        let pieces = access_units(codec);
        let (mut pushed, mut out, mut held) = (0, 0, Vec::new());
        for piece in pieces {
            assert!(demux.push_bytes(piece));
            pushed += 1;
            let _ = queues.chosen(Instant::now() + Duration::from_millis(1));
            while let Next::Item(_, item, _) = queues.next(i64::MAX) {
                out += usize::from(matches!(item, Item::Unit { .. }));
            }
            held.push(pushed - out);
        }
        // The first piece is what comes before the first access unit.
        // Stuffing in its last packet shows where an access unit ends; one that fits exactly waits for the next.
        assert!(held[40..].iter().all(|h| (1..=2).contains(h)), "{codec:?}: {held:?}");
        assert!(held[40..].iter().filter(|h| **h == 2).count() < 5, "{codec:?}: {held:?}");
    }
}

#[test]
fn radio_in_ogg_plays_any_number_of_titles() {
    gst::init().unwrap();
    let title = |n: usize| {
        let input = format!("sine=frequency={}:sample_rate=48000:duration=0.2", 300 + n);
        let mut command = Command::new("ffmpeg");
        command.args(["-hide_banner", "-nostdin", "-loglevel", "error", "-f", "lavfi", "-i", &input]);
        let made = command.args(["-c:a", "libopus", "-f", "ogg", "pipe:1"]).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        made.stdout
    };
    let queues = TrackQueues::live();
    let demux = Demultiplexer::push(
        &Tracks::new(&queues),
        time_shift::none(),
        &gst::Caps::from_str("application/ogg").unwrap(),
    );
    let demux = demux.unwrap();
    let titles = [title(0), title(1)];
    let mut units = Vec::new();
    for n in 0..60 {
        // Streams have serial numbers of their own: FFmpeg draws them, so each title that is sent again gets another.
        let mut ogg = titles[n % 2].clone();
        renumber(&mut ogg, n as u32 + 1);
        for piece in ogg.chunks(4096) {
            assert!(demux.push_bytes(piece.to_vec()), "title {n}");
        }
        let _ = queues.chosen(Instant::now() + Duration::from_millis(1));
        let mut count = 0;
        while let Next::Item(_, item, _) = queues.next(i64::MAX) {
            count += usize::from(matches!(item, Item::Unit { .. }));
        }
        units.push(count);
    }
    // 0.2 s are ten packets. The first title is there once the choice is made.
    assert!(units[2..].iter().all(|n| (8..=14).contains(n)), "{units:?}");
}

/// Gives the pages of an Ogg stream another serial number (RFC 3533 §6).
fn renumber(ogg: &mut [u8], serial: u32) {
    let mut at = 0;
    while at < ogg.len() {
        let segments = usize::from(ogg[at + 26]);
        let body: usize = ogg[at + 27..at + 27 + segments].iter().map(|n| usize::from(*n)).sum();
        let page = &mut ogg[at..at + 27 + segments + body];
        page[14..18].copy_from_slice(&serial.to_le_bytes());
        page[22..26].fill(0);
        let crc = page.iter().fold(0u32, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte) << 24, |crc, _| crc << 1 ^ if crc >> 31 == 1 { 0x04C1_1DB7 } else { 0 })
        });
        page[22..26].copy_from_slice(&crc.to_le_bytes());
        at += 27 + segments + body;
    }
}
