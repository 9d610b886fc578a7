//! What goes up to the parent: one bounded queue, one thread that writes it to the socket.
//!
//! Facts are always taken. Media waits a little when the queue is full and is refused after that: a parent that does not read
//! must not make the child grow, and what would come later than that is of no use to a viewer.

use ipc::ToParent;
use std::collections::VecDeque;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Bytes of media that may wait: a second of the largest preset (6.3 Mbit/s in three layers) with its key frames.
const MAX_BYTES: usize = 1 << 20;
/// How long one piece of media may wait for room: longer than the parent ever pauses, shorter than a viewer's patience.
const ROOM_DEADLINE: Duration = Duration::from_millis(200);
/// The interval that [`ToParent::Alive`] promises.
const ALIVE_EVERY: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<ToParent>,
    bytes: usize,
    /// Media was refused and the queue has not been emptied since: nobody waits for room in vain again.
    stalled: bool,
    /// Nothing more is taken.
    closed: bool,
    /// The last message was handed in: that all is done, or that nothing can be.
    ended: Option<bool>,
    /// Why the child is to go as if it had crashed.
    crash: Option<String>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    filled: Condvar,
    room: Condvar,
    received: AtomicU64,
    sent: AtomicU64,
}

/// The queue's entrance.
#[derive(Clone, Debug)]
pub struct Outbox(Arc<Shared>);

impl Outbox {
    /// The queue.
    pub fn new() -> Self {
        Self(Arc::default())
    }

