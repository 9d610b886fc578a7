//! How much memory a worker may take, and what the kernel does when the control group has none left: cgroup v1 and v2.

use std::fs;
use std::path::{Path, PathBuf};

/// Bytes of memory at most, mapped files not counted. A session of 4K pictures takes 0.3 GiB, one of 8K 0.8 GiB (measured);
/// what wants more than this is a stream made to want it.
const MEMORY: u64 = 2 << 30;

/// One worker gets at most this part of the control group's memory: the parent, with all other sessions, keeps the rest. Chosen: an
/// allocation that fails ends one worker, while the end of the group's memory may end them all.
const SHARE: u64 = 2;

/// Where the kernel's files are; other places in tests.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Roots {
    pub proc: PathBuf,
    pub cgroup: PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        Self { proc: "/proc".into(), cgroup: "/sys/fs/cgroup".into() }
    }
}

/// Bytes that one worker may take.
pub fn child_limit(roots: &Roots) -> u64 {
    group_limit(roots).map_or(MEMORY, |limit| MEMORY.min(limit / SHARE))
}

/// Bytes that this process's control group may take, with all of its processes; `None` without a limit.
pub fn group_limit(roots: &Roots) -> Option<u64> {
    groups(roots).iter().filter_map(limit).min()
}

/// Of the control groups that limit this process's memory, that which has the least left: its limit and what it uses, in bytes. Files
/// that the kernel would let go of are not in use. `None` without a limit.
pub fn tightest_group(roots: &Roots) -> Option<(u64, u64)> {
    let groups = groups(roots);
    let used = groups.iter().filter_map(|group| Some((limit(group)?, usage(group)?)));
    used.min_by_key(|(limit, usage)| limit.saturating_sub(*usage))
}

fn limit((directory, version): &(PathBuf, u8)) -> Option<u64> {
    let file = if *version == 2 { "memory.max" } else { "memory.limit_in_bytes" };
    let limit = number(&directory.join(file))?;
    // Without one, v1 shows the largest number that it can count with, and v2 a word.
    (limit < 1 << 60).then_some(limit)
}

fn usage((directory, version): &(PathBuf, u8)) -> Option<u64> {
    let (file, inactive) = match version {
        2 => ("memory.current", "inactive_file "),
        _ => ("memory.usage_in_bytes", "total_inactive_file "),
    };
    let stat = fs::read_to_string(directory.join("memory.stat")).unwrap_or_default();
    let files = stat.lines().find_map(|line| line.strip_prefix(inactive)?.trim().parse().ok()).unwrap_or(0);
    Some(number(&directory.join(file))?.saturating_sub(files))
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Whether the kernel ends *all* processes of the control group, with every session, when one of them takes the last of its memory
/// (`memory.oom.group`): so does Kubernetes from 1.28 on.
pub fn ends_as_a_group(roots: &Roots) -> bool {
    let set = |file: PathBuf| fs::read_to_string(file).is_ok_and(|text| text.trim() == "1");
    groups(roots).into_iter().any(|(directory, _)| set(directory.join("memory.oom.group")))
}

/// The directories of the groups that this process is in, from its own up to the top, each with the version.
fn groups(roots: &Roots) -> Vec<(PathBuf, u8)> {
    let own = fs::read_to_string(roots.proc.join("self/cgroup")).unwrap_or_default();
    let mut found = Vec::new();
    // `number:controllers:path` (cgroups(7)); v2 has no controllers there.
    for line in own.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let version = match controllers {
            "" => 2,
            _ if controllers.split(',').any(|c| c == "memory") => 1,
            _ => continue,
        };
        let tops: &[&str] = if version == 2 { &["", "unified"] } else { &["memory"] };
        let path = Path::new(path.trim_start_matches('/'));
        for top in tops {
            // In a container the path may be that of the host, of which only the top is seen.
            let directories = path.ancestors().map(|group| roots.cgroup.join(top).join(group));
            found.extend(directories.map(|directory| (directory, version)));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roots(name: &str, files: &[(&str, &str)]) -> Roots {
        let top = std::env::temp_dir().join(format!("confine-memory-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&top);
        for (file, text) in files {
            let file = top.join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        Roots { proc: top.join("proc"), cgroup: top.join("cgroup") }
    }

    #[test]
    fn the_tightest_group_counts() {
        let files = [
            ("proc/self/cgroup", "0::/pod/ours\n"),
            ("cgroup/pod/ours/memory.max", "max\n"),
            ("cgroup/pod/memory.max", "1073741824\n"),
            ("cgroup/pod/ours/memory.oom.group", "1\n"),
        ];
        let v2 = roots("v2", &files);
        assert_eq!((group_limit(&v2), child_limit(&v2)), (Some(1 << 30), 512 << 20));
        assert!(ends_as_a_group(&v2));
    }

    #[test]
    fn version_1_and_none() {
        let lines = "9:cpu:/x\n4:hugetlb,memory:/host/path\n0::/\n";
        let v1 = roots("v1", &[("proc/self/cgroup", lines), ("cgroup/memory/memory.limit_in_bytes", "8589934592\n")]);
        assert_eq!((group_limit(&v1), child_limit(&v1)), (Some(8 << 30), MEMORY));
        assert!(!ends_as_a_group(&v1));
        let unlimited = ("cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(group_limit(&roots("open", &[("proc/self/cgroup", lines), unlimited])), None);
        assert_eq!(child_limit(&roots("gone", &[])), MEMORY);
    }
}
