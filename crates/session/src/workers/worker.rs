//! A worker as its session holds it: commands go in without waiting, events come out.
//!
//! The session's own task writes and reads the socket, whenever it waits for the next event: no task stands between. A worker that does
//! not keep up or hangs costs frames, never memory, and is killed.

use super::process::Process;
use bytes::Buf;
use ipc::{Assignment, Batch, Event, Hello, Ready, Role, VERSION};
use std::io::{ErrorKind, IoSlice};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::Interest;
use tokio::sync::{Semaphore, TryAcquireError, mpsc};
use tracing::warn;

/// Commands that may wait for a worker: two seconds of 60 pictures and 47 packets a second. A worker that is further behind does
/// not keep up, and waiting longer would only make the delay worse.
const COMMAND_QUEUE: usize = 214;
/// What one event of a source can bring: a configuration, a bound and a frame.
const COMMANDS_PER_SOURCE_EVENT: u32 = 4;
/// How long a full queue is waited for. What is in it is two seconds of media, which a worker that works has through in less.
pub(crate) const FULL_QUEUE_DEADLINE: Duration = Duration::from_millis(500);
/// A worker sends ten heartbeats a second. After a silence of this length it is looked at; one of which no thread even wants to run
/// hangs: a starved one does, so that this may be short. Together with the 150 ms of a warm worker's start and the pictures that
/// it has to catch up with that is below the second that viewers are promised.
const SILENCE_CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// After a silence of this length a worker hangs however busy it is.
const HANG_DEADLINE: Duration = Duration::from_secs(5);
/// Slices that one call of `writev(2)` takes: thirty-two messages.
const SLICES: usize = 64;

/// What a worker sends, or how it ended.
#[derive(Debug)]
pub enum FromWorker<E> {
    /// An event.
    Event(E),
    /// It is gone; always the last.
    Gone(Gone),
}

/// How a worker ended, as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gone {
    /// It went away before it was ready: it could not be started.
    NotStarted(String),
    /// It crashed, or was killed as it hung.
    Crashed(String),
}

/// A running worker. Dropping it kills the process.
#[derive(Debug)]
pub struct Worker<R: Role>(Ends<R>);

#[derive(Debug)]
enum Ends<R: Role> {
    Process(Box<Connection>),
    Channels { to: mpsc::Sender<R::Command>, from: mpsc::Receiver<FromWorker<R::Event>> },
}

impl<R: Role> Worker<R> {
    /// A scripted worker, for tests.
    pub fn from_channels(to: mpsc::Sender<R::Command>, from: mpsc::Receiver<FromWorker<R::Event>>) -> Self {
        Self(Ends::Channels { to, from })
    }

    /// Gives a process its role.
    pub(super) fn assign(process: Process, job: impl Into<Assignment>) -> Self {
        let mut outgoing = Batch::default();
        for pushed in [outgoing.push(&Hello::OURS), outgoing.push(&job.into())] {
            // Nothing but lists of hosts beyond a megabyte; the worker is then found to say nothing.
            let _ = pushed.inspect_err(|e| warn!(error = %e, "an assignment was not sent"));
        }
        let mut connection = Connection {
            process,
            outgoing,
            capacity: Arc::new(Semaphore::new(COMMAND_QUEUE)),
            queued: 0,
            stage: Stage::Hello,
            last_received: Instant::now(),
            checks: 0,
            gone: None,
        };
        connection.flush();
        Self(Ends::Process(Box::new(connection)))
    }

    /// Hands over a command without waiting; gives it back if the queue is full. It is written when [`Worker::recv`] is polled.
    pub fn send(&mut self, command: R::Command) -> Option<R::Command> {
        match &mut self.0 {
            Ends::Process(connection) => connection.send(command),
            Ends::Channels { to, .. } => match to.try_send(command) {
                Err(mpsc::error::TrySendError::Full(command)) => Some(command),
                // That it is gone, and why, comes as an event.
                Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => None,
            },
        }
    }

