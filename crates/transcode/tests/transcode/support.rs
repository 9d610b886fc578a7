//! A parent for the child under test.

use bytes::Buf;
use ipc::transcode::{Command, Event, Job};
use ipc::{Assignment, Hello, Message, Ready};
use model::{AudioEncoding, EncodedVideo, Fault, Kind, Layer, Media, MediaTime, Quality};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Set in the child's environment.
pub const CHILD: &str = "TRANSCODER_TEST_CHILD";

/// How long a test waits for anything: far beyond what a busy machine needs.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A child process and its messages.
pub struct Child {
    process: std::process::Child,
    socket: UnixStream,
    messages: Receiver<Event>,
    /// All that came, in order.
    pub seen: Vec<Event>,
    /// How many pictures came of each layer.
    pub pictures: [usize; 3],
}

/// The child's messages as they come.
struct Reading {
    socket: UnixStream,
    decoder: ipc::Decoder,
}

impl Reading {
    /// The next one; `None` when the child has closed the socket.
    fn next<M: Message>(&mut self) -> Option<M> {
        loop {
            if let Some(message) = self.decoder.next_message().unwrap() {
                return Some(message);
            }
            // As much as the decoder takes.
            let spare = self.decoder.spare();
            let mut piece = vec![0; spare.capacity() - spare.len()];
            let n = self.socket.read(&mut piece).unwrap_or(0);
            if n == 0 {
                return None;
            }
            self.decoder.fill(&piece[..n]);
        }
    }
}

/// H.264, stereo, 30 pictures a second at most.
pub fn job() -> Job {
    Job {
        video_codec: EncodedVideo::H264,
        max_frame_rate: 30.0,
        audio: AudioEncoding { channels: 2, bitrate: 96_000, dtx: false },
    }
}

/// Layers of these sizes.
pub fn layers(sizes: &[(u32, u32)]) -> Vec<Layer> {
    let quality = [Quality::Low, Quality::Medium, Quality::High];
    let layer = |(i, &(width, height)): (usize, &(u32, u32))| Layer {
        quality: quality[i],
        width,
        height,
        bitrate: width * height * 2,
    };
    sizes.iter().enumerate().map(layer).collect()
}

impl Child {
    /// Starts a child that is ready for its job.
    pub fn ready() -> Self {
        let (child, ready) = Self::start(&[]);
        ready.unwrap();
        child
    }

