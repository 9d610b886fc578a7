//! The transcoder child: takes a source's access units from its parent, and gives back what the room takes.
//!
//! It runs in a process of its own because decoders are C code that meets bytes of strangers: it holds no secret, opens no
//! network, and can be killed at any time. A child may be told to pull a source instead ([`ipc::ToChild::Pull`]): then it
//! fetches and demultiplexes, and that is all it does. [`run`] is its whole life. Threads: the caller's reads the socket; one decodes and
//! scales pictures; one for each layer encodes; one does all of the sound; one writes the socket and watches the others.
#![forbid(unsafe_code)]

mod audio;
mod video;

use audio::Audio;
use gstreamer as gst;
use ipc::{Decoder, Hello, Job, ToChild, ToParent, VERSION};
use model::Kind;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use video::Video;
use worker::watchdog::{Waits, Watch};
use worker::{Branches, Error, Outbox, process};

/// Access units that may wait for a decoder: enough to bridge the decoding of a key frame, too few to be latency. When a queue
/// is full the socket is not read, and the parent feels it.
const FRAMES: usize = 4;

/// Bytes read from the socket at once: what Linux gives a socket pair by default is about three times this.
const CHUNK: usize = 64 << 10;

/// Starts a demux worker's job in place of a transcode worker's.
pub type Demux = fn(model::PullJob, Outbox) -> std::io::Result<()>;

/// Does the work of a transcoder child until its parent has no more for it. `socket` is the inherited end of a socket pair.
///
/// The exit code is success if all work was done or the parent has closed the socket, failure otherwise.
pub fn run(socket: OwnedFd, demux: Demux) -> ExitCode {
    let socket = UnixStream::from(socket);
    match process::harden().and_then(|()| socket.set_nonblocking(false)).and_then(|()| live(&socket, demux)) {
        Ok(code) => code,
        Err(e) => {
            tracing::error!(error = %e, "transcoder ends");
            ExitCode::FAILURE
        }
    }
}

fn live(socket: &UnixStream, demux: Demux) -> std::io::Result<ExitCode> {
    let outbox = Outbox::new();
    let watch = Watch::new(outbox.clone());
    outbox.fact(ToParent::Hello(Hello { version: VERSION }));
    {
        let (outbox, watch, socket) = (outbox.clone(), watch.clone(), socket.try_clone()?);
        let stuck = move || watch.stuck().map(|name| format!("the transcoder hangs ({name})"));
        std::thread::Builder::new().name("writer".into()).spawn(move || outbox.write_all(socket, stuck))?;
    }
    match warm_up(&outbox) {
        Ok(()) => outbox.fact(ToParent::Ready),
        Err(e) => outbox.fact(ToParent::Failed { reason: e.to_string() }),
    }
    let mut parent = Parent { outbox: outbox.clone(), watch, work: None, demux };
    let end = read(socket, |message| parent.take(message));
    // After the last message the writer has shut the socket down, which is how reading ended; it has nothing left to do.
    // If the parent is gone, nothing is worth finishing: the process ends with all of its threads.
    match end {
        Ok(()) => Ok(if outbox.ended() == Some(false) { ExitCode::FAILURE } else { ExitCode::SUCCESS }),
        Err(e) => Err(e),
    }
}

/// Loads GStreamer and the plugins of the usual case, so that a first picture need not wait for it.
fn warm_up(outbox: &Outbox) -> Result<(), Error> {
    gst::init().map_err(|e| Error::NoElement(format!("GStreamer: {e}")))?;
    video::preload()?;
    audio::preload(outbox.clone())
}

/// Reads messages until the socket is closed.
fn read(mut socket: &UnixStream, mut take: impl FnMut(ToChild)) -> std::io::Result<()> {
    let mut decoder = Decoder::<ToChild>::default();
    let mut chunk = vec![0; CHUNK];
    loop {
        let n = match socket.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(n) => n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => return Ok(()),
            Err(e) => return Err(e),
        };
        decoder.push(&chunk[..n]);
        while let Some(message) = decoder.next_message().map_err(std::io::Error::other)? {
            take(message);
        }
    }
}

