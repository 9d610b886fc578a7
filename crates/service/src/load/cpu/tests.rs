//! CPU readings from made-up /proc and cgroup trees.

use super::*;

/// A machine made of files, removed in the end.
struct Fake(PathBuf);

impl Fake {
    fn new(name: &str, files: &[(&str, &str)]) -> Self {
        let root = std::env::temp_dir().join(format!("ingress-cpu-{}-{name}", std::process::id()));
        let fake = Self(root);
        for (path, text) in files {
            fake.write(path, text);
        }
        fake
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn roots(&self) -> Roots {
        Roots { proc: self.0.join("proc"), cgroup: self.0.join("cgroup") }
    }

    fn find(&self, request: Option<&str>) -> Cpu {
        Cpu::find(&self.roots(), request)
    }

    /// Idle CPUs over two seconds in which these files change.
    fn idle(&self, cpu: &Cpu, changed: &[(&str, &str)]) -> Option<f64> {
        let before = cpu.usage();
        for (path, text) in changed {
            self.write(path, text);
        }
        cpu.idle(&before, &cpu.usage(), Duration::from_secs(2))
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

const STATUS: (&str, &str) =
    ("proc/self/status", "Name:\tingress\nCpus_allowed:\tf\nCpus_allowed_list:\t0-3\nMems_allowed_list:\t0\n");
/// Four CPUs, nothing used.
const STAT: (&str, &str) = (
    "proc/stat",
    "cpu  0 0 0 0 0 0 0 0 0 0\ncpu0 0 0 0 0 0 0 0 0 0 0\ncpu1 0 0 0 0 0 0 0 0 0 0\ncpu2 0 0 0 0 0 0 0 0 0 0\n\
     cpu3 0 0 0 0 0 0 0 0 0 0\nintr 5\nctxt 1\nbtime 1700000000\n",
);
/// The same two seconds later: one CPU busy (each kind of work but idle and iowait counts), one stolen from for half the time.
const STAT_LATER: (&str, &str) = (
    "proc/stat",
    "cpu  1 1 1 1 1 1 1 1 0 0\ncpu0 50 50 50 0 0 25 25 0 50 0\ncpu1 0 0 0 100 0 0 0 100 0 0\ncpu2 0 0 0 100 100 0 0 0 0 0\n\
     cpu3 0 0 0 200 0 0 0 0 0 0\n",
);
const V2: (&str, &str) = ("cgroup/cgroup.controllers", "cpuset cpu io memory pids\n");

#[test]
fn a_bare_machine() {
    let fake = Fake::new("bare", &[STATUS, STAT]);
    let cpu = fake.find(None);
    assert_eq!(cpu.capacity(), 4.0);
    assert_eq!(fake.idle(&cpu, &[STAT_LATER]), Some(2.5));
}

#[test]
fn only_the_cpus_it_may_run_on_count() {
    let fake = Fake::new("set", &[("proc/self/status", "Cpus_allowed_list:\t0,2-3\n"), STAT]);
    let cpu = fake.find(None);
    assert_eq!(cpu.capacity(), 3.0);
    assert_eq!(fake.idle(&cpu, &[STAT_LATER]), Some(2.0));
}

#[test]
fn a_container_with_a_quota_v2() {
    let files = [
        STATUS,
        STAT,
        V2,
        ("proc/self/cgroup", "0::/\n"),
        ("cgroup/cpu.max", "150000 100000\n"),
        ("cgroup/cpu.stat", "usage_usec 7000000\nuser_usec 1\n"),
    ];
    let fake = Fake::new("v2", &files);
    let cpu = fake.find(None);
    assert_eq!(cpu.capacity(), 1.5);
    let used = ("cgroup/cpu.stat", "usage_usec 8000000\n");
    // Its own use leaves one CPU of its quota, the machine has more.
    assert_eq!(fake.idle(&cpu, &[used, STAT_LATER]), Some(1.0));
    // The machine is full, whatever the quota says.
    let full = STAT.1.replace("0 0 0 0 0 0 0 0 0 0\n", "199 0 0 0 0 0 0 0 0 0\n").replace("cpu1 199", "cpu1 201");
    fake.write("proc/stat", STAT.1);
    assert_eq!(fake.idle(&cpu, &[("proc/stat", full.as_str())]).map(|idle| (idle * 100.0).round()), Some(1.0));
}

#[test]
fn a_service_under_a_slice_with_a_quota_v2() {
    let files = [
        STATUS,
        STAT,
        V2,
        ("proc/self/cgroup", "1:name=systemd:/x\n0::/system.slice/ingress.service\n"),
        ("cgroup/system.slice/ingress.service/cpu.max", "max 100000\n"),
        ("cgroup/system.slice/ingress.service/cpu.stat", "usage_usec 0\n"),
        ("cgroup/system.slice/cpu.max", "200000 100000\n"),
        ("cgroup/system.slice/cpu.stat", "usage_usec 0\n"),
        ("cgroup/cpu.stat", "usage_usec 0\n"),
    ];
    let fake = Fake::new("slice", &files);
    let cpu = fake.find(None);
    assert_eq!(cpu.capacity(), 2.0);
    assert_eq!(fake.idle(&cpu, &[("cgroup/system.slice/cpu.stat", "usage_usec 3000000\n")]), Some(0.5));
}

#[test]
fn v1_in_a_container_that_sees_the_path_outside() {
    for folder in ["cpu,cpuacct", "split"] {
        let (cpu_folder, accounting) = if folder == "split" { ("cpu", "cpuacct") } else { (folder, folder) };
        let quota = format!("cgroup/{cpu_folder}/cpu.cfs_quota_us");
        let period = format!("cgroup/{cpu_folder}/cpu.cfs_period_us");
        let usage = format!("cgroup/{accounting}/cpuacct.usage");
        let files = [
            STATUS,
            STAT,
            ("proc/self/cgroup", "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n"),
            (quota.as_str(), "250000\n"),
            (period.as_str(), "100000\n"),
            (usage.as_str(), "1000000000\n"),
        ];
        let fake = Fake::new(&format!("v1-{cpu_folder}"), &files);
        let cpu = fake.find(None);
        assert_eq!(cpu.capacity(), 2.5);
        assert_eq!(fake.idle(&cpu, &[(usage.as_str(), "2000000000\n")]), Some(2.0));
        fake.write(&quota, "-1\n");
        assert_eq!(fake.find(None).capacity(), 4.0);
    }
}

#[test]
fn a_request_stands_for_the_capacity() {
    let fake = Fake::new("request", &[STATUS, STAT, V2, ("cgroup/cpu.stat", "usage_usec 0\n")]);
    let cpu = fake.find(Some(" 1.5 "));
    assert_eq!(cpu.capacity(), 1.5);
    assert_eq!(fake.idle(&cpu, &[("cgroup/cpu.stat", "usage_usec 2000000\n")]), Some(0.5));
    for text in ["", "0", "-2", "many", "inf", "NaN"] {
        assert_eq!(fake.find(Some(text)).capacity(), 4.0, "{text}");
    }
}

#[test]
fn without_any_file_there_is_one_cpu() {
    let fake = Fake::new(
        "nothing",
        &[("proc/stat", "rubbish\ncpu\ncpux 1\n"), ("proc/self/status", "Cpus_allowed_list:\t9-\n")],
    );
    let cpu = fake.find(None);
    assert_eq!(cpu.capacity(), 1.0);
    assert_eq!(fake.idle(&cpu, &[]), None);
}

#[test]
fn counters_that_jump_stay_within_the_machine() {
    let fake = Fake::new("jump", &[STATUS, STAT_LATER]);
    let cpu = fake.find(None);
    assert_eq!(fake.idle(&cpu, &[STAT]), Some(4.0));
    assert_eq!(fake.idle(&cpu, &[("proc/stat", "cpu0 9999999 0 0 0\n")]), Some(0.0));
    assert_eq!(cpu.idle(&cpu.usage(), &cpu.usage(), Duration::ZERO), None);
}

#[test]
fn levels_from_the_inside_out() {
    assert_eq!(levels("/a/b/c").collect::<Vec<_>>(), ["a/b/c", "a/b", "a", ""]);
    assert_eq!(levels("/").collect::<Vec<_>>(), [""]);
    assert_eq!(levels("/../../x").collect::<Vec<_>>(), [""]);
}