    /// Starts a child with these in its environment, and waits until it is warm, or can't be.
    pub fn start(environment: &[(&str, &str)]) -> (Self, Result<(), Fault>) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let process = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture", "--test-threads=1"])
            .env(CHILD, "1")
            // As the pool starts it: a confined worker can't keep a registry of its own.
            .envs([("GST_REGISTRY_UPDATE", "no"), ("GST_REGISTRY_FORK", "no")])
            .envs(environment.iter().copied())
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let (tell, messages) = channel();
        let mut reading = Reading { socket: ours.try_clone().unwrap(), decoder: ipc::Decoder::default() };
        let mut child = Self { process, socket: ours, messages, seen: Vec::new(), pictures: [0; 3] };
        child.write(&Hello::OURS);
        assert_eq!(reading.next(), Some(Hello::OURS));
        let ready = reading.next::<Ready>().expect("it says whether it is warm");
        std::thread::spawn(move || {
            while let Some(event) = reading.next() {
                let _ = tell.send(event);
            }
        });
        (child, ready.0)
    }

    /// Starts a child with a job.
    pub fn with(job: Job) -> Self {
        let mut child = Self::ready();
        child.write(&Assignment::from(job));
        child
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    pub fn send(&mut self, command: &Command) {
        self.write(command);
    }

    /// Sends what is no command.
    pub fn write<M: Message>(&mut self, message: &M) {
        let mut batch = ipc::Batch::default();
        batch.push(message).unwrap();
        self.socket.write_all(&batch.copy_to_bytes(batch.remaining())).expect("the child reads");
    }

    /// The next message; `None` when the child has closed the socket.
    pub fn next(&mut self) -> Option<Event> {
        match self.messages.recv_timeout(PATIENCE) {
            Ok(m) => {
                self.note(&m);
                Some(m)
            }
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("the child says nothing"),
        }
    }

    /// Reads on until a message of this kind, which it gives. What came before is in [`Child::seen`].
    pub fn until(&mut self, wanted: impl Fn(&Event) -> bool) -> Event {
        loop {
            match self.next() {
                Some(m) if wanted(&m) => return m,
                Some(_) => {}
                None => panic!("the child ended; it said {:?}", self.seen.last()),
            }
        }
    }

    /// Reads until a message of this kind or until `time` has passed; says whether it came.
    fn within(&mut self, time: Duration, wanted: impl Fn(&Event) -> bool) -> bool {
        let deadline = Instant::now() + time;
        while let Ok(m) = self.messages.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            self.note(&m);
            if wanted(&m) {
                return true;
            }
        }
        false
    }

    fn note(&mut self, message: &Event) {
        if let Event::AccessUnit { layer, .. } = message {
            self.pictures[usize::from(*layer)] += 1;
        }
        self.seen.push(message.clone());
    }

    /// Feeds video until the child tells its format, answers with `layers`, and waits for the first picture of each: from
    /// here on every picture is encoded. Gives the rest of the media.
    pub fn open_video<'a>(&mut self, media: &'a [Media], layers: &[Layer]) -> &'a [Media] {
        let is_format = |m: &Event| matches!(m, Event::VideoFormat { .. });
        let mut rest = media;
        while let Some((first, after)) = rest.split_first().filter(|_| !self.seen.iter().any(is_format)) {
            self.send(&to_child(first));
            rest = after;
            // A decoder may hold a few pictures back for reordering, hence the short wait.
            if matches!(first, Media::Frame(f) if f.kind == Kind::Video) {
                self.within(Duration::from_millis(200), is_format);
            }
        }
        if !self.seen.iter().any(is_format) {
            self.until(is_format);
        }
        self.send(&Command::Layers(layers.to_vec()));
        for wanted in 0..layers.len() {
            while self.pictures[wanted] == 0 {
                assert!(self.next().is_some(), "the child ended");
            }
        }
        rest
    }

    /// Sends media no faster than `layer` comes back encoded, so that no picture is dropped however busy the machine is.
    pub fn feed_for(&mut self, media: &[Media], layer: u8) {
        let layer = usize::from(layer);
        let before = self.pictures[layer];
        let mut frames = 0;
        for m in media {
            self.send(&to_child(m));
            if matches!(m, Media::Frame(f) if f.kind == Kind::Video) {
                frames += 1;
                // One in the encoder and one in front of it. Where reordering holds more back the wait ends by itself.
                let is_picture =
                    |m: &Event| matches!(m, Event::AccessUnit { layer: l, .. } if usize::from(*l) == layer);
                while frames > self.pictures[layer] - before + 1 {
                    if !self.within(Duration::from_millis(100), is_picture) {
                        frames -= 1;
                    }
                }
            }
        }
    }

    /// Sends media as fast as the child takes it.
    pub fn feed(&mut self, media: &[Media]) {
        for m in media {
            self.send(&to_child(m));
        }
    }

    /// Says that all was sent, waits for the rest, and sees the child end in order.
    pub fn finish(mut self) -> Recording {
        self.send(&Command::Finish);
        while self.next().is_some() {}
        assert_eq!(self.seen.last(), Some(&Event::Finished));
        assert!(self.process.wait().unwrap().success());
        Recording(std::mem::take(&mut self.seen))
    }

    /// The parent's end, for what is no message.
    pub fn raw(&mut self) -> &mut UnixStream {
        &mut self.socket
    }

    /// Waits for the process to end.
    pub fn wait(&mut self) -> std::process::ExitStatus {
        self.process.wait().unwrap()
    }

    /// Sees it end as if it had crashed: it says neither that it has finished nor that it can't go on.
    pub fn ends_without_a_last_word(mut self) {
        while let Some(said) = self.next() {
            assert!(!matches!(said, Event::Finished | Event::Failed { .. }), "{said:?}");
        }
        assert!(!self.wait().success());
    }

    /// Closes the parent's end.
    pub fn close(&mut self) {
        self.socket.shutdown(std::net::Shutdown::Both).unwrap();
    }

    /// Seconds of CPU that the child has used.
    pub fn cpu(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
        (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The message that carries a piece of media.
pub fn to_child(media: &Media) -> Command {
    match media {
        Media::VideoConfig(c) => Command::VideoConfig(c.clone()),
        Media::AudioConfig(c) => Command::AudioConfig(c.clone()),
        Media::Frame(f) => Command::Frame(f.clone()),
        Media::Announced(_) | Media::Unusable(..) => unreachable!("tests feed what can be fed"),
    }
}

/// All that a child has sent.
pub struct Recording(pub Vec<Event>);

/// One encoded picture.
#[derive(Clone)]
pub struct Picture {
    pub pts: MediaTime,
    pub key: bool,
    pub data: Vec<u8>,
}

impl Recording {
    pub fn layer(&self, index: u8) -> Vec<Picture> {
        let picture = |m: &Event| match m {
            Event::AccessUnit { layer, pts, key, data } if *layer == index => {
                Some(Picture { pts: *pts, key: *key, data: data.to_vec() })
            }
            _ => None,
        };
        self.0.iter().filter_map(picture).collect()
    }

    pub fn audio(&self) -> Vec<(MediaTime, Vec<u8>)> {
        let packet = |m: &Event| match m {
            Event::AudioPacket { pts, data, .. } => Some((*pts, data.to_vec())),
            _ => None,
        };
        self.0.iter().filter_map(packet).collect()
    }

    pub fn formats(&self) -> Vec<(u32, u32, Option<f64>)> {
        let format = |m: &Event| match m {
            Event::VideoFormat { width, height, frame_rate } => Some((*width, *height, *frame_rate)),
            _ => None,
        };
        self.0.iter().filter_map(format).collect()
    }

    pub fn unusable(&self) -> Vec<(Kind, Fault)> {
        let unusable = |m: &Event| match m {
            Event::Unusable { kind, fault } => Some((*kind, fault.clone())),
            _ => None,
        };
        self.0.iter().filter_map(unusable).collect()
    }
}
