//! The child's threads, and the eye on them: one that hangs inside a codec or panics ends the child, as nothing else could
//! tell the parent more than that media stopped.
//!
//! A thread hangs if one piece of its work has taken a lot of its *own* time, or no end of anybody's. On a machine that has too
//! much to do, threads wait for seconds without any fault of theirs; ending them would only add to what there is to do.

use crate::outbox::Outbox;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// From when on a piece of work is looked at more closely.
const LONG: Duration = Duration::from_secs(1);
/// How much processor time it may take from then on: a hundred times what the slowest picture takes.
const SPINS: Duration = Duration::from_secs(2);
/// How long it may take in all: something that waits for what never comes uses no processor.
const WAITS: Duration = Duration::from_secs(30);

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
    /// Where the system tells its processor time.
    stat: Option<PathBuf>,
    /// The begin of the work that was seen to be long, and the thread's processor time then.
    noticed: Option<(u64, Duration)>,
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
        self.since.store(millis(self.start.elapsed()).saturating_add(1), Ordering::Relaxed);
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
        let (watch, name) = (self.clone(), name.to_owned());
        std::thread::Builder::new().name(name.clone()).spawn(move || {
            let stat =
                std::fs::read_link("/proc/thread-self").ok().map(|task| Path::new("/proc").join(task).join("stat"));
            watch.lock().push(Watched { name: name.clone(), since, stat, noticed: None });
            guarded(&watch.outbox, &name, || work(busy));
        })
    }

    /// The name of a thread that hangs.
    pub(crate) fn stuck(&self) -> Option<String> {
        self.stuck_at(self.start.elapsed(), processor_time)
    }

    fn stuck_at(&self, now: Duration, processor: impl Fn(&Path) -> Option<Duration>) -> Option<String> {
        let mut threads = self.lock();
        threads.retain(|t| Arc::strong_count(&t.since) > 1);
        threads.iter_mut().find_map(|t| t.hangs(millis(now), &processor).then(|| t.name.clone()))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Watched>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watched {
    fn hangs(&mut self, now: u64, processor: impl Fn(&Path) -> Option<Duration>) -> bool {
        let since = self.since.load(Ordering::Relaxed);
        let busy = Duration::from_millis(now.saturating_sub(since));
        if since == 0 || busy < LONG {
            return false;
        }
        let used = self.stat.as_deref().and_then(processor).unwrap_or_default();
        match self.noticed {
            Some((then, before)) if then == since => busy >= WAITS || used.saturating_sub(before) >= SPINS,
            _ => {
                self.noticed = Some((since, used));
                busy >= WAITS
            }
        }
    }
}

/// Does the work of a thread. A panic ends the child as if it had crashed: nothing else would say that this thread is gone.
pub(crate) fn guarded(outbox: &Outbox, name: &str, work: impl FnOnce()) {
    if std::panic::catch_unwind(AssertUnwindSafe(work)).is_err() {
        outbox.crash(format!("the transcoder panicked ({name})"));
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX - 1)
}

/// A thread's processor time from its `stat` file (proc(5): `utime` and `stime`, the 14th and 15th field, in hundredths).
fn processor_time(stat: &Path) -> Option<Duration> {
    let text = std::fs::read_to_string(stat).ok()?;
    // The second field is the name, in parentheses, and may hold blanks.
    let mut fields = text.rsplit_once(") ")?.1.split(' ').skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(Duration::from_millis((next()? + next()?).saturating_mul(10)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::sync::mpsc::channel;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_thread_that_turns_in_circles_or_waits_for_ever_is_named_and_a_starved_or_idle_one_is_not() {
        let watch = Watch::new(Outbox::new());
        let (entered, has_entered) = channel::<()>();
        let (leave, may_leave) = channel::<()>();
        let work = move |busy: Busy| {
            let working = busy.enter();
            entered.send(()).unwrap();
            may_leave.recv().unwrap();
            drop(working);
            entered.send(()).unwrap();
            may_leave.recv().unwrap();
        };
        let thread = watch.spawn("picture", work).unwrap();
        has_entered.recv().unwrap();
        let used = |time: Duration| move |_: &Path| Some(time);
        assert_eq!(watch.stuck_at(SECOND / 2, used(SECOND * 50)), None);
        assert_eq!(watch.stuck_at(SECOND * 2, used(SECOND * 50)), None, "what it used before does not count");
        assert_eq!(watch.stuck_at(SECOND * 20, used(SECOND * 51)), None, "starved");
        assert_eq!(watch.stuck_at(SECOND * 20, used(SECOND * 52)).as_deref(), Some("picture"), "in circles");
        assert_eq!(watch.stuck_at(SECOND * 40, used(SECOND * 51)).as_deref(), Some("picture"), "waits for ever");
        leave.send(()).unwrap();
        has_entered.recv().unwrap();
        assert_eq!(watch.stuck_at(SECOND * 40, used(SECOND * 99)), None, "idle");
        leave.send(()).unwrap();
        thread.join().unwrap();
        assert_eq!(watch.stuck_at(SECOND * 90, used(SECOND * 99)), None, "gone");
    }

    #[test]
    fn a_panic_ends_the_child_like_a_crash_and_blames_nobody() {
        let outbox = Outbox::new();
        let watch = Watch::new(outbox.clone());
        let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let writer = std::thread::spawn({
            let outbox = outbox.clone();
            move || outbox.write_all(ours, || None)
        });
        watch.spawn("picture", |_| panic!("planted")).unwrap().join().unwrap();
        outbox.fact(link::ToParent::Finished);
        let (mut bytes, mut decoder) = (Vec::new(), link::Decoder::<link::ToParent>::default());
        theirs.read_to_end(&mut bytes).unwrap();
        decoder.push(&bytes);
        while let Some(message) = decoder.next_message().unwrap() {
            assert!(matches!(message, link::ToParent::Alive { .. }), "{message:?}");
        }
        writer.join().unwrap();
        assert_eq!(outbox.ended(), Some(false), "the process ends with a failure");
    }

    #[test]
    fn the_system_tells_processor_time() {
        let begin = processor_time(Path::new("/proc/thread-self/stat")).unwrap();
        while processor_time(Path::new("/proc/thread-self/stat")).unwrap() < begin + Duration::from_millis(20) {}
        assert_eq!(processor_time(Path::new("/proc/nothing")), None);
    }
}
