//! What the system shows of this process's threads: whether those that a piece of work may wait for make progress.
//!
//! A thread that waits for what never comes sleeps, and has not once been given a CPU since. So does one that waits for another; but
//! then that one works, or wants to. On a machine that has too much to do threads want to run: they do not sleep.

use std::path::Path;

/// Looks in a row that find everybody asleep and nobody given a CPU in between. With ten a second that is half a second: locks
/// and queues in the child wait for 200 ms at most without being looked after.
const LOOKS: u32 = 5;

/// A thread at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Task {
    /// Its id.
    pub(super) id: u32,
    /// It has or wants a CPU, or waits for a disk.
    pub(super) wants: bool,
    /// How often it has given up a CPU.
    pub(super) turns: u64,
}

impl Task {
    /// The calling thread's id, if the system tells.
    pub(super) fn own() -> Option<u32> {
        id(&std::fs::read_link("/proc/thread-self").ok()?)
    }

    /// All threads of this process.
    pub(super) fn all() -> Vec<Self> {
        let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return Vec::new() };
        tasks.flatten().filter_map(|task| Self::read(&task.path())).collect()
    }

    fn read(task: &Path) -> Option<Self> {
        let status = std::fs::read_to_string(task.join("status")).ok()?;
        Some(Self { id: id(task)?, ..Self::parse(&status)? })
    }

    /// From a `status` file (proc(5)).
    fn parse(status: &str) -> Option<Self> {
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let count = |name: &str| field(name)?.trim().parse::<u64>().ok();
        let turns = count("voluntary_ctxt_switches")?.saturating_add(count("nonvoluntary_ctxt_switches")?);
        Some(Self { id: 0, wants: field("State")?.trim_start().starts_with(['R', 'D']), turns })
    }
}

fn id(task: &Path) -> Option<u32> {
    task.file_name()?.to_str()?.parse().ok()
}

/// How a piece of work that lasts was seen at one look after the other.
#[derive(Debug, Default)]
pub(super) struct Stillness {
    last: Vec<Task>,
    looks: u32,
}

impl Stillness {
    /// Takes the work's own thread with those that it may wait for; says whether there will be no more progress.
    pub(super) fn look(&mut self, company: Vec<Task>) -> bool {
        let still = !company.is_empty() && company == self.last && !company.iter().any(|task| task.wants);
        self.looks = if still { self.looks + 1 } else { 0 };
        self.last = company;
        self.looks >= LOOKS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_file_is_read() {
        let status = "Name:\tvoluntary\nState:\tS (sleeping)\nThreads:\t3\nvoluntary_ctxt_switches:\t150\nnonvoluntary_ctxt_switches:\t5\n";
        assert_eq!(Task::parse(status), Some(Task { id: 0, wants: false, turns: 155 }));
        assert!(Task::parse(&status.replace("S (", "D (")).is_some_and(|task| task.wants));
        assert_eq!(Task::parse("State:\tS (sleeping)\n"), None);
        let own = Task::own().unwrap();
        assert!(Task::all().iter().any(|task| task.id == own && task.wants), "this one runs");
    }

    #[test]
    fn stillness_is_that_of_all_for_long_enough() {
        let (me, other) = (Task { id: 1, wants: false, turns: 7 }, Task { id: 2, wants: false, turns: 9 });
        let mut stillness = Stillness::default();
        let looks = |stillness: &mut Stillness, company: &[Task]| {
            (0..=LOOKS).take_while(|_| !stillness.look(company.to_vec())).count() as u32
        };
        assert_eq!(looks(&mut stillness, &[me, other]), LOOKS);
        assert!(!stillness.look(vec![me, Task { turns: 10, ..other }]), "what is waited for came on");
        assert_eq!(looks(&mut stillness, &[me, Task { wants: true, ..other }]), LOOKS + 1, "it only has no CPU");
        assert_eq!(looks(&mut Stillness::default(), &[]), LOOKS + 1, "nothing is known");
    }
}