    /// Whether [`Worker::ready_by`] has to be waited for before the next event of a source is taken.
    pub fn is_full(&self) -> bool {
        let capacity = match &self.0 {
            Ends::Process(connection) => connection.capacity.available_permits(),
            Ends::Channels { to, .. } => to.capacity(),
        };
        capacity < COMMANDS_PER_SOURCE_EVENT as usize
    }

    /// Resolves when a command can be handed over, or the worker is gone. [`Worker::recv`] has to be polled meanwhile.
    pub fn ready(&self) -> impl Future<Output = ()> + Send + use<R> {
        self.ready_for(1)
    }

    /// Resolves when the commands of one more event of a source can be handed over (true), or at `deadline` all the same: then the
    /// worker does not keep up, or hangs, and frames are to be dropped.
    pub fn ready_by(&self, deadline: Instant) -> impl Future<Output = bool> + Send + use<R> {
        let ready = self.ready_for(COMMANDS_PER_SOURCE_EVENT);
        async move { tokio::time::timeout_at(deadline.into(), ready).await.is_ok() }
    }

    fn ready_for(&self, commands: u32) -> impl Future<Output = ()> + Send + use<R> {
        let (capacity, to) = match &self.0 {
            Ends::Process(connection) => (Some(Arc::clone(&connection.capacity)), None),
            Ends::Channels { to, .. } => (None, Some(to.clone())),
        };
        async move {
            if let Some(capacity) = capacity {
                drop(capacity.acquire_many(commands).await);
            }
            if let Some(to) = to {
                drop(to.reserve_many(commands as usize).await);
            }
        }
    }

    /// The next event. Cancel safe.
    pub async fn recv(&mut self) -> FromWorker<R::Event> {
        match &mut self.0 {
            Ends::Process(connection) => connection.recv::<R>().await,
            Ends::Channels { from, .. } => {
                let gone = || FromWorker::Gone(Gone::Crashed("its task ended".into()));
                from.recv().await.unwrap_or_else(gone)
            }
        }
    }

    /// The process id, where it is a process.
    pub fn pid(&self) -> Option<u32> {
        match &self.0 {
            Ends::Process(connection) => connection.process.pid,
            Ends::Channels { .. } => None,
        }
    }
}

/// How far a worker has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Hello,
    Ready,
    Events,
}

/// The socket of a worker with a role.
#[derive(Debug)]
struct Connection {
    process: Process,
    outgoing: Batch,
    /// A permit for each command that may still be handed over.
    capacity: Arc<Semaphore>,
    /// Permits that commands in `outgoing` hold.
    queued: usize,
    stage: Stage,
    /// When the last bytes came, and how often it was looked at since.
    last_received: Instant,
    checks: u32,
    /// How it ended.
    gone: Option<String>,
}

impl Connection {
    fn send<C: ipc::Message>(&mut self, command: C) -> Option<C> {
        match self.capacity.try_acquire() {
            Ok(permit) => permit.forget(),
            Err(TryAcquireError::Closed) => return None,
            Err(TryAcquireError::NoPermits) => return Some(command),
        }
        match self.outgoing.push(&command) {
            Ok(()) => self.queued += 1,
            Err(e) => {
                warn!(error = %e, "a command to a worker was dropped");
                self.capacity.add_permits(1);
            }
        }
        None
    }

    async fn recv<R: Role>(&mut self) -> FromWorker<R::Event> {
        loop {
            if let Some(how) = self.gone.clone() {
                let how = format!("{how}, {}", self.process.exit().await);
                let started = self.stage == Stage::Events;
                return FromWorker::Gone(if started { Gone::Crashed(how) } else { Gone::NotStarted(how) });
            }
            match self.next_event::<R>() {
                Ok(Some(event)) => return FromWorker::Event(event),
                Ok(None) => {}
                Err(how) => {
                    self.end(how);
                    continue;
                }
            }
            self.flush();
            self.wait_and_read().await;
        }
    }

