//! Measures the transcode worker: cores, memory, the first picture's time and the latency of each, for a clip sent in real
//! time (or as fast as it goes), beside the codec floor (the same codecs in ffmpeg, one thread each).
//!
//! `cargo run --release -p transcode --example bench -- CLIP [--seconds 30] [--fast] [--layers 3|2|1|0] [--vp8] [--preset N] [--floor]`

#[path = "../tests/transcode/flv.rs"]
#[allow(unreachable_pub)]
mod flv;
#[path = "../tests/transcode/no_demux.rs"]
#[allow(unreachable_pub)]
mod no_demux;

use bytes::Buf;
use ipc::transcode::{Command, Event, Job};
use ipc::{Assignment, Batch, Decoder, Hello, Message, Ready};
use model::{AudioPreset, EncodedVideo, Frame, Kind, Media, MediaTime, VideoPreset, fit_layers};
use std::collections::HashMap;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{self, ExitCode, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Set in the child's environment: this program is both ends.
const CHILD: &str = "TRANSCODER_BENCH_CHILD";

struct Options {
    clip: String,
    seconds: f64,
    fast: bool,
    layers: usize,
    preset: i32,
    codec: EncodedVideo,
    floor: bool,
}

fn main() -> ExitCode {
    if std::env::var_os(CHILD).is_some() {
        let Ok(socket) = std::io::stdin().as_fd().try_clone_to_owned() else { return ExitCode::FAILURE };
        // CONFINEMENT=never shows what confinement costs.
        let mode = std::env::var("CONFINEMENT").ok().and_then(|mode| worker::Mode::parse(&mode)).unwrap_or_default();
        return worker::run::<transcode::Transcoder, no_demux::NoDemux>(socket, worker::Profile::Transcode, mode);
    }
    let mut options = Options {
        clip: String::new(),
        seconds: 30.0,
        fast: false,
        layers: 3,
        preset: 0,
        codec: EncodedVideo::H264,
        floor: false,
    };
    let mut args = std::env::args().skip(1);
    let number = |s: Option<String>| s.and_then(|s| s.parse::<f64>().ok()).expect("a number");
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--seconds" => options.seconds = number(args.next()),
            "--layers" => options.layers = number(args.next()) as usize,
            "--preset" => options.preset = number(args.next()) as i32,
            "--fast" => options.fast = true,
            "--vp8" => options.codec = EncodedVideo::Vp8,
            "--floor" => options.floor = true,
            clip => options.clip = clip.to_owned(),
        }
    }
    assert!(
        !options.clip.is_empty(),
        "usage: bench CLIP [--seconds N] [--fast] [--layers N] [--vp8] [--preset N] [--floor]"
    );
    bench(&options);
    ExitCode::SUCCESS
}

