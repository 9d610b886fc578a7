//! What somebody who has taken a worker over can do: a process confined as a worker tries it, with a thread that is older than the last
//! filter, and says what came of each attempt. Listeners beside it prove that nothing arrived. The same attempts without
//! confinement succeed, else they would prove nothing.

#![cfg(all(target_os = "linux", not(feature = "portable")))]
#![allow(missing_docs)]

use confine::{Child, Mode, Profile};
use rustix::process::Pid;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Command, ExitStatus};

/// Set in the probe's environment: its profile, its mode, and the one attempt to make, or `all`.
const PROBE: &str = "CONFINE_PROBE";

/// What is there to be reached.
struct World {
    directory: PathBuf,
    tcp: TcpListener,
    udp: UdpSocket,
    path: UnixListener,
    name: UnixListener,
    sibling: std::process::Child,
}

impl World {
    fn new() -> Self {
        static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("confine-probe-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("config.yaml"), "api_secret: secret\n").unwrap();
        std::fs::write(directory.join("registry"), "plugins\n").unwrap();
        let world = Self {
            tcp: TcpListener::bind("127.0.0.1:0").unwrap(),
            udp: UdpSocket::bind("127.0.0.1:0").unwrap(),
            path: UnixListener::bind(directory.join("socket")).unwrap(),
            name: UnixListener::bind_addr(&abstract_name(&directory)).unwrap(),
            sibling: Command::new("sleep").arg("600").spawn().unwrap(),
            directory,
        };
        world.tcp.set_nonblocking(true).unwrap();
        world.udp.set_nonblocking(true).unwrap();
        world.path.set_nonblocking(true).unwrap();
        world.name.set_nonblocking(true).unwrap();
        world
    }

    fn run(&self, profile: Profile, mode: Mode, attempt: &str) -> (BTreeMap<String, String>, ExitStatus) {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "probe", "--nocapture", "--test-threads=1"])
            .env(PROBE, format!("{} {} {attempt}", profile.as_str(), mode.as_str()))
            .env("PROBE_DIRECTORY", &self.directory)
            .env("PROBE_TCP", self.tcp.local_addr().unwrap().port().to_string())
            .env("PROBE_UDP", self.udp.local_addr().unwrap().port().to_string())
            .env("PROBE_SIBLING", self.sibling.id().to_string())
            .env("GST_REGISTRY", self.directory.join("registry"))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        println!("{profile:?} {mode:?}:\n{text}{}", String::from_utf8_lossy(&output.stderr));
        let line = |line: &str| line.strip_prefix("probe ")?.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned()));
        (text.lines().filter_map(line).collect(), output.status)
    }

    /// What has arrived: over TCP, UDP, the socket with a path, that with a name.
    fn arrived(&self) -> [bool; 4] {
        fn came<T>(got: io::Result<T>) -> bool {
            match got {
                Ok(_) => true,
                Err(e) if e.kind() == ErrorKind::WouldBlock => false,
                Err(e) => panic!("{e}"),
            }
        }
        let packet = came(self.udp.recv_from(&mut [0; 16]));
        [came(self.tcp.accept()), packet, came(self.path.accept()), came(self.name.accept())]
    }

    fn sibling_lives(&mut self) -> bool {
        self.sibling.try_wait().unwrap().is_none()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.sibling.kill();
        let _ = self.sibling.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn abstract_name(directory: &std::path::Path) -> SocketAddr {
    SocketAddr::from_abstract_name(directory.to_str().unwrap()).unwrap()
}

/// What is tried, and what a worker without network is answered; `kill` stands for its end.
const ATTEMPTS: &[(&str, &str)] = &[
    ("configuration", "EACCES"),
    ("passwd", "EACCES"),
    ("home", "EACCES"),
    ("parent-environ", "EACCES"),
    ("parent-mem", "EACCES"),
    ("parent-maps", "EACCES"),
    ("parent-fd", "EACCES"),
    ("create-tmp", "EPERM"),
    ("create-shm", "EPERM"),
    ("unlink", "EPERM"),
    ("chmod", "EPERM"),
    ("tcp", "EPERM"),
    ("tcp-old-thread", "EPERM"),
    ("listen", "EPERM"),
    ("udp", "EPERM"),
    ("unix-path", "EPERM"),
    ("unix-name", "EPERM"),
    ("exec", "EPERM"),
    ("fork", "EPERM"),
    ("kill-parent", "EPERM"),
    ("kill-sibling", "EPERM"),
    ("pidfd", "EPERM"),
    ("memfd", "EPERM"),
    ("io_uring", "EPERM"),
    ("vsock", "EPERM"),
    ("netlink", "EPERM"),
    ("memory", "ENOMEM"),
    ("chroot", "kill"),
];

/// What must work all the same.
const NEEDS: &[&str] = &["threads", "libraries", "registry", "own-tasks", "stream-pair", "null"];
/// Of these, what one that pulls needs beside.
const NETWORK_NEEDS: &[&str] = &["tcp", "tcp-old-thread", "listen", "udp", "name", "temporary"];

/// Says how it went: `ok`, or the error.
fn told(result: io::Result<()>) -> String {
    let Err(e) = result else { return "ok".to_owned() };
    let names = [(libc::EPERM, "EPERM"), (libc::EACCES, "EACCES"), (libc::ENOMEM, "ENOMEM"), (libc::ENOENT, "ENOENT")];
    let name = names.iter().find(|(number, _)| e.raw_os_error() == Some(*number));
    name.map_or_else(|| e.to_string(), |(_, name)| (*name).to_owned())
}

fn read(path: impl AsRef<std::path::Path>) -> io::Result<()> {
    File::open(path)?.read(&mut [0; 16]).map(drop)
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap()
}

fn tcp() -> io::Result<()> {
    TcpStream::connect(format!("127.0.0.1:{}", variable("PROBE_TCP"))).map(drop)
}

fn attempt(what: &str, temporary: &mut confine::Temporary) -> io::Result<()> {
    let directory = PathBuf::from(variable("PROBE_DIRECTORY"));
    let parent = rustix::process::getppid().unwrap();
    let of_parent = |file: &str| format!("/proc/{}/{file}", parent.as_raw_nonzero());
    let sibling = Pid::from_raw(variable("PROBE_SIBLING").parse().unwrap()).unwrap();
    let config = directory.join("config.yaml");
    let family = |family| rustix::net::socket(family, rustix::net::SocketType::DGRAM, None).map(drop);
    match what {
        "configuration" => read(config),
        "passwd" => read("/etc/passwd"),
        "home" => std::fs::read_dir(std::env::var_os("HOME").unwrap_or("/root".into())).map(drop),
        "parent-environ" => read(of_parent("environ")),
        "parent-mem" => File::open(of_parent("mem")).map(drop),
        "parent-maps" => read(of_parent("maps")),
        "parent-fd" => std::fs::read_dir(of_parent("fd")).map(drop),
        "create-tmp" => File::create(directory.join("created")).map(drop),
        "create-shm" => {
            let path = format!("/dev/shm/confine-probe-{}", std::process::id());
            File::create(&path).and_then(|_| std::fs::remove_file(path))
        }
        "unlink" => std::fs::remove_file(directory.join("created")),
        "chmod" => std::fs::set_permissions(&config, std::os::unix::fs::PermissionsExt::from_mode(0o644)),
        "tcp" => tcp(),
        "tcp-old-thread" => unreachable!("it is done there"),
        "listen" => TcpListener::bind("127.0.0.1:0").map(drop),
        "udp" => {
            let socket = UdpSocket::bind("127.0.0.1:0")?;
            socket.send_to(b"x", format!("127.0.0.1:{}", variable("PROBE_UDP"))).map(drop)
        }
        "unix-path" => UnixStream::connect(directory.join("socket")).map(drop),
        "unix-name" => UnixStream::connect_addr(&abstract_name(&directory)).map(drop),
        "exec" => Err(Command::new("/bin/true").exec()),
        "fork" => Command::new("/bin/true").status().map(drop),
        "kill-parent" => Ok(rustix::process::test_kill_process(parent)?),
        "kill-sibling" => Ok(rustix::process::test_kill_process(sibling)?),
        "pidfd" => Ok(rustix::process::pidfd_open(parent, rustix::process::PidfdFlags::empty()).map(drop)?),
        "memfd" => Ok(rustix::fs::memfd_create("x", rustix::fs::MemfdFlags::CLOEXEC).map(drop)?),
        "io_uring" => io_uring::IoUring::new(2).map(drop),
        "vsock" => Ok(family(rustix::net::AddressFamily::VSOCK)?),
        "netlink" => {
            let (kind, protocol) = (rustix::net::SocketType::RAW, rustix::net::netlink::NETFILTER);
            Ok(rustix::net::socket(rustix::net::AddressFamily::NETLINK, kind, Some(protocol)).map(drop)?)
        }
        "memory" => Vec::<u8>::new().try_reserve_exact(3 << 30).map_err(|_| io::Error::from_raw_os_error(libc::ENOMEM)),
        "chroot" => std::os::unix::fs::chroot("/nonexistent"),
        "threads" => std::thread::spawn(|| ()).join().map_err(|_| io::Error::other("no thread")),
        "libraries" => std::fs::read_dir("/usr/lib").map(drop),
        "registry" => read(variable("GST_REGISTRY")),
        "own-tasks" => {
            let mut tasks = std::fs::read_dir("/proc/self/task")?;
            read(tasks.next().ok_or_else(|| io::Error::other("none"))??.path().join("stat"))
        }
        "stream-pair" => UnixStream::pair().map(drop),
        "null" => read("/dev/null"),
        "name" => ("localhost", 80).to_socket_addrs().map(drop),
        "temporary" => temporary.take()?.write_all(b"x"),
        other => panic!("{other}"),
    }
}

/// Not a test: the process that is confined, started with [`PROBE`] in its environment. It ends inside.
#[test]
fn probe() {
    let Ok(told_to) = std::env::var(PROBE) else { return };
    let words: Vec<&str> = told_to.split(' ').collect();
    let (profile, mode) = (Profile::parse(words[0]).unwrap(), Mode::parse(words[1]).unwrap());
    let mut child = Child::enter(profile, mode).unwrap();
    // The test's name stands at the beginning of a line.
    println!();
    let (ask, asked) = std::sync::mpsc::channel::<()>();
    let (answer, answered) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for () in asked {
            answer.send(told(tcp())).unwrap();
        }
    });
    child.seal().unwrap();
    let mut temporary = child.take_temporary();
    let mut try_one = |what: &str| {
        let came = match what {
            "tcp-old-thread" => {
                ask.send(()).unwrap();
                answered.recv().unwrap()
            }
            _ => told(attempt(what, &mut temporary)),
        };
        println!("probe {what}={came}");
    };
    match words[2] {
        "all" => {
            let ends = |what: &str| what == "exec" && mode == Mode::Never;
            let survived = ATTEMPTS.iter().filter(|(what, answer)| *answer != "kill" && !ends(what));
            survived
                .map(|(what, _)| *what)
                .chain(NEEDS.iter().copied())
                .chain(["name", "temporary"])
                .for_each(&mut try_one);
            let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
            for line in status.lines().filter_map(|line| line.split_once(":\t")) {
                println!("probe status-{}={}", line.0, line.1);
            }
        }
        one => try_one(one),
    }
    std::process::exit(0);
}

