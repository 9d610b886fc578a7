//! What every Prometheus client shows of its process, under the usual names, read from `/proc` (proc(5)) at each scrape.

use super::{Registry, Sample};
use crate::proc_files::{Times, word_after};
use std::fs;
use std::path::{Path, PathBuf};

/// Shows this process's figures; what can't be read is left out. `proc` is where the kernel's files are.
pub fn register(registry: &Registry, proc: impl Into<PathBuf>) {
    let proc = proc.into();
    let of = |read: fn(&Path) -> Option<f64>| {
        let proc = proc.clone();
        move || read(&proc).map(Sample::bare).into_iter().collect()
    };
    let help = "Total user and system CPU time spent in seconds";
    registry.read_counters("process_cpu_seconds_total", help, of(|proc| Some(own_times(proc)?.cpu)));
    let help = "Start time of the process since unix epoch in seconds";
    registry.read_gauges("process_start_time_seconds", help, of(start_time));
    let help = "Number of open file descriptors";
    registry.read_gauges("process_open_fds", help, of(open_files));
    let help = "Maximum number of open file descriptors";
    registry.read_gauges("process_max_fds", help, of(|proc| own_word(proc, "limits", "Max open files")));
    let help = "Resident memory size in bytes";
    registry.read_gauges("process_resident_memory_bytes", help, of(|proc| kilobytes(proc, "VmRSS:")));
    let help = "Virtual memory size in bytes";
    registry.read_gauges("process_virtual_memory_bytes", help, of(|proc| kilobytes(proc, "VmSize:")));
}

/// Unix seconds.
fn start_time(proc: &Path) -> Option<f64> {
    let booted = word_after(&fs::read_to_string(proc.join("stat")).ok()?, "btime ")?;
    Some(booted + own_times(proc)?.started)
}

fn own_times(proc: &Path) -> Option<Times> {
    Times::read(&proc.join("self"))
}

fn open_files(proc: &Path) -> Option<f64> {
    fs::read_dir(proc.join("self/fd")).map(|files| files.count() as f64).ok()
}

fn kilobytes(proc: &Path, word: &str) -> Option<f64> {
    Some(own_word(proc, "status", word)? * 1024.0)
}

fn own_word(proc: &Path, file: &str, word: &str) -> Option<f64> {
    word_after(&fs::read_to_string(proc.join("self").join(file)).ok()?, word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(proc: impl Into<PathBuf>) -> Vec<String> {
        let registry = Registry::default();
        register(&registry, proc);
        let page = registry.page().unwrap();
        page.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
    }

    #[test]
    fn figures_of_a_process() {
        let root = std::env::temp_dir().join(format!("ingress-process-{}", std::process::id()));
        fs::create_dir_all(root.join("self/fd")).unwrap();
        fs::write(root.join("self/fd/0"), "").unwrap();
        let stat = "7 (a) b) c) S 1 7 7 0 -1 4194560 1 2 3 4 150 50 9 9 20 0 8 0 12000 1 1 1";
        fs::write(root.join("self/stat"), stat).unwrap();
        fs::write(root.join("self/status"), "VmPeak:\t 9 kB\nVmSize:\t  2048 kB\nVmRSS:\t    1024 kB\n").unwrap();
        fs::write(root.join("self/limits"), "Limit  Soft Limit Hard Limit Units\nMax open files            1024                 524288               files\n").unwrap();
        fs::write(root.join("stat"), "cpu 1\nbtime 1700000000\n").unwrap();
        assert_eq!(
            samples(&root),
            [
                "process_cpu_seconds_total 2",
                "process_max_fds 1024",
                "process_open_fds 1",
                "process_resident_memory_bytes 1048576",
                "process_start_time_seconds 1700000120",
                "process_virtual_memory_bytes 2097152",
            ]
        );
        fs::remove_dir_all(&root).unwrap();
        assert!(samples(&root).is_empty());
    }

    #[test]
    fn all_figures_of_this_process() {
        assert_eq!(samples("/proc").len(), 6);
    }
}