fn bench(options: &Options) {
    let clip = clip(&options.clip);
    let (ours, theirs) = UnixStream::pair().expect("a socket pair");
    let started = Instant::now();
    let mut child = process::Command::new(std::env::current_exe().expect("this program"))
        .env(CHILD, "1")
        .envs([("GST_REGISTRY_UPDATE", "no"), ("GST_REGISTRY_FORK", "no")])
        .env("MALLOC_ARENA_MAX", std::env::var("ARENAS").unwrap_or("2".into()))
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .spawn()
        .expect("the child");
    let pid = child.id();
    let seen = Arc::new(Mutex::new(Seen::default()));
    let sink = Arc::new(Mutex::new(ours.try_clone().expect("a socket")));
    let reader = {
        let (seen, sink) = (Arc::clone(&seen), Arc::clone(&sink));
        let layers = VideoPreset::from_number(options.preset).expect("a preset").encoding().layers;
        let count = options.layers;
        std::thread::spawn(move || collect(&ours, &seen, &sink, &layers, count))
    };
    let send = |m: &Command| write(&sink, m);
    write(&sink, &Hello::OURS);
    wait(|| seen.lock().unwrap().ready.is_some());
    println!("ready after          {:>8.1} ms", (seen.lock().unwrap().ready.unwrap() - started).as_secs_f64() * 1e3);
    println!("PSS warm             {:>8.1} MiB", pss(pid));
    let job = Job { video_codec: options.codec, max_frame_rate: 30.0, audio: AudioPreset::OpusStereo96k.encoding() };
    write(&sink, &Assignment::from(job));
    let begin = Instant::now();
    let (mut shift, mut last) = (0i64, 0i64);
    let cpu_before = cpu(pid);
    let mut peak: f64 = 0.0;
    let mut measured = Instant::now();
    'all: loop {
        for media in &clip {
            let message = match media {
                Media::VideoConfig(c) => Command::VideoConfig(c.clone()),
                Media::AudioConfig(c) => Command::AudioConfig(c.clone()),
                Media::Frame(f) => {
                    let f = Frame {
                        pts: f.pts + MediaTime::from_nanos(shift),
                        dts: f.dts + MediaTime::from_nanos(shift),
                        ..f.clone()
                    };
                    last = last.max(f.pts.as_nanos());
                    if f.dts.as_nanos() as f64 / 1e9 > options.seconds {
                        break 'all;
                    }
                    if !options.fast {
                        let due = begin + f.dts.to_duration();
                        std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    }
                    if f.kind == Kind::Video {
                        seen.lock().unwrap().fed.insert(f.pts.as_nanos(), Instant::now());
                    }
                    Command::Frame(f)
                }
                Media::Announced(_) | Media::Unusable(..) => continue,
            };
            if matches!(message, Command::VideoConfig(_)) && shift == 0 {
                seen.lock().unwrap().config = Some(Instant::now());
            }
            send(&message);
            if measured.elapsed() > Duration::from_secs(1) {
                measured = Instant::now();
                peak = peak.max(pss(pid));
            }
        }
        shift = last + 40_000_000;
    }
    let spent = cpu(pid) - cpu_before;
    let wall = begin.elapsed().as_secs_f64();
    println!("PSS at the end       {:>8.1} MiB (peak {peak:.1})", pss(pid));
    send(&Command::Finish);
    child.wait().expect("the child ends");
    reader.join().expect("the reader ends");
    let seen = seen.lock().unwrap();
    seen.print(wall);
    let media = last as f64 / 1e9;
    println!(
        "cores                {:>8.3}  ({spent:.1} s of CPU for {media:.1} s of media in {wall:.1} s)",
        spent / media
    );
    if options.floor {
        floor(options, media.min(60.0));
    }
}

#[derive(Default)]
struct Seen {
    ready: Option<Instant>,
    config: Option<Instant>,
    first: HashMap<u8, Instant>,
    fed: HashMap<i64, Instant>,
    latency: HashMap<u8, Vec<f64>>,
    bytes: HashMap<u8, usize>,
    audio: usize,
}

impl Seen {
    fn print(&self, wall: f64) {
        let mut layers: Vec<_> = self.latency.iter().collect();
        layers.sort_by_key(|(l, _)| **l);
        for (layer, latency) in layers {
            let mut l = latency.clone();
            l.sort_by(f64::total_cmp);
            let at = |p: f64| l[((l.len() - 1) as f64 * p) as usize];
            println!(
                "layer {layer}: {} pictures, {:.0} kbit/s, first after {:.1} ms, latency p50 {:.1} p95 {:.1} p99 {:.1} max {:.1} ms",
                l.len(),
                self.bytes[layer] as f64 * 8e-3 / wall,
                self.config.map_or(f64::NAN, |c| (self.first[layer] - c).as_secs_f64() * 1e3),
                at(0.5),
                at(0.95),
                at(0.99),
                at(1.0),
            );
        }
        println!("audio packets        {:>8}", self.audio);
    }
}

fn write<M: Message>(sink: &Mutex<UnixStream>, message: &M) {
    let mut batch = Batch::default();
    batch.push(message).expect("encodes");
    let bytes = batch.copy_to_bytes(batch.remaining());
    sink.lock().expect("unpoisoned").write_all(&bytes).expect("the child reads");
}

/// What the child sends.
struct Reading<'a> {
    socket: &'a UnixStream,
    decoder: Decoder,
}

impl Reading<'_> {
    fn next<M: Message>(&mut self) -> Option<M> {
        loop {
            if let Some(message) = self.decoder.next_message().expect("sound messages") {
                return Some(message);
            }
            let spare = self.decoder.spare();
            let mut piece = vec![0; spare.capacity() - spare.len()];
            let n = self.socket.read(&mut piece).ok().filter(|n| *n > 0)?;
            self.decoder.fill(&piece[..n]);
        }
    }
}