    /// The next event that has come whole; or how the worker breaks the protocol.
    fn next_event<R: Role>(&mut self) -> Result<Option<R::Event>, String> {
        let invalid = |e: ipc::Error| format!("it sent an invalid message ({e})");
        let decoder = &mut self.process.decoder;
        loop {
            match self.stage {
                Stage::Hello => match decoder.next_message().map_err(invalid)? {
                    Some(Hello { version: VERSION }) => self.stage = Stage::Ready,
                    Some(Hello { version }) => {
                        return Err(format!("it speaks version {version} of our messages, not {VERSION}"));
                    }
                    None => return Ok(None),
                },
                Stage::Ready => match decoder.next_message().map_err(invalid)? {
                    Some(Ready(ready)) => {
                        self.stage = Stage::Events;
                        if let Err(fault) = ready {
                            return Ok(Some(brief(R::Event::from(fault))));
                        }
                    }
                    None => return Ok(None),
                },
                Stage::Events => return decoder.next_message().map(|event| event.map(brief)).map_err(invalid),
            }
        }
    }

    /// Writes what the socket takes.
    fn flush(&mut self) {
        while self.outgoing.has_remaining() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let count = self.outgoing.chunks_vectored(&mut slices);
            match self.process.socket.try_write_vectored(&slices[..count]) {
                Ok(written) => self.outgoing.advance(written),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                // A worker that went away shows when it is read from, which tells more.
                Err(_) => break,
            }
        }
        // Of the assignment, which holds no permits, at most two messages are counted here.
        let free = self.queued.saturating_sub(self.outgoing.messages());
        self.queued -= free;
        self.capacity.add_permits(free);
    }

    /// Waits until the socket can be read, or written if something waits for that; reads. Cancel safe.
    async fn wait_and_read(&mut self) {
        let mut interest = Interest::READABLE;
        if self.outgoing.has_remaining() {
            interest = interest.add(Interest::WRITABLE);
        }
        let check_at = self.last_received + SILENCE_CHECK_INTERVAL * (self.checks + 1);
        match tokio::time::timeout_at(check_at.into(), self.process.socket.ready(interest)).await {
            Err(_) => self.check_silence(),
            Ok(Err(e)) => self.end(e.to_string()),
            Ok(Ok(ready)) if ready.is_readable() || ready.is_read_closed() => self.read(),
            Ok(Ok(_)) => {}
        }
    }

    fn read(&mut self) {
        match self.process.socket.try_read_buf(self.process.decoder.spare()) {
            Ok(0) => self.end("it exited".into()),
            Ok(_) => (self.last_received, self.checks) = (Instant::now(), 0),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(e) => self.end(e.to_string()),
        }
    }

    /// A silent worker of which no thread even wants to run hangs.
    fn check_silence(&mut self) {
        self.checks += 1;
        let silence = SILENCE_CHECK_INTERVAL * self.checks;
        if silence >= HANG_DEADLINE || !self.process.wants_to_run() {
            self.end(format!("it hung for {} ms", silence.as_millis()));
        }
    }

    fn end(&mut self, how: String) {
        self.gone.get_or_insert(how);
        self.capacity.close();
        self.process.end();
    }
}

/// Texts of a worker end in the ingress's state and in the log: no decoder that a stranger feeds may make them endless.
fn brief<E: Event>(mut event: E) -> E {
    /// Characters; the longest of our own are about 200.
    const LONGEST: usize = 500;
    if let Some(fault) = event.fault_mut()
        && let Some((end, _)) = fault.text.char_indices().nth(LONGEST)
    {
        fault.text.truncate(end);
        fault.text.push('…');
    }
    event
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{Blame, Fault};

    #[test]
    fn long_texts_are_cut_between_characters() {
        let text = |n| "é".repeat(n);
        let failed = |text| ipc::demux::Event::Failed(Fault::new(Blame::Us, text));
        assert_eq!(brief(failed(text(500))), failed(text(500)));
        assert_eq!(brief(failed(text(1 << 20))), failed(text(500) + "…"));
    }
}
