//! Audio and video are aligned, in one rendition or two, and wherever their timestamps begin.

use crate::open;
use crate::track_queues::{Item, Next};
use gstreamer as gst;
use ipc::demux::{self, Job};
use media::mpegts::packet as ts;
use model::{Kind, PullGuard, PullLimits};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const SECONDS: f64 = 6.0;
const FPS: f64 = 30.0;
/// Seconds of a packet of AAC.
const PACKET: f64 = 1024.0 / 48_000.0;

/// Six seconds in segments of this kind, video and audio apart (0.m3u8 and 1.m3u8) or together (0.m3u8).
fn encode(directory: &Path, kind: &str, streams: &str) {
    std::fs::create_dir(directory).unwrap();
    let mut command = Command::new("ffmpeg");
    command.args(["-hide_banner", "-nostdin", "-loglevel", "error"]);
    command.args(["-f", "lavfi", "-i", "testsrc2=size=160x90:rate=30:duration=6"]);
    // Whole packets.
    command.args(["-f", "lavfi", "-i", "sine=sample_rate=48000:duration=6.016"]);
    // Segments of two seconds of video, and of less audio: they begin elsewhere.
    command.args([
        "-c:v",
        "libx264",
        "-preset",
        "ultrafast",
        "-bf",
        "2",
        "-b_strategy",
        "0",
        "-g",
        "60",
        "-pix_fmt",
        "yuv420p",
    ]);
    command.args(["-c:a", "aac", "-f", "hls", "-hls_time", "1.4", "-hls_list_size", "0", "-hls_segment_type", kind]);
    command.args(["-hls_fmp4_init_filename", "init%v.mp4", "-var_stream_map", streams]);
    let made = command.arg(directory.join("%v.m3u8")).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// All segments of a playlist but the first, twice, with a discontinuity between.
fn twice(directory: &Path, list: &str) -> String {
    let text = std::fs::read_to_string(directory.join(list)).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let maps = lines.iter().filter(|l| l.starts_with("#EXT-X-MAP")).map(|l| format!("{l}\n"));
    let segments = lines.windows(2).filter(|w| w[0].starts_with("#EXTINF")).map(|w| format!("{}\n{}\n", w[0], w[1]));
    let run: String = maps.chain(segments.skip(1)).collect();
    format!("#EXTM3U\n#EXT-X-TARGETDURATION:3\n{run}#EXT-X-DISCONTINUITY\n{run}#EXT-X-ENDLIST\n")
}

/// Moves the first PCR of an MPEG-TS segment behind the start of its first access unit, into a packet of its own.
fn late_reference(segment: &Path) {
    let mut packets: Vec<Vec<u8>> = std::fs::read(segment).unwrap().chunks(ts::PACKET).map(Vec::from).collect();
    let refers = |p: &Vec<u8>| p[3] & 0x20 != 0 && p[4] >= 7 && p[5] & 0x10 != 0;
    let first = packets.iter().position(refers).unwrap();
    let mut own = packets[first].clone();
    own[1] &= 0x1F;
    own[3] = 0x20 | (own[3] + 4) & 0xF;
    own[4..6].copy_from_slice(&[183, 0x10]);
    own[12..].fill(0xFF);
    packets[first][5] &= !0x10;
    packets[first][6..12].fill(0xFF);
    // Four more packets of the access unit come before it, as its counter says.
    let of_picture = |p: &Vec<u8>| p[1] & 0x1F == own[1] && p[2] == own[2];
    let place = (first + 1..packets.len()).filter(|i| of_picture(&packets[*i])).nth(4).unwrap();
    packets.insert(place, own);
    std::fs::write(segment, packets.concat()).unwrap();
}

/// How many AAC packets a playlist has.
fn packets(directory: &Path, list: &str) -> usize {
    let text = std::fs::read_to_string(directory.join(list)).unwrap();
    let seconds = text.lines().filter_map(|l| l.strip_prefix("#EXTINF:")?.trim_end_matches(',').parse::<f64>().ok());
    (seconds.sum::<f64>() / PACKET).round() as usize
}

/// Serves a directory for as long as the test runs.
fn serve(directory: &Path) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, root) = (listener.local_addr().unwrap().port(), directory.to_path_buf());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, mut request) = (stream.unwrap(), Vec::new());
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                request.extend(byte);
            }
            let request = String::from_utf8(request).unwrap();
            let body = std::fs::read(root.join(request.split(' ').nth(1).unwrap().trim_start_matches('/'))).unwrap();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            // Whoever has had enough hangs up.
            let _ = stream.write_all(&[head.as_bytes(), &body].concat());
        }
    });
    port
}

