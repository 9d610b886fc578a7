//! What a worker process uses: CPU time and memory, from `/proc`.

use crate::proc_files::{Times, bytes_after};
use std::fs;
use std::path::Path;

/// What a process has used.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct ProcessUsage {
    /// CPU time since its start, in seconds of one CPU.
    pub(crate) cpu: f64,
    /// Bytes of memory that are its own: what the machine would have more of without it. Program and libraries are shared.
    pub(crate) memory: u64,
}

impl ProcessUsage {
    /// Reads it below `proc`; `None` if there is no such process.
    pub(crate) fn read(proc: &Path, pid: u32) -> Option<Self> {
        let directory = proc.join(pid.to_string());
        let cpu = Times::read(&directory)?.cpu;
        let memory = bytes_after(&fs::read_to_string(directory.join("status")).ok()?, "RssAnon:")?;
        Some(Self { cpu, memory })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_uses_is_read() {
        let top = std::env::temp_dir().join(format!("ingress-process-{}", std::process::id()));
        let directory = top.join("77");
        fs::create_dir_all(&directory).unwrap();
        let stat = "77 (a) b) S 1 77 77 0 -1 4194560 2000 0 0 0 150 50 0 0 20 0 9 0 1000 1 1 18446744073709551615";
        fs::write(directory.join("stat"), stat).unwrap();
        assert_eq!(ProcessUsage::read(&top, 77), None);
        fs::write(directory.join("status"), "Name:\ta) b\nVmRSS:\t  9000 kB\nRssAnon:\t    2048 kB\n").unwrap();
        assert_eq!(ProcessUsage::read(&top, 77), Some(ProcessUsage { cpu: 2.0, memory: 2 << 20 }));
        assert_eq!(ProcessUsage::read(&top, 78), None);
        fs::remove_dir_all(&top).unwrap();
    }

    #[test]
    fn this_process_uses_something() {
        let usage = ProcessUsage::read(Path::new("/proc"), std::process::id()).unwrap();
        assert!(usage.memory > 100_000, "{usage:?}");
    }
}
