//! The child's threads, and the eye on them: one that hangs inside a codec or panics ends the child with words, as nothing
//! else could tell the parent more than that media stopped.

use crate::outbox::Outbox;
use link::ToParent;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long one picture or packet may take: a hundred times what the slowest takes on an idle machine. The parent finds out
/// much sooner where all threads stand still; this is for one that turns in circles or waits alone.
const STUCK: Duration = Duration::from_secs(3);

/// Starts threads and watches them.
#[derive(Clone)]
pub(crate) struct Watch {
    start: Instant,
    threads: Arc<Mutex<Vec<Watched>>>,
    outbox: Outbox,
}

struct Watched {
    name: String,
    since: Arc<AtomicU64>,
}

/// A thread's mark of what it is doing.
#[derive(Debug)]
pub(crate) struct Busy {
    start: Instant,
    /// Milliseconds (plus one) since the start at which the work began; 0 while there is none.
    since: Arc<AtomicU64>,
}

/// Until it is dropped, the thread counts as busy.
#[derive(Debug)]
pub(crate) struct Working<'a>(&'a AtomicU64);

impl Busy {
    /// Marks the begin of one piece of work.
    pub(crate) fn enter(&self) -> Working<'_> {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        self.since.store(now + 1, Ordering::Relaxed);
        Working(&self.since)
    }
}

impl Drop for Working<'_> {
    fn drop(&mut self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

impl Watch {
    /// Nothing to watch yet. Panics are reported through `outbox`.
    pub(crate) fn new(outbox: Outbox) -> Self {
        Self { start: Instant::now(), threads: Arc::default(), outbox }
    }

    /// Starts a thread.
    ///
    /// # Errors
    /// If the system has none left.
    pub(crate) fn spawn(
        &self,
        name: &str,
        work: impl FnOnce(Busy) + Send + 'static,
    ) -> std::io::Result<std::thread::JoinHandle<()>> {
        let since = Arc::new(AtomicU64::new(0));
        let busy = Busy { start: self.start, since: Arc::clone(&since) };
        let outbox = self.outbox.clone();
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            if std::panic::catch_unwind(AssertUnwindSafe(|| work(busy))).is_err() {
                outbox.fact(ToParent::Failed { reason: "internal fault in the transcoder".into() });
            }
        })?;
        self.lock().push(Watched { name: name.to_owned(), since });
        Ok(thread)
    }

    /// The name of a thread that has been at one piece of work for too long.
    pub(crate) fn stuck(&self) -> Option<String> {
        self.stuck_at(u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    fn stuck_at(&self, now: u64) -> Option<String> {
        let limit = STUCK.as_millis() as u64;
        let mut threads = self.lock();
        threads.retain(|t| Arc::strong_count(&t.since) > 1);
        let busy_for = |t: &&Watched| match t.since.load(Ordering::Relaxed) {
            0 => 0,
            since => now.saturating_sub(since),
        };
        threads.iter().find(|t| busy_for(t) > limit).map(|t| t.name.clone())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Watched>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn a_thread_that_is_busy_for_too_long_is_named_and_an_idle_one_is_not() {
        let watch = Watch::new(Outbox::new());
        let (entered, has_entered) = channel::<()>();
        let (leave, may_leave) = channel::<()>();
        let stuck = watch
            .spawn("picture", move |busy| {
                let _working = busy.enter();
                entered.send(()).unwrap();
                may_leave.recv().unwrap();
            })
            .unwrap();
        let (end, may_end) = channel::<()>();
        let idle = watch
            .spawn("idle", move |busy| {
                drop(busy.enter());
                may_end.recv().unwrap();
            })
            .unwrap();
        has_entered.recv().unwrap();
        assert_eq!(watch.stuck_at(2_000), None);
        assert_eq!(watch.stuck_at(60_000).as_deref(), Some("picture"));
        leave.send(()).unwrap();
        stuck.join().unwrap();
        assert_eq!(watch.stuck_at(60_000), None);
        end.send(()).unwrap();
        idle.join().unwrap();
    }
}
