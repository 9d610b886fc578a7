//! What a worker may do once everything is loaded: the whole list. All else is refused.
//!
//! Found by strace of all formats of the tests with GStreamer 1.22, glibc 2.36; calls that do no harm and that other versions use
//! in the place of those are listed with them. Calls that name another process or thread are given for this one alone.

use super::Rules;
use super::conditions::{Is, all, one_of};
use crate::{Error, Profile};

/// Whatever the arguments.
const ALWAYS: &[i64] = &[
    // Open descriptors: files are only read (see `open` below), the socket of the parent, GStreamer's wake-ups.
    libc::SYS_close,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_eventfd2,
    libc::SYS_fadvise64,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_getdents64,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_lseek,
    libc::SYS_pipe2,
    libc::SYS_ppoll,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_pselect6,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_shutdown,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_write,
    libc::SYS_writev,
    // What stands at a path.
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_getcwd,
    libc::SYS_newfstatat,
    libc::SYS_readlinkat,
    libc::SYS_statfs,
    libc::SYS_statx,
    // Memory. It may be made executable: plugins are loaded, and ORC compiles.
    libc::SYS_brk,
    libc::SYS_get_mempolicy,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    libc::SYS_mincore,
    libc::SYS_mlock,
    libc::SYS_mlock2,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munlock,
    libc::SYS_munmap,
    // Threads and signals of this process.
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_futex_waitv,
    libc::SYS_get_robust_list,
    libc::SYS_gettid,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigpending,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigsuspend,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_getattr,
    libc::SYS_sched_getparam,
    libc::SYS_sched_get_priority_max,
    libc::SYS_sched_get_priority_min,
    libc::SYS_sched_getscheduler,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_sigaltstack,
    // Time.
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_nanosleep,
    // What this process and this machine are.
    libc::SYS_getcpu,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_getpriority,
    libc::SYS_getrandom,
    libc::SYS_getresgid,
    libc::SYS_getresuid,
    libc::SYS_getrusage,
    libc::SYS_getuid,
    libc::SYS_sysinfo,
    libc::SYS_times,
    libc::SYS_umask,
    libc::SYS_uname,
];

/// The same where the architecture has them: older forms of calls above.
#[cfg(target_arch = "x86_64")]
const ALWAYS_HERE: &[i64] = &[
    libc::SYS_access,
    libc::SYS_arch_prctl,
    libc::SYS_dup2,
    libc::SYS_epoll_create,
    libc::SYS_epoll_wait,
    libc::SYS_eventfd,
    libc::SYS_getrlimit,
    libc::SYS_lstat,
    libc::SYS_pipe,
    libc::SYS_poll,
    libc::SYS_readlink,
    libc::SYS_select,
    libc::SYS_stat,
    libc::SYS_time,
];
#[cfg(not(target_arch = "x86_64"))]
const ALWAYS_HERE: &[i64] = &[];

/// For who uses the network.
const NETWORK: &[i64] = &[
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_listen,
    libc::SYS_recvmmsg,
    libc::SYS_sendmmsg,
];

/// Of `fcntl(2)`: nothing that names a process to be signalled.
const FCNTL: &[u64] = &[
    libc::F_DUPFD as u64,
    libc::F_DUPFD_CLOEXEC as u64,
    libc::F_GETFD as u64,
    libc::F_SETFD as u64,
    libc::F_GETFL as u64,
    libc::F_SETFL as u64,
    libc::F_GET_SEALS as u64,
];

/// Of `ioctl(2)`: what concerns a descriptor's own state.
const IOCTL: &[u64] =
    &[libc::FIONBIO, libc::FIONREAD, libc::FIOCLEX, libc::FIONCLEX, libc::TCGETS, libc::TIOCGWINSZ, libc::TIOCOUTQ];

/// Of `prctl(2)`: names, and questions.
const PRCTL: &[u64] = &[
    libc::PR_SET_NAME as u64,
    libc::PR_GET_NAME as u64,
    libc::PR_SET_VMA as u64,
    libc::PR_CAPBSET_READ as u64,
    libc::PR_GET_DUMPABLE as u64,
    libc::PR_GET_NO_NEW_PRIVS as u64,
    libc::PR_GET_SECCOMP as u64,
    libc::PR_GET_TIMERSLACK as u64,
    libc::PR_SET_TIMERSLACK as u64,
    51, // PR_SVE_GET_VL, aarch64
];