/// The times of all frames of a kind as they come, in seconds.
fn play(url: String) -> [Vec<f64>; 2] {
    let second = Duration::from_secs(1);
    let limits = PullLimits {
        play_time: None,
        bytes: None,
        file_size: None,
        temporary: 0,
        timeout: second * 5,
        reconnect: second,
    };
    let source = demux::Source::Url(url.clone());
    let job = Job { source, guard: PullGuard::default(), limits, largest: (1280, 720), from: None, live_only: false };
    let queues = open::open(&job, &url, &mut worker::Temporary::none()).unwrap().queues;
    let until = Instant::now() + second * 20;
    assert_eq!(queues.chosen(until).unwrap().map(|kinds| kinds.len()), Some(2));
    let mut times = [Vec::new(), Vec::new()];
    loop {
        match queues.next(i64::MAX) {
            Next::Item(kind, Item::Unit { unit, .. }, _) => {
                times[usize::from(kind == Kind::Video)].push(unit.pts as f64 / 1e9)
            }
            Next::Item(..) => {}
            Next::Empty => queues.wait(until),
            Next::End => return times,
            Next::Fault(fault) => panic!("{fault}"),
        }
        assert!(Instant::now() < until);
    }
}

#[test]
fn audio_and_video_are_aligned() {
    gst::init().unwrap();
    let root = std::env::temp_dir().join(format!("ingress-hls-{}", std::process::id()));
    std::fs::create_dir_all(&root).unwrap();
    let port = serve(&root);
    let (mut sounds, mut whole) = (0, Vec::new());
    for (name, kind, streams) in [
        ("apart-ts", "mpegts", "v:0,agroup:a a:0,agroup:a"),
        ("apart-mp4", "fmp4", "v:0,agroup:a a:0,agroup:a"),
        ("ts", "mpegts", "v:0,a:0"),
        ("mp4", "fmp4", "v:0,a:0"),
        ("late-ts", "mpegts", "v:0,a:0"),
    ] {
        let directory = root.join(name);
        encode(&directory, kind, streams);
        let mut list = "0.m3u8";
        if name == "late-ts" {
            let files = std::fs::read_dir(&directory).unwrap().map(|file| file.unwrap().path());
            files.filter(|path| path.extension().is_some_and(|e| e == "ts")).for_each(|path| late_reference(&path));
        }
        if name.starts_with("apart") {
            sounds = packets(&directory, "1.m3u8");
            let sound = twice(&directory, "1.m3u8");
            std::fs::write(directory.join("sound.m3u8"), sound).unwrap();
        }
        let pictures = twice(&directory, list);
        std::fs::write(directory.join("pictures.m3u8"), pictures).unwrap();
        list = "pictures.m3u8";
        if name.starts_with("apart") {
            list = "master.m3u8";
            let text = "#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"x\",URI=\"sound.m3u8\"\n\
                #EXT-X-STREAM-INF:BANDWIDTH=1,AUDIO=\"a\"\npictures.m3u8\n";
            std::fs::write(directory.join(list), text).unwrap();
        }
        let [sound, pictures] = play(format!("http://127.0.0.1:{port}/{name}/{list}"));
        let last = |times: &[f64]| times.iter().copied().fold(f64::MIN, f64::max);
        // The last picture has the time of the last frame; the first packet of audio is of before the beginning.
        let expected = (sounds as f64 - 2.0) * PACKET - (SECONDS - 1.0 / FPS);
        for run in 0..2 {
            let half = |times: &[f64]| last(&times[times.len() / 2 * run..][..times.len() / 2]);
            let off = half(&sound) - half(&pictures) - expected;
            // Lists of edits in MP4 count milliseconds.
            assert!(off.abs() < 0.003, "{name}, run {run}: {} ms apart", off * 1e3);
        }
        // The second run continues the first: there is neither a gap nor anything twice.
        let between = pictures[pictures.len() / 2] - last(&pictures[..pictures.len() / 2]);
        assert!((0.02..1.0).contains(&between), "{name}: {between} s between runs");
        match name {
            "ts" => whole = pictures,
            "late-ts" => assert_eq!(pictures, whole, "an access unit that begins before the first PCR is kept"),
            _ => {}
        }
    }
    std::fs::remove_dir_all(&root).unwrap();
}
