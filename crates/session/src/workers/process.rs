//! A worker process, with or without a job: this same program with hidden arguments. It inherits one end of a socket pair as its
//! standard input, and GStreamer's registry to be read; nothing else: no secret in its arguments or environment, no other descriptor.

use super::program::Program;
use confine::Profile;
use ipc::Decoder;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::sync::oneshot;
use tracing::{Instrument, debug, warn};

/// How long a process that closed its socket may take to exit by itself, so that its exit status can be told.
const EXIT_DEADLINE: Duration = Duration::from_millis(200);

/// See the [module](self). Dropping it kills the process.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) socket: UnixStream,
    pub(super) decoder: Decoder,
    pub(super) pid: Option<u32>,
    end: Option<oneshot::Sender<()>>,
    exit: oneshot::Receiver<String>,
    /// What came of `exit`.
    exited: Option<String>,
}

impl Process {
    /// Starts one.
    pub(super) fn spawn(program: &Program, profile: Profile) -> io::Result<Self> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let socket = UnixStream::from_std(ours)?;
        let mut command = program.worker(profile);
        command.stdin(Stdio::from(OwnedFd::from(theirs))).stdout(Stdio::null()).stderr(Stdio::piped());
        // In a group of its own: a Ctrl-C at the terminal is for the parent, which then ends its sessions in order.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut command = Command::from(command);
        let mut child = command.kill_on_drop(true).spawn()?;
        // The command holds the worker's end of the socket: only without it does a dead worker's end read as closed.
        drop(command);
        let pid = child.id();
        debug!(pid, "worker started");
        if let Some(stderr) = child.stderr.take() {
            tokio::spawn(log_stderr(stderr, pid));
        }
        let ((end, ended), (exit_tx, exit)) = (oneshot::channel(), oneshot::channel());
        tokio::spawn(supervise(child, ended, exit_tx, program.kills()).in_current_span());
        Ok(Self { socket, decoder: Decoder::default(), pid, end: Some(end), exit, exited: None })
    }

    /// Whether one that waits for its role is gone. What it has said is kept.
    pub(super) fn is_gone(&mut self) -> bool {
        loop {
            match self.socket.try_read_buf(self.decoder.spare()) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(e) => return !matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted),
            }
        }
    }

    /// Lets it exit, or kills it soon.
    pub(super) fn end(&mut self) {
        if let Some(end) = self.end.take() {
            let _ = end.send(());
        }
    }

    /// How it exited, once [`Process::end`] was called. Cancel safe.
    pub(super) async fn exit(&mut self) -> &str {
        if self.exited.is_none() {
            self.exited = Some((&mut self.exit).await.unwrap_or_else(|_| "its supervisor ended".into()));
        }
        self.exited.as_deref().unwrap_or_default()
    }

    /// Whether any of its threads is running or waits only for a CPU (R) or a disk (D, as when memory is swapped): then it is
    /// starved rather than stuck.
    pub(super) fn wants_to_run(&self) -> bool {
        let Some(Ok(tasks)) = self.pid.map(|pid| std::fs::read_dir(format!("/proc/{pid}/task"))) else { return false };
        tasks.flatten().any(|task| {
            // The state stands behind the name in brackets (proc(5)), which may hold brackets itself.
            let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['R', 'D']))
        })
    }
}

/// Reaps the process when it exits. One that hangs, or is not needed any more, does not get to choose.
async fn supervise(
    mut child: Child,
    ended: oneshot::Receiver<()>,
    exited: oneshot::Sender<String>,
    kills: Arc<AtomicU64>,
) {
    let kill = async {
        if ended.await.is_ok() {
            tokio::time::sleep(EXIT_DEADLINE).await;
        }
    };
    let exit = tokio::select! {
        exit = child.wait() => exit,
        () = kill => {
            let _ = child.start_kill();
            child.wait().await
        }
    };
    let killed = exit.as_ref().is_ok_and(|status| status.signal() == Some(confine::KILLED_BY));
    if killed {
        kills.fetch_add(1, Ordering::Relaxed);
        warn!(
            "a worker was ended by its own confinement: a stream may have taken it over (confinement: never turns this off)"
        );
    }
    let _ = exited.send(exit.map_or_else(|e| e.to_string(), words));
}

/// How it ended, for the log and the state.
fn words(status: ExitStatus) -> String {
    match status.signal() {
        Some(confine::KILLED_BY) => {
            format!("{status}: its own confinement ended it, as it asked the kernel for what no worker needs")
        }
        _ => status.to_string(),
    }
}

/// What a worker writes to standard error becomes log lines. Long ones are cut, and there is an end to how many.
async fn log_stderr(stderr: tokio::process::ChildStderr, pid: Option<u32>) {
    /// A worker writes a few lines about a broken stream; a thousand are a loop.
    const LINES: usize = 1_000;
    let mut lines = BufReader::new(stderr.take(4 << 20)).lines();
    let mut count = 0;
    while let Ok(Some(line)) = lines.next_line().await {
        count += 1;
        if count <= LINES {
            let line: String = line.chars().take(500).collect();
            warn!(pid, "worker: {line}");
        }
    }
}
