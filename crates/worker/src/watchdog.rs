//! The watchdog over the worker's threads: one that hangs inside a codec or panics ends the worker, as nothing else could show the
//! parent more than that media has stopped.
//!
//! A thread hangs if one piece of its work has taken a lot of its *own* time, no end of anybody's, or none at all while all that
//! it could wait for sleeps as well (see `watchdog/tasks.rs`). On a machine that has too much to do, threads wait for seconds without any fault
//! of theirs; ending them would only add to what there is to do.

mod tasks;

use crate::outbox::Outbox;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tasks::{Stillness, Task};

/// From when on a piece of work is checked for any progress: most take a hundredth of a second.
const PROGRESS_CHECK_AFTER: Duration = Duration::from_millis(100);
/// From when on the processor time of a piece of work is measured.
const PROCESSOR_CHECK_AFTER: Duration = Duration::from_secs(1);
/// How much of it the work may take from then on: a hundred times what the slowest picture takes.
const MAX_PROCESSOR_TIME: Duration = Duration::from_secs(2);
/// How long a piece of work may take in all, whatever others do meanwhile.
const MAX_DURATION: Duration = Duration::from_secs(30);

/// Starts threads and watches them.
#[derive(Clone)]
pub struct Watchdog {
    start: Instant,
    threads: Arc<Mutex<Vec<Watched>>>,
    outbox: Outbox,
}

/// Whom a thread may wait for in the middle of its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waits {
    /// For nobody.
    Alone,
    /// For threads that its codec has started.
    ForHelpers,
    /// For these, and for watched threads that wait for helpers only.
    ForEncoders,
}

struct Watched {
    name: String,
    id: Option<u32>,
    waits: Waits,
    since: Arc<AtomicU64>,
    /// The begin of the work that was seen to be long, and the thread's processor time then.
    noticed: Option<(u64, Duration)>,
    /// The begin of the work that lasts, and how that was seen since.
    stillness: (u64, Stillness),
}

/// A thread's mark of what it is doing.
#[derive(Debug)]
pub struct Busy {
    start: Instant,
    /// Milliseconds (plus one) since the start at which the work began; 0 while there is none.
    since: Arc<AtomicU64>,
}

/// Until it is dropped, the thread counts as busy.
#[derive(Debug)]
pub struct Working<'a>(&'a AtomicU64);

impl Busy {
    /// Marks the begin of one piece of work.
    pub fn enter(&self) -> Working<'_> {
        self.since.store(millis(self.start.elapsed()).saturating_add(1), Ordering::Relaxed);
        Working(&self.since)
    }
}

