//! The CPUs this process has, and how busy they are: cgroup v1 and v2, `/proc/stat`, `LIVEKIT_CPU_REQUEST`.
//!
//! Both views count: in a container with a quota the machine around it may be full while the quota is not, and the other way
//! round. What is idle is the lesser of the two.

use crate::proc_files::{USER_HZ, word_after};
use confine::memory::Roots;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The CPUs this process has, and where their use is read.
#[derive(Debug)]
pub struct Cpu {
    capacity: f64,
    /// The CPUs this process may run on; empty if unknown.
    allowed: BTreeSet<usize>,
    /// Its own control group: the one with the tightest quota, else the innermost.
    group: Option<Group>,
    stat: PathBuf,
}

/// CPU time used since some past moment, in seconds of one CPU. Only differences mean something.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CpuUsage {
    /// By our control group.
    group: Option<f64>,
    /// On the CPUs we may run on, by anyone, and how many CPUs those are.
    machine: Option<(f64, usize)>,
}

/// A control group.
#[derive(Clone, Debug)]
struct Group {
    /// CPUs it may use at a time.
    quota: Option<f64>,
    usage: UsageFile,
}

#[derive(Clone, Debug)]
enum UsageFile {
    /// `cpu.stat`, with a line `usage_usec`.
    V2(PathBuf),
    /// `cpuacct.usage`, nanoseconds.
    V1(PathBuf),
}

impl Cpu {
    /// Finds the CPUs there are. `request` is `LIVEKIT_CPU_REQUEST`: the CPUs to count with in place of those found.
    pub fn find(roots: &Roots, request: Option<&str>) -> Self {
        let allowed = allowed(&roots.proc);
        let group = group(roots);
        let stat = roots.proc.join("stat");
        let cpus = machine(&stat, &allowed).map_or(allowed.len(), |(_, cpus)| cpus).max(1) as f64;
        let found = group.as_ref().and_then(|g| g.quota).map_or(cpus, |quota| quota.min(cpus));
        let request = request.and_then(|text| text.trim().parse::<f64>().ok()).filter(|r| r.is_finite() && *r > 0.0);
        Self { capacity: request.unwrap_or(found), allowed, group, stat }
    }

    /// The CPUs to count with; more than 0, not always whole.
    pub fn capacity(&self) -> f64 {
        self.capacity
    }

    /// What was used up to now.
    pub fn usage(&self) -> CpuUsage {
        CpuUsage {
            group: self.group.as_ref().and_then(|group| group.usage.read()),
            machine: machine(&self.stat, &self.allowed),
        }
    }

    /// CPUs that were idle on average between two readings, from 0 to the capacity; `None` if nothing could be read.
    pub fn idle(&self, before: &CpuUsage, after: &CpuUsage, elapsed: Duration) -> Option<f64> {
        let seconds = elapsed.as_secs_f64();
        if seconds <= 0.0 {
            return None;
        }
        let group = before.group.zip(after.group).map(|(before, after)| self.capacity - (after - before) / seconds);
        let machine = before
            .machine
            .zip(after.machine)
            .map(|((before, _), (after, cpus))| cpus as f64 - (after - before) / seconds);
        // The files are not read at the same moment as the clock, so a little less than 0 or more than all is possible.
        let idle = [group, machine].into_iter().flatten().reduce(f64::min)?;
        Some(idle.clamp(0.0, self.capacity))
    }
}

impl UsageFile {
    fn read(&self) -> Option<f64> {
        match self {
            Self::V2(path) => {
                let text = fs::read_to_string(path).ok()?;
                Some(word_after(&text, "usage_usec ")? / 1e6)
            }
            Self::V1(path) => Some(number(path)? / 1e9),
        }
    }
}

/// The CPUs this process may run on, from `Cpus_allowed_list` (such as `0-3,8`).
fn allowed(proc: &Path) -> BTreeSet<usize> {
    let status = fs::read_to_string(proc.join("self/status")).unwrap_or_default();
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap_or_default();
    let ranges = list.trim().split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (first.parse::<usize>().ok()?, last.parse::<usize>().ok()?);
        // Linux knows no more than 8192 CPUs (NR_CPUS).
        (last < 8192).then_some(first..=last)
    });
    ranges.flatten().collect()
}

