//! Transcoder children: starting them, keeping one warm, talking to them, and making sure that none outlives its use.
//!
//! A child is this same program with a hidden argument. It inherits one end of a socket pair as its standard input, and nothing
//! else: no secret in its arguments or environment, no other descriptor. Media is handed to it without waiting; a child that does not keep up or
//! hangs costs frames, never memory, and is killed.

use ipc::{Decoder, Hello, Job, ToChild, ToParent, VERSION};
use model::PullJob;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot};
use tracing::{Instrument, debug, warn};

/// Messages that may wait for a child: two seconds of 60 pictures and 47 packets a second. A child that is further behind does
/// not keep up, and waiting longer would only make the delay worse.
const TO_CHILD_QUEUE: usize = 214;
/// Messages that may wait for a session: it takes them at once; a child whose session stalls is slowed by its full socket.
const FROM_CHILD_QUEUE: usize = 64;
/// A child says that it is alive ten times a second. After a silence of this length it is looked at; one that does not even
/// want to run hangs: a starved one does, so that this may be short. Together with the 150 ms of a warm child's start and the
/// pictures that it has to catch up with that is below the second that viewers are promised.
const QUIET: Duration = Duration::from_millis(500);
/// After a silence of this length it hangs however busy it is.
const HANG: Duration = Duration::from_secs(5);
/// How long a full queue is waited for. What is in it is two seconds of media, which a child that works has through in less.
pub(crate) const PATIENCE: Duration = Duration::from_millis(500);
/// What one event of a source can bring: a configuration, a bound and a frame.
const SEVERAL: usize = 4;
/// How long after one child was taken the next is started: the session that took it needs the CPU for its first picture.
const REFILL_AFTER: Duration = Duration::from_millis(1_500);
/// Environment that a child may see: where GStreamer keeps things, language, and where to find C libraries and the certificates
/// to trust.
const ENVIRONMENT: &[&str] = &[
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "XDG_CACHE_HOME",
    "LD_LIBRARY_PATH",
    "RUST_BACKTRACE",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

/// What a child says, or how it ended.
#[derive(Debug)]
pub enum FromChild {
    /// A message.
    Message(ToParent),
    /// It is gone; always the last. The words say how.
    Gone(String),
}

/// A running transcoder. Dropping it kills the child.
#[derive(Debug)]
pub struct Transcoder {
    to: mpsc::Sender<ToChild>,
    from: mpsc::Receiver<FromChild>,
    kill: Option<oneshot::Sender<()>>,
    pid: Option<u32>,
    came_up: bool,
}

impl Transcoder {
    /// A transcoder from its channels, for a scripted one in tests.
    pub fn from_channels(to: mpsc::Sender<ToChild>, from: mpsc::Receiver<FromChild>) -> Self {
        Self { to, from, kill: None, pid: None, came_up: false }
    }

    /// Hands over a message without waiting; gives it back if the queue is full.
    pub fn send(&self, message: ToChild) -> Option<ToChild> {
        match self.to.try_send(message) {
            Ok(()) => None,
            // The reader tells that it is gone, and why.
            Err(mpsc::error::TrySendError::Closed(_)) => None,
            Err(mpsc::error::TrySendError::Full(message)) => Some(message),
        }
    }

    /// Resolves when a message can be handed over, or the child is gone.
    pub fn has_room(&self) -> impl Future<Output = ()> + Send + use<> {
        let to = self.to.clone();
        async move { drop(to.reserve().await) }
    }

    /// Whether [`Transcoder::room`] has to be waited for.
    pub fn is_full(&self) -> bool {
        self.to.capacity() < SEVERAL
    }

    /// Resolves when several messages more can be handed over (true), or at `until` all the same: then it does not keep up, or
    /// hangs, and frames are to be dropped.
    pub fn room(&self, until: Instant) -> impl Future<Output = bool> + Send + use<> {
        let to = self.to.clone();
        async move { tokio::time::timeout_at(until.into(), to.reserve_many(SEVERAL)).await.is_ok() }
    }

    /// The next message. Cancel safe.
    pub async fn recv(&mut self) -> FromChild {
        let message = self.from.recv().await.unwrap_or_else(|| FromChild::Gone("its task ended".into()));
        self.came_up |=
            !matches!(message, FromChild::Gone(_) | FromChild::Message(ToParent::Hello(_) | ToParent::Alive { .. }));
        message
    }

    /// Whether the child has come so far as to say so: one that goes before that could not be started.
    pub fn came_up(&self) -> bool {
        self.came_up
    }

    /// The child's process id, where it is a process.
    pub fn pid(&self) -> Option<u32> {
        self.pid
    }

    fn is_gone(&self) -> bool {
        self.to.is_closed()
    }
}

impl Drop for Transcoder {
    fn drop(&mut self) {
        if let Some(kill) = self.kill.take() {
            let _ = kill.send(());
        }
    }
}

/// Where sessions get transcoders from.
pub trait Transcoders: Send + Sync + 'static {
    /// A transcoder that has been given `job`.
    ///
    /// # Errors
    /// The child could not be started.
    fn take(&self, job: Job) -> io::Result<Transcoder>;

    /// A child that pulls a source instead.
    ///
    /// # Errors
    /// The child could not be started, or there are none of this kind here.
    fn take_puller(&self, _job: PullJob) -> io::Result<Transcoder> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Transcoders as child processes, one of them waiting warm: GStreamer's start is paid before a stream comes.
#[derive(Clone, Debug)]
pub struct Pool {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    program: PathBuf,
    arguments: Vec<String>,
    keep_warm: bool,
    shelf: Mutex<Shelf>,
}

/// The place of the child that waits.
#[derive(Debug, Default)]
struct Shelf {
    warm: Option<Transcoder>,
    /// One is on its way here.
    filling: bool,
    /// None waits here any more.
    closed: bool,
}

impl Pool {
    /// Children are started as `program arguments…`. With `keep_warm`, one is kept ready from now on.
    /// Needs a tokio runtime.
    pub fn new(program: impl Into<PathBuf>, arguments: &[&str], keep_warm: bool) -> Self {
        let arguments = arguments.iter().map(|a| (*a).to_owned()).collect();
        let pool =
            Self { inner: Arc::new(Inner { program: program.into(), arguments, keep_warm, shelf: Mutex::default() }) };
        pool.refill(Duration::ZERO);
        pool
    }

    /// Ends the warm child; none is started in its place.
    pub fn close(&self) {
        let mut shelf = self.inner.shelf();
        (shelf.warm, shelf.closed) = (None, true);
    }

    fn refill(&self, after: Duration) {
        {
            let mut shelf = self.inner.shelf();
            let waits = shelf.warm.as_ref().is_some_and(|t| !t.is_gone());
            if !self.inner.keep_warm || shelf.closed || shelf.filling || waits {
                return;
            }
            shelf.filling = true;
        }
        let pool = Arc::downgrade(&self.inner);
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            let Some(pool) = pool.upgrade() else { return };
            let mut shelf = pool.shelf();
            shelf.filling = false;
            if shelf.closed {
                return;
            }
            match spawn(&pool.program, &pool.arguments) {
                Ok(child) => shelf.warm = Some(child),
                Err(e) => warn!(error = %e, "no transcoder could be started to wait warm"),
            }
        });
    }
}

