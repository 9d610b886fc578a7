//! What Prometheus clients tell of their process, under the usual names, read from `/proc` (proc(5)) at each scrape.

use std::fs;
use std::path::{Path, PathBuf};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// Ticks a second (`USER_HZ`): 100 on every architecture Linux still supports.
const USER_HZ: f64 = 100.0;

/// Reads this process's figures; what can't be read is left out.
#[derive(Debug)]
pub(super) struct Process {
    proc: PathBuf,
}

impl Process {
    pub(super) fn new(proc: impl Into<PathBuf>) -> Self {
        Self { proc: proc.into() }
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let own = self.proc.join("self");
        let times = Times::read(&own);
        if let Some(times) = &times {
            let counter = ConstCounter::new(times.cpu);
            let help = "Total user and system CPU time spent in seconds.";
            counter.encode(encoder.encode_descriptor("process_cpu_seconds", help, None, counter.metric_type())?)?;
        }
        let booted = word_after(&self.proc.join("stat"), "btime ");
        let started = times.zip(booted).map(|(times, booted)| booted + times.started);
        let files = fs::read_dir(own.join("fd")).map(|files| files.count() as f64).ok();
        let kilobytes = |name| word_after(&own.join("status"), name).map(|kilobytes| kilobytes * 1024.0);
        for (name, help, value) in [
            ("process_start_time_seconds", "Start time of the process since unix epoch in seconds.", started),
            ("process_open_fds", "Number of open file descriptors.", files),
            (
                "process_max_fds",
                "Maximum number of open file descriptors.",
                word_after(&own.join("limits"), "Max open files"),
            ),
            ("process_resident_memory_bytes", "Resident memory size in bytes.", kilobytes("VmRSS:")),
            ("process_virtual_memory_bytes", "Virtual memory size in bytes.", kilobytes("VmSize:")),
        ] {
            if let Some(value) = value {
                let gauge = ConstGauge::new(value);
                gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
            }
        }
        Ok(())
    }
}

/// Seconds.
struct Times {
    /// CPU time used by all threads, in user and kernel mode.
    cpu: f64,
    /// Start after boot.
    started: f64,
}

impl Times {
    fn read(own: &Path) -> Option<Self> {
        let stat = fs::read_to_string(own.join("stat")).ok()?;
        // The name in parentheses may hold anything; what follows the last one begins with field 3.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        let seconds = |field: usize| Some(fields.get(field - 3)?.parse::<f64>().ok()? / USER_HZ);
        Some(Self { cpu: seconds(14)? + seconds(15)?, started: seconds(22)? })
    }
}

/// The number that follows a word at the beginning of a line.
fn word_after(path: &Path, word: &str) -> Option<f64> {
    let text = fs::read_to_string(path).ok()?;
    let rest = text.lines().find_map(|line| line.strip_prefix(word))?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode_registry;
    use prometheus_client::registry::Registry;

    use super::*;

    fn samples(proc: impl Into<PathBuf>) -> Vec<String> {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Process::new(proc)));
        let mut text = String::new();
        encode_registry(&mut text, &registry).unwrap();
        text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
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
                "process_cpu_seconds_total 2.0",
                "process_start_time_seconds 1700000120.0",
                "process_open_fds 1.0",
                "process_max_fds 1024.0",
                "process_resident_memory_bytes 1048576.0",
                "process_virtual_memory_bytes 2097152.0"
            ]
        );
        fs::remove_dir_all(&root).unwrap();
        assert!(samples(&root).is_empty());
    }

    #[test]
    fn this_process_has_them_all() {
        assert_eq!(samples("/proc").len(), 6);
    }
}
