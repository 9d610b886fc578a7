//! How much memory is free for sessions: of the machine, and of this process's control group.

use crate::proc_files::bytes_after;
use confine::memory::{Roots, tightest_group};
use std::fs;

/// How much memory there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Memory {
    /// Bytes in all.
    pub(crate) total: u64,
    /// Bytes that nobody uses, or that the kernel would give back.
    pub(crate) free: u64,
}

impl Memory {
    /// What there is now; `None` if it can't be read. Of the machine's and the control group's memory, that of which less is free.
    pub(crate) fn read(roots: &Roots) -> Option<Self> {
        let group = tightest_group(roots).map(|(total, used)| Self { total, free: total.saturating_sub(used) });
        [group, Self::of_machine(roots)].into_iter().flatten().min_by_key(|memory| memory.free)
    }

    fn of_machine(roots: &Roots) -> Option<Self> {
        let text = fs::read_to_string(roots.proc.join("meminfo")).ok()?;
        Some(Self { total: bytes_after(&text, "MemTotal:")?, free: bytes_after(&text, "MemAvailable:")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tighter_of_machine_and_group_counts() {
        let top = std::env::temp_dir().join(format!("ingress-memory-{}", std::process::id()));
        let roots = Roots { proc: top.join("proc"), cgroup: top.join("cgroup") };
        fs::create_dir_all(roots.proc.join("self")).unwrap();
        fs::create_dir_all(roots.cgroup.join("pod")).unwrap();
        assert_eq!(Memory::read(&roots), None);
        fs::write(roots.proc.join("meminfo"), "MemTotal:  4096 kB\nMemFree: 1 kB\nMemAvailable:   2048 kB\n").unwrap();
        let machine = Memory { total: 4 << 20, free: 2 << 20 };
        assert_eq!(Memory::read(&roots), Some(machine));
        fs::write(roots.proc.join("self/cgroup"), "0::/pod\n").unwrap();
        fs::write(roots.cgroup.join("pod/memory.max"), "3145728\n").unwrap();
        fs::write(roots.cgroup.join("pod/memory.current"), "2097152\n").unwrap();
        fs::write(roots.cgroup.join("pod/memory.stat"), "anon 1\ninactive_file 524288\n").unwrap();
        assert_eq!(Memory::read(&roots), Some(Memory { total: 3 << 20, free: 3 << 19 }));
        fs::write(roots.proc.join("meminfo"), "MemTotal:  4096 kB\nMemAvailable:   512 kB\n").unwrap();
        assert_eq!(Memory::read(&roots), Some(Memory { total: 4 << 20, free: 1 << 19 }));
        fs::remove_dir_all(&top).unwrap();
    }
}
