//! What goes up to the parent: one bounded queue, and one thread that writes what the socket does not take at once.
//!
//! While nothing waits, the thread that has a message writes it itself: no other has to be woken for it.
//!
//! Facts are always taken. Media waits a little when the queue is full and is refused after that: a parent that does not read
//! must not make the worker grow, and what would come later than that is of no use to a viewer.

use bytes::Buf;
use ipc::{Batch, End, Event, Hello, Message, Ready};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};
use std::io::{IoSlice, Write};
use std::marker::PhantomData;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Bytes of media that may wait: a second of the largest preset (6.3 Mbit/s in three layers) with its key frames.
const MAX_BYTES: usize = 1 << 20;
/// How long one piece of media may wait for capacity: longer than the parent ever pauses, shorter than a viewer notices.
const CAPACITY_DEADLINE: Duration = Duration::from_millis(200);
/// The interval of heartbeats: five in what the parent takes for silence.
const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(100);
/// Slices that one call of `writev(2)` takes: thirty-two messages.
const SLICES: usize = 64;
/// A worker whose parent is gone gets an error from its socket and no signal. Where there is no such flag, Rust's runtime sees to that: it
/// ignores SIGPIPE.
#[cfg(target_os = "linux")]
const QUIETLY: SendFlags = SendFlags::NOSIGNAL;
#[cfg(not(target_os = "linux"))]
const QUIETLY: SendFlags = SendFlags::empty();

#[derive(Debug, Default)]
struct State {
    queue: Batch,
    /// Bytes of media in the queue.
    bytes: usize,
    /// Media was refused and the queue has not been emptied since: nobody waits for capacity in vain again.
    stalled: bool,
    /// The worker is warm and has no role yet: no heartbeats, as nobody listens.
    idle: bool,
    /// Nothing more is taken.
    closed: bool,
    /// The last message was handed in, or the writer has given up.
    ended: Option<End>,
    /// Why the worker is to go as if it had crashed.
    crash: Option<String>,
    /// Once the writer runs.
    socket: Option<UnixStream>,
    /// The writer has taken messages that are not written yet: all others wait behind them.
    writing: bool,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    filled: Condvar,
    emptied: Condvar,
}

/// The queue, whatever the role.
#[derive(Clone, Debug, Default)]
pub struct Outbox(Arc<Shared>);

/// The queue's entrance for the events of a role.
#[derive(Debug)]
pub struct Events<E> {
    outbox: Outbox,
    of: PhantomData<fn(E)>,
}

impl<E> Clone for Events<E> {
    fn clone(&self) -> Self {
        self.outbox.events()
    }
}

impl Outbox {
    /// An empty queue.
    pub fn new() -> Self {
        Self::default()
    }

    /// The entrance for events.
    pub fn events<E>(&self) -> Events<E> {
        Events { outbox: self.clone(), of: PhantomData }
    }