    /// Whether the last message has been handed in; if so, whether it is [`ToParent::Finished`].
    pub fn ended(&self) -> Option<bool> {
        self.lock().ended
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a frame that was handed to a decoder.
    pub fn count_received(&self) {
        self.0.received.fetch_add(1, Ordering::Relaxed);
    }

    /// Sends a fact.
    pub fn fact(&self, message: ToParent) {
        let last = matches!(message, ToParent::Finished | ToParent::Failed { .. });
        let mut state = self.lock();
        if !state.closed {
            if last {
                state.closed = true;
                state.ended = Some(message == ToParent::Finished);
            }
            state.queue.push_back(message);
            self.0.filled.notify_one();
        }
    }

    /// Ends the child as if it had crashed, without a last message: the fault is ours, and another child may do better.
    pub fn crash(&self, reason: String) {
        let mut state = self.lock();
        state.closed = true;
        state.crash.get_or_insert(reason);
        self.0.filled.notify_one();
        self.0.room.notify_all();
    }

    /// Sends a picture or a packet of sound of `bytes` bytes. Says whether it was taken.
    pub fn media(&self, message: ToParent, bytes: usize) -> bool {
        let fits = |s: &State| s.bytes == 0 || s.bytes + bytes <= MAX_BYTES;
        let mut state = self.lock();
        if !fits(&state) && !state.stalled {
            let waited = self.0.room.wait_timeout_while(state, ROOM_DEADLINE, |s| !fits(s));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        if state.closed || !fits(&state) {
            state.stalled = true;
            return false;
        }
        state.bytes += bytes;
        state.queue.push_back(message);
        self.0.sent.fetch_add(1, Ordering::Relaxed);
        self.0.filled.notify_one();
        true
    }

    /// Sends what a pulled source brings. Waits for as long as it takes: such a source can wait, too.
    pub fn pulled(&self, message: ToParent, bytes: usize) {
        let full = |s: &mut State| !s.closed && s.bytes > 0 && s.bytes + bytes > MAX_BYTES;
        let waited = self.0.room.wait_while(self.lock(), full);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        if !state.closed {
            state.bytes += bytes;
            state.queue.push_back(message);
            self.0.sent.fetch_add(1, Ordering::Relaxed);
            self.0.filled.notify_one();
        }
    }

    /// Writes to `socket` until the last message ([`ToParent::Finished`] or [`ToParent::Failed`]) is out or the parent is
    /// gone; then shuts the socket down, which also ends its reading. `check` runs ten times a second and may name a reason to
    /// give up: that goes to standard error, as a child that hangs is replaced like one that crashed.
    pub fn write_all(&self, mut socket: UnixStream, mut check: impl FnMut() -> Option<String>) {
        let (mut batch, mut bytes) = (VecDeque::new(), Vec::new());
        let mut alive_at = Instant::now() + ALIVE_EVERY;
        loop {
            self.take(&mut batch, alive_at);
            let crash = self.lock().crash.take();
            if let Some(reason) = crash {
                self.give_up(&reason);
                break;
            }
            let last = batch.iter().any(|m| matches!(m, ToParent::Finished | ToParent::Failed { .. }));
            // Nothing comes behind the last message.
            if !last && Instant::now() >= alive_at {
                alive_at = Instant::now() + ALIVE_EVERY;
                batch.push_back(self.alive());
                if let Some(reason) = check() {
                    self.give_up(&reason);
                    break;
                }
            }
            for message in batch.drain(..) {
                // Too long for the link can only be a picture; the next key frame mends that.
                let _ = ipc::encode(&message, &mut bytes);
            }
            if socket.write_all(&bytes).is_err() || last {
                break;
            }
            bytes.clear();
        }
        self.lock().closed = true;
        let _ = socket.shutdown(std::net::Shutdown::Both);
    }

    fn give_up(&self, reason: &str) {
        eprintln!("{reason}");
        self.lock().ended = Some(false);
    }

    fn alive(&self) -> ToParent {
        ToParent::Alive { received: self.0.received.load(Ordering::Relaxed), sent: self.0.sent.load(Ordering::Relaxed) }
    }

    /// Waits for messages, but not beyond `deadline`.
    fn take(&self, batch: &mut VecDeque<ToParent>, deadline: Instant) {
        let wait = deadline.saturating_duration_since(Instant::now());
        let waited = self.0.filled.wait_timeout_while(self.lock(), wait, |s| s.queue.is_empty() && s.crash.is_none());
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        std::mem::swap(batch, &mut state.queue);
        state.bytes = 0;
        state.stalled = false;
        self.0.room.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use model::MediaTime;
    use std::io::Read;

    fn packet(n: usize) -> ToParent {
        ToParent::Audio { pts: MediaTime::ZERO, level: 0, data: Bytes::from(vec![0; n]) }
    }

    #[test]
    fn media_that_nobody_reads_is_refused_and_facts_are_not() {
        let outbox = Outbox::new();
        let taken = (0..100).filter(|_| outbox.media(packet(100_000), 100_000)).count();
        assert_eq!(taken, MAX_BYTES / 100_000);
        outbox.fact(ToParent::Ready);
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        outbox.fact(ToParent::Finished);
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            theirs.read_to_end(&mut all).unwrap();
            all
        });
        outbox.write_all(ours, || None);
        let mut decoder = ipc::Decoder::<ToParent>::default();
        decoder.push(&reader.join().unwrap());
        let mut got = Vec::new();
        while let Some(m) = decoder.next_message().unwrap() {
            got.push(m);
        }
        assert_eq!(got.len(), taken + 2);
        assert_eq!(got[taken..], [ToParent::Ready, ToParent::Finished]);
        assert!(!outbox.media(packet(1), 1), "nothing is taken after the last message");
    }

    #[test]
    fn a_reason_to_give_up_ends_it_without_a_last_message() {
        let outbox = Outbox::new();
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        outbox.fact(ToParent::Ready);
        let mut checks = 0;
        outbox.write_all(ours, || {
            checks += 1;
            (checks == 3).then(|| "stuck".into())
        });
        let mut all = Vec::new();
        theirs.read_to_end(&mut all).unwrap();
        let mut decoder = ipc::Decoder::<ToParent>::default();
        decoder.push(&all);
        let mut got = Vec::new();
        while let Some(m) = decoder.next_message().unwrap() {
            got.push(m);
        }
        assert_eq!(got[0], ToParent::Ready);
        assert!(got[1..].iter().all(|m| *m == ToParent::Alive { received: 0, sent: 0 }), "{got:?}");
        assert_eq!(got.len(), 3);
    }
}
