//! Measures every second how busy the machine is.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::memory::Memory;
use super::process::ProcessUsage;
use super::{Capacity, Cpu, Roots};

/// The first sample is short, so that a start on a busy machine is noticed soon; until then the machine counts as idle. Twenty
/// ticks of `/proc/stat` on two CPUs: a tenth of what is measured is its error.
const FIRST_SAMPLE: Duration = Duration::from_millis(100);
/// All others, as in the Go ingress.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// Keeps a [`Capacity`] up to date about what is idle, until dropped.
#[derive(Debug)]
pub struct Sampler {
    task: JoinHandle<()>,
}

impl Sampler {
    /// Begins. Needs a tokio runtime.
    pub fn spawn(cpu: Cpu, roots: Roots, capacity: Capacity) -> Self {
        Self { task: tokio::spawn(sample(cpu, roots, capacity)) }
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn sample(cpu: Cpu, roots: Roots, capacity: Capacity) {
    capacity.set_memory(Memory::read(&roots));
    let mut before = (cpu.usage(), Instant::now());
    let mut pause = FIRST_SAMPLE;
    loop {
        sleep(pause).await;
        let now = (cpu.usage(), Instant::now());
        if let Some(idle) = cpu.idle(&before.0, &now.0, now.1 - before.1) {
            capacity.set_idle(idle);
        }
        capacity.set_memory(Memory::read(&roots));
        capacity.measure(|pid| ProcessUsage::read(&roots.proc, pid));
        before = now;
        pause = SAMPLE_INTERVAL;
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::CpuCost;
    use crate::load::Roots;

    #[tokio::test(start_paused = true)]
    async fn the_load_is_sampled_every_second() {
        let root = std::env::temp_dir().join(format!("ingress-sampler-{}", std::process::id()));
        fs::create_dir_all(root.join("self")).unwrap();
        let stat = |ticks: u32| fs::write(root.join("stat"), format!("cpu0 {ticks} 0 0 0\ncpu1 0 0 0 0\n")).unwrap();
        stat(1000);
        let roots = Roots { proc: root.clone(), cgroup: root.join("none") };
        let cpu = Cpu::find(&roots, None);
        let capacity = Capacity::new(cpu.capacity(), CpuCost::default());
        // Ticks become seconds and those a share; hundredths are enough.
        let load = || (capacity.load() * 100.0).round() / 100.0;
        let _sampler = Sampler::spawn(cpu, roots, capacity.clone());
        // The task reads where it begins.
        sleep(Duration::from_millis(1)).await;
        assert_eq!(load(), 0.0);
        stat(1010);
        sleep(Duration::from_millis(100)).await;
        assert_eq!(load(), 0.5);
        stat(1060);
        sleep(Duration::from_millis(998)).await;
        assert_eq!(load(), 0.5);
        sleep(Duration::from_millis(2)).await;
        assert_eq!(load(), 0.25);
        fs::remove_dir_all(&root).unwrap();
    }
}