    /// How the worker has ended, once the last message has been handed in.
    pub fn ended(&self) -> Option<End> {
        self.lock().ended
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends the first message.
    pub fn hello(&self) {
        self.put(&mut self.lock(), &Hello::OURS, 0);
    }

    /// Says that the worker is warm, or why it can't be: then that is its last message.
    pub fn ready(&self, ready: Ready) {
        let mut state = self.lock();
        if ready.0.is_err() {
            (state.closed, state.ended) = (true, Some(End::Failed));
        }
        state.idle = true;
        self.put(&mut state, &ready, 0);
    }

    /// The worker has a role: heartbeats go on.
    pub fn assigned(&self) {
        self.lock().idle = false;
        self.0.filled.notify_one();
    }

    /// Does the work of a thread. A panic ends the worker as if it had crashed: nothing else would say that this thread is gone.
    pub(crate) fn guard(&self, thread: &str, work: impl FnOnce()) {
        if catch_unwind(AssertUnwindSafe(work)).is_err() {
            self.crash(format!("the worker panicked ({thread})"));
        }
    }

    /// Ends the worker as if it had crashed, without a last message: the fault is ours, and another worker may do better.
    pub fn crash(&self, reason: String) {
        let mut state = self.lock();
        state.closed = true;
        state.crash.get_or_insert(reason);
        self.0.filled.notify_one();
        self.0.emptied.notify_all();
    }

    fn put<M: Message>(&self, state: &mut State, message: &M, bytes: usize) {
        // Only an access unit can be too long; the next key frame mends that.
        if state.queue.push(message).is_ok() {
            state.bytes += bytes;
        }
        // The writer has to see the last message: it shuts the socket down behind it.
        if !state.writing && state.ended.is_none() && state.write_at_once() {
            state.bytes = 0;
            return;
        }
        self.0.filled.notify_one();
    }

    /// Writes to `socket` until the last message is out or the parent is gone; then shuts the socket down, which also ends its
    /// reading. `check` runs with each heartbeat and may name a reason to give up: that goes to standard error, as a worker that hangs
    /// is replaced like one that crashed.
    pub fn write_all(&self, mut socket: UnixStream, mut check: impl FnMut() -> Option<String>) {
        self.lock().socket = socket.try_clone().ok();
        let mut heartbeat_at = Instant::now() + HEARTBEAT_INTERVAL;
        loop {
            let (mut batch, last, crash) = self.take(heartbeat_at);
            if let Some(reason) = crash {
                self.give_up(&reason);
                break;
            }
            // Nothing comes behind the last message.
            if !last && Instant::now() >= heartbeat_at {
                heartbeat_at = Instant::now() + HEARTBEAT_INTERVAL;
                batch.push_heartbeat();
                if let Some(reason) = check() {
                    self.give_up(&reason);
                    break;
                }
            }
            if write(&mut socket, &mut batch).is_err() || last {
                break;
            }
            self.lock().writing = false;
        }
        let mut state = self.lock();
        (state.closed, state.socket) = (true, None);
        drop(state);
        let _ = socket.shutdown(std::net::Shutdown::Both);
    }

    fn give_up(&self, reason: &str) {
        eprintln!("{reason}");
        self.lock().ended = Some(End::Failed);
    }

    /// Waits for messages, but not beyond `deadline`; gives them, and whether the last is among them, or a reason to crash.
    fn take(&self, deadline: Instant) -> (Batch, bool, Option<String>) {
        let empty = |s: &mut State| !s.queue.has_remaining() && s.crash.is_none();
        let idle = self.0.filled.wait_while(self.lock(), |s| s.idle && empty(s));
        let wait = deadline.saturating_duration_since(Instant::now());
        let waited = self.0.filled.wait_timeout_while(idle.unwrap_or_else(PoisonError::into_inner), wait, empty);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        state.bytes = 0;
        state.stalled = false;
        state.writing = true;
        self.0.emptied.notify_all();
        (std::mem::take(&mut state.queue), state.ended.is_some(), state.crash.take())
    }
}

impl State {
    /// Writes what the socket takes without waiting; says whether that is all.
    fn write_at_once(&mut self) -> bool {
        let Some(socket) = &self.socket else { return false };
        while self.queue.has_remaining() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let count = self.queue.chunks_vectored(&mut slices);
            let flags = SendFlags::DONTWAIT.union(QUIETLY);
            match sendmsg(socket, &slices[..count], &mut SendAncillaryBuffer::default(), flags) {
                Ok(written) => self.queue.advance(written),
                Err(Errno::INTR) => {}
                // It is full, or broken: the writer waits, or finds out.
                Err(_) => return false,
            }
        }
        true
    }
}

impl<E: Event> Events<E> {
    /// Sends a fact.
    pub fn send(&self, event: &E) {
        let mut state = self.outbox.lock();
        if !state.closed {
            if let Some(end) = event.end() {
                (state.closed, state.ended) = (true, Some(end));
            }
            self.outbox.put(&mut state, event, 0);
        }
    }

