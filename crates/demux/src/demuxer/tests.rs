//! What comes live leaves as early as it can.

use super::*;
use crate::track_queues::{Item, Next};
use std::process::Command;
use std::time::{Duration, Instant};

/// An MPEG-TS of pictures alone, as FFmpeg sends it live, picture by picture.
fn pictures(codec: &[&str]) -> Vec<Vec<u8>> {
    let input = ["-f", "lavfi", "-i", "testsrc2=size=320x180:rate=30:duration=3"];
    let mut command = Command::new("ffmpeg");
    command.args(["-hide_banner", "-nostdin", "-loglevel", "error"]).args(input).args(codec);
    let made = command.args(["-pix_fmt", "yuv420p", "-g", "30", "-f", "mpegts", "pipe:1"]).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let mut pieces = vec![Vec::new()];
    for packet in made.stdout.chunks(188) {
        // FFmpeg's first stream has the id 0x100; its pictures begin where a packet says so (ISO 13818-1 §2.4.3.2).
        if packet[1] & 0x5F == 0x41 && packet[2] == 0 {
            pieces.push(Vec::new());
        }
        pieces.last_mut().unwrap().extend_from_slice(packet);
    }
    pieces
}

#[test]
fn a_live_picture_is_not_held_for_the_next_one() {
    gst::init().unwrap();
    let h264 = ["-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency"];
    let h265 = ["-c:v", "libx265", "-preset", "ultrafast", "-tune", "zerolatency", "-x265-params", "log-level=error"];
    for codec in [&h264[..], &h265] {
        let stage = Stage::new(true);
        let kind = gst::Caps::from_str("video/mpegts,systemstream=true,packetsize=188").unwrap();
        let demux = Demux::push(&Tracks::new(&stage), unshifted(), &kind).unwrap();
        let pieces = pictures(codec);
        let (mut pushed, mut out, mut held) = (0, 0, Vec::new());
        for piece in pieces {
            assert!(demux.bytes(piece));
            pushed += 1;
            let _ = stage.chosen(Instant::now() + Duration::from_millis(1));
            while let Next::Item(_, item, _) = stage.next(i64::MAX) {
                out += usize::from(matches!(item, Item::Unit { .. }));
            }
            held.push(pushed - out);
        }
        // The first piece is what lies before the first picture.
        // What fills up its last packet shows where a picture ends; one that fits exactly is held for the next.
        assert!(held[40..].iter().all(|h| (1..=2).contains(h)), "{codec:?}: {held:?}");
        assert!(held[40..].iter().filter(|h| **h == 2).count() < 5, "{codec:?}: {held:?}");
    }
}