/// Time used on the allowed CPUs (all, if none is known to be allowed), and how many those are: the lines `cpuN` of
/// `/proc/stat`, in ticks: user, nice, system, idle, iowait, irq, softirq, steal (proc(5)). Stolen time counts as used: we can't have it.
fn machine(stat: &Path, allowed: &BTreeSet<usize>) -> Option<(f64, usize)> {
    let text = fs::read_to_string(stat).ok()?;
    let mut used = 0.0;
    let mut cpus = 0;
    for line in text.lines() {
        let mut fields = line.split_ascii_whitespace();
        let Some(number) = fields.next().and_then(|name| name.strip_prefix("cpu")?.parse::<usize>().ok()) else {
            continue;
        };
        if allowed.is_empty() || allowed.contains(&number) {
            let busy = fields.take(8).enumerate().filter(|(column, _)| !matches!(column, 3 | 4));
            used += busy.filter_map(|(_, ticks)| ticks.parse::<f64>().ok()).sum::<f64>();
            cpus += 1;
        }
    }
    (cpus > 0).then_some((used / USER_HZ, cpus))
}

/// The control group with the tightest quota among ours and those around it; else the innermost that can be read.
fn group(roots: &Roots) -> Option<Group> {
    let membership = fs::read_to_string(roots.proc.join("self/cgroup")).unwrap_or_default();
    let groups = if roots.cgroup.join("cgroup.controllers").exists() {
        groups_v2(&roots.cgroup, &membership)
    } else {
        groups_v1(&roots.cgroup, &membership)
    };
    let readable: Vec<Group> = groups.into_iter().filter(|g| g.usage.read().is_some()).collect();
    let tightest = readable.iter().filter(|g| g.quota.is_some()).min_by(|a, b| {
        let quota = |g: &Group| g.quota.unwrap_or(f64::INFINITY);
        quota(a).total_cmp(&quota(b))
    });
    tightest.or(readable.first()).cloned()
}

fn groups_v2(root: &Path, membership: &str) -> Vec<Group> {
    let path = membership.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
    let group = |folder: PathBuf| {
        let quota = fs::read_to_string(folder.join("cpu.max")).ok().and_then(|text| {
            let (quota, period) = text.trim().split_once(' ')?;
            share(quota.parse().ok()?, period.parse().ok()?)
        });
        Group { quota, usage: UsageFile::V2(folder.join("cpu.stat")) }
    };
    levels(path).map(|level| group(root.join(level))).collect()
}

fn groups_v1(root: &Path, membership: &str) -> Vec<Group> {
    // A line is `number:controllers:path`.
    let path = |controller: &str| {
        membership.lines().find_map(|line| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            controllers.split(',').any(|c| c == controller).then_some(path)
        })
    };
    let folder = |controller: &str| {
        let joint = root.join("cpu,cpuacct");
        if joint.exists() { joint } else { root.join(controller) }
    };
    let (cpu, accounting) = (folder("cpu"), folder("cpuacct"));
    let path = path("cpuacct").or_else(|| path("cpu")).unwrap_or("/");
    let group = |level: &str| {
        let number = |name: &str| number(&cpu.join(level).join(name));
        let quota = number("cpu.cfs_quota_us").zip(number("cpu.cfs_period_us"));
        let quota = quota.and_then(|(quota, period)| share(quota, period));
        Group { quota, usage: UsageFile::V1(accounting.join(level).join("cpuacct.usage")) }
    };
    levels(path).map(group).collect()
}

/// A path in the hierarchy and all around it, innermost first, each relative to the mount. In a container the path may be that
/// outside, and then only the last, the mount itself, exists.
fn levels(path: &str) -> impl Iterator<Item = &str> {
    let path = path.trim_matches('/');
    let inner = (!path.is_empty() && !path.split('/').any(|part| part == "..")).then_some(path);
    std::iter::successors(inner, |path| path.rsplit_once('/').map(|(outer, _)| outer)).chain([""])
}

/// CPUs from a quota and its period; `None` without a quota (`max` doesn't parse, -1 in v1).
fn share(quota: f64, period: f64) -> Option<f64> {
    (quota > 0.0 && period > 0.0).then(|| quota / period)
}

fn number(path: &Path) -> Option<f64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests;