/// What the parent has asked for so far.
struct Parent {
    outbox: Outbox,
    watch: Watch,
    work: Option<Work>,
    demux: Demux,
}

/// The ways to the two branches. When both threads have ended (after this is dropped), everything has been sent.
struct Work {
    video: SyncSender<video::Order>,
    audio: SyncSender<audio::Order>,
}

impl Parent {
    fn take(&mut self, message: ToChild) {
        let message = match message {
            ToChild::Hello(hello) if hello.version != VERSION => {
                // The program was replaced meanwhile: the next child is of the parent's version, or there is none.
                return self.outbox.crash(format!("the parent speaks version {} and not {VERSION}", hello.version));
            }
            ToChild::Hello(_) => return,
            ToChild::Job(job) => return self.start(job),
            ToChild::Pull(job) => return self.pull(job),
            message => message,
        };
        if matches!(message, ToChild::Finish) {
            // The branches end when their orders do.
            self.work = None;
            return;
        }
        let Some(work) = &self.work else { return };
        // A branch whose thread is gone has said why.
        let _ = match message {
            ToChild::VideoConfig(c) => work.video.send(video::Order::Config(c)).is_ok(),
            ToChild::AudioConfig(c) => work.audio.send(audio::Order::Config(c)).is_ok(),
            ToChild::Frame(f) if f.kind == Kind::Video => work.video.send(video::Order::Frame(f)).is_ok(),
            ToChild::Frame(f) => work.audio.send(audio::Order::Frame(f)).is_ok(),
            ToChild::Layers(layers) => work.video.send(video::Order::Layers(layers)).is_ok(),
            ToChild::Wanted { layer, wanted } => work.video.send(video::Order::Wanted { layer, wanted }).is_ok(),
            ToChild::Repeat(at) => work.video.send(video::Order::Repeat(at)).is_ok(),
            ToChild::ShowFrom(Kind::Video, from) => work.video.send(video::Order::ShowFrom(from)).is_ok(),
            ToChild::ShowFrom(Kind::Audio, from) => work.audio.send(audio::Order::ShowFrom(from)).is_ok(),
            ToChild::KeyFrame { layer } => work.video.send(video::Order::KeyFrame { layer }).is_ok(),
            ToChild::Hello(_) | ToChild::Job(_) | ToChild::Pull(_) | ToChild::Finish => true,
        };
    }

    /// A child does one thing for its life: what else it is told does not come.
    fn pull(&self, job: model::PullJob) {
        if let Err(e) = (self.demux)(job, self.outbox.clone()) {
            self.outbox.crash(format!("the system has no threads left: {e}"));
        }
    }

    fn start(&mut self, job: Job) {
        if self.work.is_some() {
            return;
        }
        match self.spawn(job) {
            Ok(work) => self.work = Some(work),
            Err(e) => self.outbox.crash(format!("the system has no threads left: {e}")),
        }
    }

    fn spawn(&self, job: Job) -> std::io::Result<Work> {
        let branches = Branches::new(self.outbox.clone());
        let (video, video_orders) = sync_channel(FRAMES);
        let (audio, audio_orders) = sync_channel(FRAMES);
        let done = Arc::new(Done(self.outbox.clone()));
        let v = Video::new(job.clone(), self.outbox.clone(), self.watch.clone(), branches.clone());
        let a = Audio::new(job, self.outbox.clone(), branches);
        let video_done = Arc::clone(&done);
        self.watch.spawn("video", Waits::ForEncoders, move |busy| {
            v.run(&video_orders, &busy);
            drop(video_done);
        })?;
        self.watch.spawn("audio", Waits::Alone, move |busy| {
            a.run(&audio_orders, &busy);
            drop(done);
        })?;
        Ok(Work { video, audio })
    }
}

/// Tells the parent that all is done when the last branch lets go of it.
struct Done(Outbox);

impl Drop for Done {
    fn drop(&mut self) {
        // A branch that panicked is no branch that finished; the watch ends the child.
        if !std::thread::panicking() {
            self.0.fact(ToParent::Finished);
        }
    }
}