fn confined(profile: Profile, network: bool) {
    let mut world = World::new();
    let (got, status) = world.run(profile, Mode::Require, "all");
    assert!(status.success(), "{status}");
    for (what, expected) in ATTEMPTS.iter().filter(|(_, answer)| *answer != "kill") {
        let expected = if network && NETWORK_NEEDS.contains(what) { "ok" } else { *expected };
        assert_eq!(got.get(*what).map(String::as_str), Some(expected), "{what} of {profile:?}");
    }
    for what in NEEDS.iter().chain(NETWORK_NEEDS.iter().filter(|_| network)) {
        assert_eq!(got[*what], "ok", "{what} of {profile:?}");
    }
    for (what, _) in ATTEMPTS.iter().filter(|(_, answer)| *answer == "kill") {
        let (got, status) = world.run(profile, Mode::Require, what);
        assert_eq!((got.get(*what), status.signal()), (None, Some(confine::KILLED_BY)), "{what}");
    }
    assert_eq!(world.arrived(), [network, network, false, false], "{profile:?}");
    assert!(world.sibling_lives());
    let expected =
        [("NoNewPrivs", "1"), ("Seccomp", "2"), ("CapEff", "0"), ("CapPrm", "0"), ("CapBnd", "0"), ("CapAmb", "0")];
    // Only root may shrink its bounding set, and only root needs to.
    for (what, expected) in
        expected.into_iter().filter(|(what, _)| *what != "CapBnd" || rustix::process::getuid().is_root())
    {
        let got = got[&format!("status-{what}")].trim_start_matches('0').to_owned();
        assert_eq!(if got.is_empty() { "0" } else { &got }, expected, "{what}");
    }
}

