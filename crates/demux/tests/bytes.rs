//! A real demux worker whose parent sends the bytes.

#![allow(missing_docs)]

use bytes::{Buf, Bytes};
use ipc::demux::{Command, Container, Event, Job, MAX_PIECE, Source};
use ipc::{Assignment, Batch, Decoder, Hello, Message, Ready};
use model::{Blame, Kind, PullGuard, PullLimits, SourceTracks, VideoCodec};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Stdio};
use std::time::Duration;

/// Set in the worker's environment.
const WORKER: &str = "DEMUX_TEST_WORKER";

/// The other role, which is not tested here.
struct NoTranscode;

impl worker::Work for NoTranscode {
    type Role = ipc::Transcode;

    fn start(
        _: ipc::transcode::Job,
        _: worker::Events<ipc::transcode::Event>,
        _: &worker::watchdog::Watchdog,
        _: worker::Temporary,
    ) -> std::io::Result<Self> {
        Err(std::io::ErrorKind::Unsupported.into())
    }

    fn command(&mut self, _: ipc::transcode::Command) {}
}

/// Not a test: the worker of all other tests is this program, started with [`WORKER`] in its environment.
#[test]
fn worker_process() {
    if std::env::var_os(WORKER).is_some() {
        let socket = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
        let code =
            worker::run::<NoTranscode, demux::Demuxer>(socket, worker::Profile::DemuxBytes, worker::Mode::Require);
        std::process::exit(if code == std::process::ExitCode::SUCCESS { 0 } else { 1 });
    }
}

struct Worker {
    process: Child,
    socket: UnixStream,
    decoder: Decoder,
}

impl Worker {
    fn start() -> Self {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let process = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "worker_process", "--nocapture", "--test-threads=1"])
            .env(WORKER, "1")
            // As the pool starts it: a confined worker can't keep a registry of its own.
            .envs([("GST_REGISTRY_UPDATE", "no"), ("GST_REGISTRY_FORK", "no")])
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut worker = Self { process, socket: ours, decoder: Decoder::default() };
        worker.send(&Hello::OURS);
        assert_eq!(worker.next(), Some(Hello::OURS));
        worker.next::<Ready>().unwrap().0.unwrap();
        let second = Duration::from_secs(1);
        let limits = PullLimits { timeout: second * 5, reconnect: second, ..PullLimits::default() };
        worker.send(&Assignment::from(Job {
            source: Source::Bytes(Container::MpegTs),
            guard: PullGuard::default(),
            limits,
            largest: (1280, 720),
            from: None,
            live_only: false,
        }));
        worker
    }

    fn send<M: Message>(&mut self, message: &M) {
        let mut batch = Batch::default();
        batch.push(message).unwrap();
        self.socket.write_all(&batch.copy_to_bytes(batch.remaining())).unwrap();
    }

    /// The next message; `None` when the worker has closed the socket.
    fn next<M: Message>(&mut self) -> Option<M> {
        loop {
            if let Some(message) = self.decoder.next_message().unwrap() {
                return Some(message);
            }
            let spare = self.decoder.spare();
            let mut piece = vec![0; spare.capacity() - spare.len()];
            let length = self.socket.read(&mut piece).ok().filter(|length| *length > 0)?;
            self.decoder.fill(&piece[..length]);
        }
    }

    /// All events to the last.
    fn events(mut self) -> Vec<Event> {
        let events = std::iter::from_fn(|| self.next()).collect();
        self.process.wait().unwrap();
        events
    }
}

/// Two seconds of H.264 with B-frames and AAC in an MPEG-TS.
fn mpeg_ts() -> Vec<u8> {
    let arguments = "-v error -f lavfi -i testsrc2=size=160x90:rate=25:duration=2 -f lavfi -i sine=duration=2 \
        -c:v libx264 -preset ultrafast -g 25 -bf 2 -c:a aac -f mpegts -";
    let output = std::process::Command::new("ffmpeg").args(arguments.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn bytes_of_the_parent_become_access_units() {
    let file = mpeg_ts();
    let mut worker = Worker::start();
    // Cut anywhere, at about the pace of a live source.
    let pieces = file.len().div_ceil(1_000);
    for piece in file.chunks(1_000) {
        worker.send(&Command::Bytes(Bytes::copy_from_slice(piece)));
        std::thread::sleep(Duration::from_secs(2) / pieces as u32);
    }
    worker.send(&Command::End);
    let events = worker.events();
    assert_eq!(events[0], Event::Announced(SourceTracks { video: true, audio: true }));
    assert_eq!(events.last(), Some(&Event::Finished));
    assert!(events.iter().any(|e| matches!(e, Event::VideoConfig(c) if c.codec == VideoCodec::H264)), "{events:?}");
    let frames = |kind| events.iter().filter(move |e| matches!(e, Event::Frame(f) if f.kind == kind)).count();
    assert!(frames(Kind::Video) >= 48 && frames(Kind::Audio) >= 80, "{} {}", frames(Kind::Video), frames(Kind::Audio));
    let first = events.iter().find_map(|e| if let Event::Frame(f) = e { Some(f) } else { None });
    assert!(first.is_some_and(|f| f.kind == Kind::Audio || f.key));
}

#[test]
fn noise_of_the_parent_is_the_source_s_fault() {
    let mut worker = Worker::start();
    for n in 0..40u8 {
        let noise: Vec<u8> = (0..MAX_PIECE).map(|i| (i as u8).wrapping_mul(n).wrapping_add(n)).collect();
        worker.send(&Command::Bytes(noise.into()));
    }
    worker.send(&Command::End);
    let events = worker.events();
    let Some(Event::Failed(fault)) = events.last() else { panic!("{events:?}") };
    assert_eq!(fault.blame, Blame::Source, "{fault}");
}