/// Options of sockets by which programs are handed to the kernel.
const PROGRAMS: &[i32] =
    &[libc::SO_ATTACH_FILTER, libc::SO_ATTACH_BPF, libc::SO_ATTACH_REUSEPORT_CBPF, libc::SO_ATTACH_REUSEPORT_EBPF];

/// Flags of `open(2)` that do anything but read.
const WRITES: u64 = (libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC | (libc::O_TMPFILE & !libc::O_DIRECTORY)) as u64;

/// What a clone shares beside being a thread: never namespaces of its own.
const NAMESPACES: u64 = (libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWUTS) as u64;

/// The list for this profile.
pub(super) fn rules(profile: Profile) -> Result<Rules, Error> {
    let mut rules: Rules = ALWAYS.iter().chain(ALWAYS_HERE).map(|call| (*call, Vec::new())).collect();
    of_this_process(&mut rules)?;
    let (kind, type_flags) = (1, !((libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK) as u64) & 0xffff_ffff);
    // A pair of datagrams could send to other names.
    let stream = Is::Bits(kind, type_flags, libc::SOCK_STREAM as u64);
    rules.insert(libc::SYS_socketpair, vec![all(&[Is::Equal(0, libc::AF_UNIX as u64), stream])?]);
    rules.insert(libc::SYS_openat, vec![all(&[Is::Bits(2, WRITES, 0)])?]);
    #[cfg(target_arch = "x86_64")]
    rules.insert(libc::SYS_open, vec![all(&[Is::Bits(1, WRITES, 0)])?]);
    if profile.uses_network() {
        rules.extend(NETWORK.iter().map(|call| (*call, Vec::new())));
        let datagram = Is::Bits(kind, type_flags, libc::SOCK_DGRAM as u64);
        let internet = [libc::AF_INET, libc::AF_INET6].map(|family| Is::Equal(0, family as u64));
        let mut sockets = Vec::new();
        for family in internet {
            sockets.extend([all(&[family, stream])?, all(&[family, datagram])?]);
        }
        // The resolver asks which addresses this machine has.
        sockets.push(all(&[Is::Equal(0, libc::AF_NETLINK as u64), Is::Equal(2, libc::NETLINK_ROUTE as u64)])?);
        rules.insert(libc::SYS_socket, sockets);
        rules.insert(libc::SYS_setsockopt, socket_options()?);
    }
    Ok(rules)
}

/// Calls that could concern others, given for this process alone.
fn of_this_process(rules: &mut Rules) -> Result<(), Error> {
    let thread = libc::CLONE_THREAD as u64;
    rules.insert(libc::SYS_clone, vec![all(&[Is::Bits(0, thread | NAMESPACES, thread)])?]);
    rules.insert(libc::SYS_tgkill, vec![all(&[Is::Equal(0, u64::from(std::process::id()))])?]);
    let own = || Ok::<_, Error>(vec![all(&[Is::Equal(0, 0)])?]);
    for call in [libc::SYS_prlimit64, libc::SYS_sched_setaffinity, libc::SYS_sched_setattr] {
        rules.insert(call, own()?);
    }
    rules.insert(libc::SYS_setpriority, vec![all(&[Is::Equal(0, libc::PRIO_PROCESS as u64), Is::Equal(1, 0)])?]);
    rules.insert(libc::SYS_fcntl, one_of(1, FCNTL)?);
    rules.insert(libc::SYS_ioctl, one_of(1, IOCTL)?);
    rules.insert(libc::SYS_prctl, one_of(0, PRCTL)?);
    // Shared memory without a file is not counted by the limit on memory.
    let (private, file) = (libc::MAP_PRIVATE as u64, libc::MAP_ANONYMOUS as u64);
    let mapped = [Is::Bits(3, libc::MAP_TYPE as u64, private), Is::Bits(3, file, 0)];
    rules.insert(libc::SYS_mmap, mapped.into_iter().map(|is| all(&[is])).collect::<Result<_, _>>()?);
    Ok(())
}

fn socket_options() -> Result<Vec<seccompiler::SeccompRule>, Error> {
    let level = libc::SOL_SOCKET as u64;
    let no_program: Vec<Is> = PROGRAMS.iter().map(|option| Is::Other(2, *option as u64)).collect();
    Ok(vec![all(&[Is::Other(1, level)])?, all(&no_program)?])
}