    /// Sends media that is of no use later. Says whether it was taken.
    pub fn offer(&self, event: &E) -> bool {
        let bytes = event.payload().map_or(0, bytes::Bytes::len);
        let fits = |s: &State| s.bytes == 0 || s.bytes + bytes <= MAX_BYTES;
        let mut state = self.outbox.lock();
        if !fits(&state) && !state.stalled {
            let emptied = &self.outbox.0.emptied;
            let waited = emptied.wait_timeout_while(state, CAPACITY_DEADLINE, |s| !s.closed && !fits(s));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        if state.closed || !fits(&state) {
            state.stalled = true;
            return false;
        }
        self.outbox.put(&mut state, event, bytes);
        true
    }

    /// Sends media of a source that can wait: waits for as long as it takes.
    pub fn send_when_ready(&self, event: &E) {
        let bytes = event.payload().map_or(0, bytes::Bytes::len);
        let full = |s: &mut State| !s.closed && s.bytes > 0 && s.bytes + bytes > MAX_BYTES;
        let waited = self.outbox.0.emptied.wait_while(self.outbox.lock(), full);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        if !state.closed {
            self.outbox.put(&mut state, event, bytes);
        }
    }

    /// See [`Outbox::crash`].
    pub fn crash(&self, reason: String) {
        self.outbox.crash(reason);
    }

    /// Does the work of a thread. A panic ends the worker as if it had crashed: nothing else would say that this thread is gone.
    pub fn guard(&self, thread: &str, work: impl FnOnce()) {
        self.outbox.guard(thread, work);
    }
}

fn write(socket: &mut UnixStream, batch: &mut Batch) -> std::io::Result<()> {
    while batch.has_remaining() {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let count = batch.chunks_vectored(&mut slices);
        match socket.write_vectored(&slices[..count]) {
            Ok(0) => return Err(std::io::ErrorKind::WriteZero.into()),
            Ok(written) => batch.advance(written),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use ipc::transcode;
    use model::MediaTime;
    use std::io::Read;

    fn packet(length: usize) -> transcode::Event {
        transcode::Event::AudioPacket { pts: MediaTime::ZERO, level: 0, data: Bytes::from(vec![0; length]) }
    }

    /// All that comes from a socket: the handshake, and events.
    pub(crate) fn received(mut socket: UnixStream) -> Vec<transcode::Event> {
        let (mut all, mut decoder, mut events) = (Vec::new(), ipc::Decoder::default(), Vec::new());
        socket.read_to_end(&mut all).unwrap();
        let mut rest = &all[..];
        while !rest.is_empty() {
            rest = &rest[decoder.fill(rest)..];
            events.extend(std::iter::from_fn(|| decoder.next_message().unwrap()));
        }
        events
    }

    #[test]
    fn unread_media_is_refused_and_facts_are_not() {
        let outbox = Outbox::new();
        let events = outbox.events();
        let taken = (0..100).filter(|_| events.offer(&packet(100_000))).count();
        assert_eq!(taken, MAX_BYTES / 100_000);
        let format = transcode::Event::AudioFormat { sample_rate: 48_000, channels: 2 };
        events.send(&format);
        events.send(&transcode::Event::Finished);
        let (ours, theirs) = UnixStream::pair().unwrap();
        let reader = std::thread::spawn(move || received(theirs));
        outbox.write_all(ours, || None);
        let got = reader.join().unwrap();
        assert_eq!(got.len(), taken + 2);
        assert_eq!(got[taken..], [format, transcode::Event::Finished]);
        assert!(!events.offer(&packet(1)), "nothing is taken after the last message");
        assert_eq!(outbox.ended(), Some(End::Finished));
    }

    #[test]
    fn messages_keep_their_order_whoever_writes_them() {
        let outbox = Outbox::new();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let writer = std::thread::spawn({
            let outbox = outbox.clone();
            move || outbox.write_all(ours, || None)
        });
        let events = outbox.events();
        let sender = std::thread::spawn(move || {
            // More than a socket holds, in pieces that it takes and pieces that it does not.
            for n in 0..400u32 {
                events.send_when_ready(&transcode::Event::AudioPacket {
                    pts: MediaTime::from_millis(n.into()),
                    level: 0,
                    data: Bytes::from(vec![0; if n % 7 == 0 { 300_000 } else { 40 }]),
                });
            }
            events.send(&transcode::Event::Finished);
        });
        let got = received(theirs);
        let times = got.iter().filter_map(|e| {
            if let transcode::Event::AudioPacket { pts, .. } = e { Some(pts.as_millis()) } else { None }
        });
        assert!(times.eq(0..400));
        assert_eq!(got.last(), Some(&transcode::Event::Finished));
        sender.join().unwrap();
        writer.join().unwrap();
    }

    #[test]
    fn giving_up_sends_no_last_message() {
        let outbox = Outbox::new();
        let (ours, theirs) = UnixStream::pair().unwrap();
        outbox.events().send(&packet(1));
        let mut checks = 0;
        outbox.write_all(ours, || {
            checks += 1;
            (checks == 3).then(|| "stuck".into())
        });
        assert_eq!(received(theirs), [packet(1)]);
        assert_eq!((checks, outbox.ended()), (3, Some(End::Failed)));
    }

    #[test]
    fn waiting_media_is_let_go_when_the_worker_ends() {
        let outbox = Outbox::new();
        let events = outbox.events();
        events.send_when_ready(&packet(MAX_BYTES));
        let waiting = std::thread::spawn({
            let events = events.clone();
            move || events.send_when_ready(&packet(1))
        });
        outbox.crash("planted".into());
        waiting.join().unwrap();
    }
}
