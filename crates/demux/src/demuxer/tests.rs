//! Live access units leave as early as they can.

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