#[test]
fn a_worker_without_network() {
    confined(Profile::Transcode, false);
    confined(Profile::DemuxBytes, false);
}

#[test]
fn a_worker_that_pulls() {
    confined(Profile::DemuxUrl, true);
}

#[test]
fn without_confinement_all_succeeds() {
    let mut world = World::new();
    let (got, status) = world.run(Profile::Transcode, Mode::Never, "all");
    assert!(status.success(), "{status}");
    // Kinds of sockets, io_uring and looking into the parent are not everybody's even so.
    let depends = ["vsock", "netlink", "io_uring", "parent-mem", "parent-environ", "parent-maps", "parent-fd"];
    for (what, answer) in ATTEMPTS {
        if *what == "memory" {
            assert_eq!(got[*what], "ENOMEM", "limits stay");
        } else if *answer != "kill" && *what != "exec" && !depends.contains(what) {
            assert_eq!(got[*what], "ok", "{what}");
        }
    }
    assert_eq!(world.arrived(), [true; 4]);
    assert!(world.run(Profile::Transcode, Mode::Never, "exec").1.success());
    let (got, _) = world.run(Profile::Transcode, Mode::Never, "chroot");
    assert_eq!(got["chroot"], "ENOENT");
    assert!(world.sibling_lives());
}

#[test]
fn a_service_hides_and_keeps_little() {
    let service = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "service", "--nocapture", "--test-threads=1"])
        .env(PROBE, "service")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&service.stdout);
    assert!(service.status.success() && text.contains("service NoNewPrivs 1"), "{text}");
    if rustix::process::getuid().is_root() {
        // CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_NET_BIND_SERVICE.
        assert!(text.contains(&format!("service CapBnd {:016x}", (1 << 1) | (1 << 2) | (1 << 10))), "{text}");
    } else {
        assert!(text.contains("service environ EACCES"), "{text}");
    }
}

/// Not a test: the process that gives up what a service does not need, started by [`a_service_hides_and_keeps_little`].
#[test]
fn service() {
    if std::env::var(PROBE).ok().as_deref() != Some("service") {
        return;
    }
    confine::service::hide();
    let support = confine::service::give_up(Mode::Auto).unwrap();
    assert_eq!(support.missing, Vec::<String>::new());
    println!("service environ {}", told(read("/proc/self/environ")));
    for line in
        std::fs::read_to_string("/proc/thread-self/status").unwrap().lines().filter_map(|line| line.split_once(":\t"))
    {
        println!("service {} {}", line.0, line.1);
    }
    std::process::exit(0);
}