impl Inner {
    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        // Each change under the lock is a single assignment, which cannot be left half done.
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pool {
    /// A child, warm if there is one, that was told what to do.
    fn child(&self, order: ToChild) -> io::Result<Transcoder> {
        let warm = self.inner.shelf().warm.take().filter(|t| !t.is_gone());
        let transcoder = match warm {
            Some(t) => t,
            None => spawn(&self.inner.program, &self.inner.arguments)?,
        };
        self.refill(REFILL_AFTER);
        // A fresh queue takes one message.
        transcoder.send(order);
        Ok(transcoder)
    }
}

impl Transcoders for Pool {
    fn take(&self, job: Job) -> io::Result<Transcoder> {
        self.child(ToChild::Job(job))
    }

    fn take_puller(&self, job: PullJob) -> io::Result<Transcoder> {
        self.child(ToChild::Pull(job))
    }
}

fn spawn(program: &PathBuf, arguments: &[String]) -> io::Result<Transcoder> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let ours = UnixStream::from_std(ours)?;
    let mut command = std::process::Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs(ENVIRONMENT.iter().filter_map(|k| Some((k, std::env::var_os(k)?))))
        .envs(std::env::vars_os().filter(|(k, _)| k.to_string_lossy().starts_with("GST_")))
        // One heap for all threads: a child's threads share frames anyway, and each heap of its own keeps megabytes.
        .env("MALLOC_ARENA_MAX", "2")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    // In a group of its own: a Ctrl-C at the terminal is for the parent, which then ends its sessions in order.
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let mut command = Command::from(command);
    let mut child = command.kill_on_drop(true).spawn()?;
    // The command holds the child's end of the socket: only without it does a dead child's end read as closed.
    drop(command);
    let pid = child.id();
    debug!(pid, "transcoder started");
    let (to, to_rx) = mpsc::channel(TO_CHILD_QUEUE);
    let (from_tx, from) = mpsc::channel(FROM_CHILD_QUEUE);
    let (kill, killed) = oneshot::channel();
    if let Some(stderr) = child.stderr.take() {
        tokio::spawn(relay_words(stderr, pid));
    }
    to.try_send(ToChild::Hello(Hello { version: VERSION })).map_err(io::Error::other)?;
    tokio::spawn(run(child, ours, to_rx, from_tx, killed).in_current_span());
    Ok(Transcoder { to, from, kill: Some(kill), pid, came_up: false })
}