impl Drop for Working<'_> {
    fn drop(&mut self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

impl Watchdog {
    /// Nothing to watch yet. Panics are reported through `outbox`.
    pub fn new(outbox: Outbox) -> Self {
        Self { start: Instant::now(), threads: Arc::default(), outbox }
    }

    /// Starts a thread.
    ///
    /// # Errors
    /// If the system has none left.
    pub fn spawn(
        &self,
        name: &str,
        waits: Waits,
        work: impl FnOnce(Busy) + Send + 'static,
    ) -> std::io::Result<std::thread::JoinHandle<()>> {
        let since = Arc::new(AtomicU64::new(0));
        let busy = Busy { start: self.start, since: Arc::clone(&since) };
        let (watch, name) = (self.clone(), name.to_owned());
        std::thread::Builder::new().name(name.clone()).spawn(move || {
            watch.lock().push(Watched {
                name: name.clone(),
                id: Task::own(),
                waits,
                since,
                noticed: None,
                stillness: Default::default(),
            });
            watch.outbox.guard(&name, || work(busy));
        })
    }

    /// The name of a thread that hangs.
    pub fn stuck(&self) -> Option<String> {
        self.stuck_at(self.start.elapsed(), processor_time, Task::all)
    }

    fn stuck_at(
        &self,
        now: Duration,
        processor: impl Fn(u32) -> Option<Duration>,
        tasks: impl Fn() -> Vec<Task>,
    ) -> Option<String> {
        let (mut threads, now) = (self.lock(), millis(now));
        threads.retain(|t| Arc::strong_count(&t.since) > 1);
        let lasts = threads.iter().any(|t| t.busy(now).is_some_and(|busy| busy >= PROGRESS_CHECK_AFTER));
        let tasks = if lasts { tasks() } else { Vec::new() };
        // Who reads and who writes the socket, this one, wait for no end of things, and nobody who works waits for them.
        let apart = [Some(std::process::id()), Task::own()];
        let watched: Vec<_> = threads.iter().map(|t| (t.id, t.waits)).collect();
        let company = |of: &Watched| -> Vec<Task> {
            let counts = |id: Option<u32>| match watched.iter().find(|(watched, _)| *watched == id) {
                Some((_, waits)) => of.waits == Waits::ForEncoders && *waits == Waits::ForHelpers,
                None => of.waits != Waits::Alone && !apart.contains(&id),
            };
            let here = tasks.iter().any(|task| Some(task.id) == of.id);
            tasks.iter().filter(|task| here && (Some(task.id) == of.id || counts(Some(task.id)))).copied().collect()
        };
        threads.iter_mut().find_map(|t| {
            let company = company(t);
            (t.hangs(now, &processor) || t.sleeps(now, company)).then(|| t.name.clone())
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Watched>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watched {
    /// For how long its piece of work has lasted, if it has one.
    fn busy(&self, now: u64) -> Option<Duration> {
        let since = self.since.load(Ordering::Relaxed);
        (since > 0).then(|| Duration::from_millis(now.saturating_sub(since)))
    }

    /// Whether its work makes no progress.
    fn sleeps(&mut self, now: u64, company: Vec<Task>) -> bool {
        let since = self.since.load(Ordering::Relaxed);
        if self.stillness.0 != since {
            self.stillness = (since, Stillness::default());
        }
        self.busy(now).is_some_and(|busy| busy >= PROGRESS_CHECK_AFTER) && self.stillness.1.look(company)
    }

    fn hangs(&mut self, now: u64, processor: impl Fn(u32) -> Option<Duration>) -> bool {
        let since = self.since.load(Ordering::Relaxed);
        let Some(busy) = self.busy(now).filter(|busy| *busy >= PROCESSOR_CHECK_AFTER) else { return false };
        let used = self.id.and_then(processor).unwrap_or_default();
        match self.noticed {
            Some((then, before)) if then == since => {
                busy >= MAX_DURATION || used.saturating_sub(before) >= MAX_PROCESSOR_TIME
            }
            _ => {
                self.noticed = Some((since, used));
                busy >= MAX_DURATION
            }
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX - 1)
}

/// The processor time of this process's thread `id` (proc(5), `stat`: `utime` and `stime`, the 14th and 15th field, in hundredths).
fn processor_time(id: u32) -> Option<Duration> {
    let text = std::fs::read_to_string(format!("/proc/self/task/{id}/stat")).ok()?;
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
    fn spinning_and_endless_work_is_found() {
        let watch = Watchdog::new(Outbox::new());
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
        let thread = watch.spawn("picture", Waits::Alone, work).unwrap();
        has_entered.recv().unwrap();
        let at = |now, used: Duration| watch.stuck_at(now, |_| Some(used), Vec::new);
        assert_eq!(at(SECOND / 2, SECOND * 50), None);
        assert_eq!(at(SECOND * 2, SECOND * 50), None, "what it used before does not count");
        assert_eq!(at(SECOND * 20, SECOND * 51), None, "starved");
        assert_eq!(at(SECOND * 20, SECOND * 52).as_deref(), Some("picture"), "in circles");
        assert_eq!(at(SECOND * 40, SECOND * 51).as_deref(), Some("picture"), "waits for ever");
        leave.send(()).unwrap();
        has_entered.recv().unwrap();
        assert_eq!(at(SECOND * 40, SECOND * 99), None, "idle");
        leave.send(()).unwrap();
        thread.join().unwrap();
        assert_eq!(at(SECOND * 90, SECOND * 99), None, "gone");
    }

    #[test]
    fn stalled_work_is_found_unless_it_waits_for_progress() {
        let watch = Watchdog::new(Outbox::new());
        let (leave, may_leave) = channel::<()>();
        let (entered, has_entered) = channel();
        let stuck = watch.spawn("video", Waits::ForEncoders, move |busy: Busy| {
            let _working = busy.enter();
            entered.send(Task::own().unwrap()).unwrap();
            may_leave.recv().unwrap();
        });
        let me = Task { id: has_entered.recv().unwrap(), wants: false, turns: 5 };
        let helper = |turns| Task { id: u32::MAX, wants: false, turns };
        let looks = |tasks: &dyn Fn(u64) -> Vec<Task>| {
            (1..20u64).find(|n| watch.stuck_at(SECOND * 10 + SECOND / 10 * *n as u32, |_| None, || tasks(*n)).is_some())
        };
        assert_eq!(looks(&|n| vec![me, helper(n)]), None, "its helper works");
        assert_eq!(looks(&|_| vec![me, Task { wants: true, ..helper(3) }]), None, "its helper is starved");
        assert_eq!(looks(&|_| vec![Task { wants: true, ..me }, helper(3)]), None, "it is starved");
        assert_eq!(looks(&|_| vec![helper(3)]), None, "the system does not tell");
        let others = |n| [std::process::id(), Task::own().unwrap()].map(|id| Task { id, wants: true, turns: n });
        assert_eq!(
            looks(&|n| [&[me, helper(3)][..], &others(n)].concat()),
            Some(6),
            "the rest is none of its business"
        );
        leave.send(()).unwrap();
        stuck.unwrap().join().unwrap();
    }

    #[test]
    fn panic_ends_the_worker_like_a_crash() {
        let outbox = Outbox::new();
        let watch = Watchdog::new(outbox.clone());
        let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let writer = std::thread::spawn({
            let outbox = outbox.clone();
            move || outbox.write_all(ours, || None)
        });
        watch.spawn("picture", Waits::Alone, |_| panic!("planted")).unwrap().join().unwrap();
        outbox.events().send(&ipc::transcode::Event::Finished);
        let (mut bytes, mut decoder) = (Vec::new(), ipc::Decoder::default());
        theirs.read_to_end(&mut bytes).unwrap();
        assert_eq!(decoder.fill(&bytes), bytes.len());
        assert_eq!(decoder.next_message::<ipc::transcode::Event>().unwrap(), None, "nobody is blamed");
        writer.join().unwrap();
        assert_eq!(outbox.ended(), Some(ipc::End::Failed), "the process ends with a failure");
    }

    #[test]
    fn processor_time_is_read_from_proc() {
        let own = Task::own().unwrap();
        let begin = processor_time(own).unwrap();
        while processor_time(own).unwrap() < begin + Duration::from_millis(20) {}
        assert_eq!(processor_time(u32::MAX), None);
    }
}