fn collect(socket: &UnixStream, seen: &Mutex<Seen>, sink: &Mutex<UnixStream>, layers: &[model::Layer], wanted: usize) {
    let mut reading = Reading { socket, decoder: Decoder::default() };
    let _ = reading.next::<Hello>();
    reading.next::<Ready>().expect("it says whether it is warm").0.expect("it is");
    seen.lock().unwrap().ready = Some(Instant::now());
    let mut answered = false;
    while let Some(event) = reading.next::<Event>() {
        let now = Instant::now();
        let mut s = seen.lock().unwrap();
        match event {
            Event::VideoFormat { width, height, frame_rate } => {
                println!("format               {width}x{height} at {frame_rate:?}");
                drop(s);
                if !std::mem::replace(&mut answered, true) {
                    let fitted = fit_layers(layers, width, height);
                    let count = fitted.len();
                    write(sink, &Command::Layers(fitted));
                    for layer in wanted..count {
                        write(sink, &Command::Wanted { layer: layer as u8, wanted: false });
                    }
                }
            }
            Event::AccessUnit { layer, pts, data, .. } => {
                s.first.entry(layer).or_insert(now);
                *s.bytes.entry(layer).or_default() += data.len();
                if let Some(fed) = s.fed.get(&pts.as_nanos()).copied() {
                    s.latency.entry(layer).or_default().push((now - fed).as_secs_f64() * 1e3);
                }
            }
            Event::AudioPacket { .. } => s.audio += 1,
            other => println!("{other:?}"),
        }
    }
}

fn clip(path: &str) -> Vec<Media> {
    let out = process::Command::new("ffmpeg")
        .args(["-v", "error", "-i", path, "-c", "copy", "-f", "flv", "-"])
        .stdout(Stdio::piped())
        .output()
        .expect("ffmpeg");
    flv::read(&out.stdout)
}

fn wait(done: impl Fn() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < Duration::from_secs(20), "the child does not answer");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Seconds of CPU that a process has used.
fn cpu(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks = |i: usize| fields.get(i).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

/// Proportional set size in MiB.
fn pss(pid: u32) -> f64 {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = rollup.lines().find(|l| l.starts_with("Pss:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|n| n.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}

/// What the codecs alone cost in ffmpeg, one thread each, for the first `seconds` of the clip.
fn floor(options: &Options, seconds: f64) {
    let layers = VideoPreset::from_number(options.preset).expect("a preset").encoding().layers;
    let run = |args: &[&str]| {
        let before = children_cpu();
        let t = seconds.to_string();
        let status = process::Command::new("ffmpeg")
            .args(["-v", "error", "-nostdin", "-threads", "1", "-t", &t, "-i", &options.clip])
            .args(args)
            .args(["-f", "null", "-"])
            .status()
            .expect("ffmpeg");
        assert!(status.success());
        (children_cpu() - before) / seconds
    };
    let decode = run(&["-an"]);
    let audio = run(&["-vn", "-c:a", "libopus", "-b:a", "96k", "-ac", "2"]);
    let mut sum = decode + audio;
    print!("floor: decode {decode:.3} audio {audio:.3}");
    for l in layers.iter().take(options.layers) {
        let scale = format!("scale={}:{}:flags=bilinear", l.width, l.height);
        let rate = l.bitrate.to_string();
        let scaled = (run(&["-an", "-vf", &scale]) - decode).max(0.0);
        let both = run(&[
            "-an",
            "-vf",
            &scale,
            "-c:v",
            "libx264",
            "-threads",
            "1",
            "-preset",
            "veryfast",
            "-tune",
            "zerolatency",
            "-profile:v",
            "baseline",
            "-g",
            "300",
            "-b:v",
            &rate,
            "-maxrate",
            &rate,
            "-bufsize",
            &rate,
        ]) - decode;
        print!(", {}x{}: scale {scaled:.3} encode {:.3}", l.width, l.height, both - scaled);
        sum += both;
    }
    println!("\nfloor                {sum:>8.3}");
}

/// Seconds of CPU of this process's children that have ended.
fn children_cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks = |i: usize| fields.get(i).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(13) + ticks(14)) / 100.0
}