/// The words a child writes about itself become log lines. Long ones are cut, and there is an end to how many.
async fn relay_words(stderr: tokio::process::ChildStderr, pid: Option<u32>) {
    /// A child writes a few lines about a broken stream; a thousand are a loop.
    const LINES: usize = 1_000;
    let mut lines = BufReader::new(stderr.take(4 << 20)).lines();
    let mut count = 0;
    while let Ok(Some(line)) = lines.next_line().await {
        count += 1;
        if count <= LINES {
            let line: String = line.chars().take(500).collect();
            warn!(pid, "transcoder says: {line}");
        }
    }
}

async fn run(
    mut child: Child,
    socket: UnixStream,
    to: mpsc::Receiver<ToChild>,
    from: mpsc::Sender<FromChild>,
    killed: oneshot::Receiver<()>,
) {
    let (reader, writer) = socket.into_split();
    let mut writing = tokio::spawn(write(writer, to));
    let pid = child.id();
    let how = tokio::select! {
        how = read(reader, &from, pid) => how,
        _ = killed => None,
    };
    writing.abort();
    let _ = (&mut writing).await;
    // A child that closed its socket exits by itself; one that hangs, or is not needed any more, does not get to choose.
    let exit =
        match tokio::time::timeout(Duration::from_millis(if how.is_some() { 200 } else { 0 }), child.wait()).await {
            Ok(exit) => exit,
            Err(_) => {
                let _ = child.start_kill();
                child.wait().await
            }
        };
    let Some(how) = how else { return };
    let exit = exit.map_or_else(|e| e.to_string(), |status| status.to_string());
    let _ = from.send(FromChild::Gone(format!("{how}, {exit}"))).await;
}

async fn write(mut socket: tokio::net::unix::OwnedWriteHalf, mut to: mpsc::Receiver<ToChild>) {
    let (mut batch, mut bytes) = (Vec::new(), Vec::new());
    while to.recv_many(&mut batch, 32).await > 0 {
        for message in batch.drain(..) {
            if let Err(e) = ipc::encode(&message, &mut bytes) {
                warn!(error = %e, "a message to the transcoder was dropped");
            }
        }
        // A child that went away shows at the reader, which knows more.
        if socket.write_all(&bytes).await.is_err() {
            return;
        }
        bytes.clear();
        bytes.shrink_to(1 << 20);
    }
}

/// Whether any thread of a process is running or waits only for a CPU (R) or a disk (D, as when memory is swapped): then it is
/// starved rather than stuck.
fn wants_to_run(pid: u32) -> bool {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    tasks.flatten().any(|task| {
        // The state stands behind the name in brackets (proc(5)), which may hold brackets itself.
        let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['R', 'D']))
    })
}

/// Words of a child end in the ingress's state and in the log: no decoder that a stranger feeds may make them endless.
fn brief(mut message: ToParent) -> ToParent {
    /// Characters; the longest of our own are about 200.
    const LONGEST: usize = 500;
    if let ToParent::Unusable { reason, .. } | ToParent::Failed { reason } = &mut message
        && let Some((end, _)) = reason.char_indices().nth(LONGEST)
    {
        reason.truncate(end);
        reason.push('…');
    }
    message
}

/// Passes messages on until the child is gone; says how. `None` if nobody listens any more.
async fn read(
    mut socket: tokio::net::unix::OwnedReadHalf,
    from: &mpsc::Sender<FromChild>,
    pid: Option<u32>,
) -> Option<String> {
    let mut decoder = Decoder::<ToParent>::default();
    let mut buf = vec![0; 64 << 10];
    let mut quiet = Duration::ZERO;
    loop {
        let read = tokio::time::timeout(QUIET, socket.read(&mut buf)).await;
        if read.is_err() {
            quiet += QUIET;
            if quiet < HANG && pid.is_some_and(wants_to_run) {
                continue;
            }
            return Some(format!("it hung for {} ms", quiet.as_millis()));
        }
        quiet = Duration::ZERO;
        let n = match read {
            Err(_) => continue,
            Ok(Ok(0)) => return Some("it exited".into()),
            Ok(Err(e)) => return Some(e.to_string()),
            Ok(Ok(n)) => n,
        };
        decoder.push(&buf[..n]);
        loop {
            match decoder.next_message() {
                Ok(Some(ToParent::Hello(Hello { version }))) if version != VERSION => {
                    return Some(format!("it speaks version {version} of our messages, not {VERSION}"));
                }
                Ok(Some(message)) => from.send(FromChild::Message(brief(message))).await.ok()?,
                Ok(None) => break,
                Err(e) => return Some(format!("it sent nonsense ({e})")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_words_are_cut_between_characters() {
        let reason = |n| "é".repeat(n);
        let failed = |reason| ToParent::Failed { reason };
        assert_eq!(brief(failed(reason(500))), failed(reason(500)));
        assert_eq!(brief(failed(reason(1 << 20))), failed(reason(500) + "…"));
    }
}
