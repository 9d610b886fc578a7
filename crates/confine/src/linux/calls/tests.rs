//! What the kernel would answer, call by call: the filters as they are compiled, run by an interpreter of their few instructions.

use super::*;
use proptest::prelude::*;

/// A call: its number and arguments.
#[derive(Clone, Copy, Debug)]
struct Call(i64, [u64; 6]);

/// An answer of the kernel; from the strictest on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Answer {
    Killed,
    Errno(u32),
    Allowed,
}

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;

/// `struct seccomp_data` (seccomp(2)): number, architecture, instruction pointer, arguments.
fn word(call: Call, architecture: u32, offset: u32) -> u32 {
    let halves = |value: u64, offset: u32| if offset.is_multiple_of(8) { value as u32 } else { (value >> 32) as u32 };
    match offset {
        0 => call.0 as u32,
        4 => architecture,
        8 | 12 => 0,
        _ => halves(call.1[(offset as usize - 16) / 8], offset - 16),
    }
}

/// Classic BPF, as far as seccompiler uses it.
fn run(program: &BpfProgram, call: Call, architecture: u32) -> Answer {
    let (mut at, mut a) = (0, 0u32);
    loop {
        let i = &program[at];
        at += 1;
        let jump = |yes: bool| usize::from(if yes { i.jt } else { i.jf });
        match i.code {
            0x20 => a = word(call, architecture, i.k),
            0x54 => a &= i.k,
            0x05 => at += i.k as usize,
            0x15 => at += jump(a == i.k),
            0x25 => at += jump(a > i.k),
            0x35 => at += jump(a >= i.k),
            0x06 => {
                return match i.k & 0xffff_0000 {
                    0x8000_0000 => Answer::Killed,
                    0x0005_0000 => Answer::Errno(i.k & 0xffff),
                    0x7fff_0000 => Answer::Allowed,
                    other => panic!("{other:#x}"),
                };
            }
            other => panic!("instruction {other:#x}"),
        }
    }
}

/// The strictest answer of all, of the newest filter among equals.
fn answer_here(profile: Profile, sealed: bool, call: Call, architecture: u32) -> Answer {
    let mut programs = denying(profile).unwrap().to_vec();
    programs.extend(sealed.then(|| allowing(profile).unwrap()));
    let answers: Vec<Answer> = programs.iter().rev().map(|program| run(program, call, architecture)).collect();
    let rank = |answer: &Answer| match answer {
        Answer::Killed => 0,
        Answer::Errno(_) => 1,
        Answer::Allowed => 2,
    };
    *answers.iter().min_by_key(|answer| rank(answer)).unwrap()
}

fn answer(profile: Profile, sealed: bool, number: i64, arguments: &[u64]) -> Answer {
    let mut six = [0; 6];
    six[..arguments.len()].copy_from_slice(arguments);
    answer_here(profile, sealed, Call(number, six), ARCHITECTURE)
}

const EPERM: Answer = Answer::Errno(libc::EPERM as u32);

/// Arguments of calls, such that some are refused by their number alone.
const NEVER_GIVEN: &[(i64, &[u64])] = &[
    (libc::SYS_execve, &[]),
    (libc::SYS_execveat, &[]),
    (libc::SYS_clone, &[libc::SIGCHLD as u64]),
    (libc::SYS_clone, &[(libc::CLONE_VM | libc::CLONE_VFORK) as u64]),
    (libc::SYS_clone, &[(libc::CLONE_NEWUSER | libc::SIGCHLD) as u64]),
    (libc::SYS_process_vm_readv, &[1]),
    (libc::SYS_process_vm_writev, &[1]),
    (libc::SYS_kill, &[1, 9]),
    (libc::SYS_tkill, &[1, 9]),
    (libc::SYS_rt_sigqueueinfo, &[1, 9]),
    (libc::SYS_rt_tgsigqueueinfo, &[1, 1, 9]),
    (libc::SYS_pidfd_open, &[1]),
    (libc::SYS_pidfd_getfd, &[]),
    (libc::SYS_pidfd_send_signal, &[]),
    (libc::SYS_io_uring_setup, &[]),
    (libc::SYS_io_uring_enter, &[]),
    (libc::SYS_io_uring_register, &[]),
    (libc::SYS_memfd_create, &[]),
    (libc::SYS_userfaultfd, &[]),
    (libc::SYS_perf_event_open, &[]),
    (libc::SYS_keyctl, &[]),
    (libc::SYS_add_key, &[]),
    (libc::SYS_unshare, &[libc::CLONE_NEWNET as u64]),
    (libc::SYS_setns, &[]),
    (libc::SYS_personality, &[]),
];

/// Given while libraries load, and not to who works.
const NOT_GIVEN_AT_WORK: &[(i64, &[u64])] = &[
    (libc::SYS_tgkill, &[1, 1, 9]),
    (libc::SYS_fcntl, &[3, libc::F_SETOWN as u64, 1]),
    (libc::SYS_fcntl, &[3, 15, 0]),  // F_SETOWN_EX
    (libc::SYS_fcntl, &[3, 10, 9]),  // F_SETSIG
    (libc::SYS_ioctl, &[3, 0x8901]), // FIOSETOWN
    (libc::SYS_ioctl, &[0, libc::TIOCSTI]),
    (libc::SYS_prctl, &[libc::PR_SET_PDEATHSIG as u64, 0]),
    (libc::SYS_prctl, &[libc::PR_SET_DUMPABLE as u64, 1]),
    (libc::SYS_prctl, &[libc::PR_SET_PTRACER as u64, 1]),
    (libc::SYS_prlimit64, &[1]),
    (libc::SYS_setpriority, &[libc::PRIO_PROCESS as u64, 1, 19]),
    (libc::SYS_setpriority, &[libc::PRIO_USER as u64, 0, 19]),
    (libc::SYS_sched_setaffinity, &[1]),
    (libc::SYS_sched_setattr, &[1]),
    (libc::SYS_openat, &[0, 0, libc::O_WRONLY as u64]),
    (libc::SYS_openat, &[0, 0, libc::O_RDWR as u64]),
    (libc::SYS_openat, &[0, 0, libc::O_CREAT as u64]),
    (libc::SYS_openat, &[0, 0, libc::O_TRUNC as u64]),
    (libc::SYS_openat, &[0, 0, (libc::O_TMPFILE | libc::O_RDWR) as u64]),
    (libc::SYS_openat2, &[]),
    (libc::SYS_truncate, &[]),
    (libc::SYS_unlinkat, &[]),
    (libc::SYS_renameat2, &[]),
    (libc::SYS_linkat, &[]),
    (libc::SYS_symlinkat, &[]),
    (libc::SYS_mkdirat, &[]),
    (libc::SYS_mknodat, &[]),
    (libc::SYS_fchmodat, &[]),
    (libc::SYS_fchownat, &[]),
    (libc::SYS_utimensat, &[]),
    (libc::SYS_setxattr, &[]),
    (libc::SYS_inotify_init1, &[]),
    (libc::SYS_fanotify_init, &[]),
    (libc::SYS_shmget, &[]),
    (libc::SYS_msgget, &[]),
    (libc::SYS_semget, &[]),
    (libc::SYS_mq_open, &[]),
    (libc::SYS_mmap, &[0, 4096, 3, (libc::MAP_SHARED | libc::MAP_ANONYMOUS) as u64]),
    (libc::SYS_socketpair, &[libc::AF_UNIX as u64, libc::SOCK_DGRAM as u64]),
    (libc::SYS_socketpair, &[libc::AF_UNIX as u64, libc::SOCK_SEQPACKET as u64]),
    (libc::SYS_setuid, &[]),
    (libc::SYS_setresuid, &[]),
    (libc::SYS_capset, &[]),
    (libc::SYS_seccomp, &[]),
    (libc::SYS_landlock_restrict_self, &[]),
    (libc::SYS_timer_create, &[]),
    (libc::SYS_splice, &[]),
    (libc::SYS_vmsplice, &[]),
    (libc::SYS_socket, &[libc::AF_UNIX as u64, libc::SOCK_STREAM as u64]),
    (libc::SYS_socket, &[libc::AF_PACKET as u64, libc::SOCK_RAW as u64]),
    (libc::SYS_socket, &[libc::AF_VSOCK as u64, libc::SOCK_STREAM as u64]),
    (libc::SYS_socket, &[libc::AF_ALG as u64, libc::SOCK_SEQPACKET as u64]),
    (libc::SYS_socket, &[libc::AF_INET as u64, libc::SOCK_RAW as u64]),
    (libc::SYS_socket, &[libc::AF_NETLINK as u64, libc::SOCK_RAW as u64, 12]), // NETLINK_NETFILTER
    (libc::SYS_setsockopt, &[3, libc::SOL_SOCKET as u64, libc::SO_ATTACH_BPF as u64]),
    (libc::SYS_setsockopt, &[3, libc::SOL_SOCKET as u64, libc::SO_ATTACH_FILTER as u64]),
];

/// What the network takes.
const NETWORK: &[(i64, &[u64])] = &[
    (libc::SYS_socket, &[libc::AF_INET as u64, (libc::SOCK_STREAM | libc::SOCK_CLOEXEC) as u64]),
    (libc::SYS_socket, &[libc::AF_INET6 as u64, (libc::SOCK_DGRAM | libc::SOCK_NONBLOCK) as u64]),
    (libc::SYS_socket, &[libc::AF_NETLINK as u64, (libc::SOCK_RAW | libc::SOCK_CLOEXEC) as u64, 0]),
    (libc::SYS_connect, &[]),
    (libc::SYS_bind, &[]),
    (libc::SYS_listen, &[]),
    (libc::SYS_accept4, &[]),
    (libc::SYS_setsockopt, &[3, libc::SOL_SOCKET as u64, libc::SO_RCVBUF as u64]),
    (libc::SYS_setsockopt, &[3, libc::IPPROTO_TCP as u64, libc::SO_ATTACH_FILTER as u64]),
    (libc::SYS_sendmmsg, &[]),
];

#[test]
fn what_is_never_given() {
    for profile in Profile::ALL {
        for (number, arguments) in NEVER_GIVEN {
            for sealed in [false, true] {
                assert_eq!(answer(profile, sealed, *number, arguments), EPERM, "{number} of {profile:?}");
            }
        }
        for number in
            [libc::SYS_ptrace, libc::SYS_bpf, libc::SYS_mount, libc::SYS_kexec_load, libc::SYS_open_by_handle_at]
        {
            assert_eq!(answer(profile, false, number, &[]), Answer::Killed);
            assert_eq!(answer(profile, true, number, &[]), Answer::Killed);
        }
    }
}

#[test]
fn what_is_not_given_at_work() {
    for profile in Profile::ALL {
        for (number, arguments) in NOT_GIVEN_AT_WORK {
            assert_eq!(answer(profile, true, *number, arguments), EPERM, "{number} {arguments:?} of {profile:?}");
        }
        for (number, arguments) in NETWORK {
            let expected = if profile.uses_network() { Answer::Allowed } else { EPERM };
            assert_eq!(answer(profile, true, *number, arguments), expected, "{number} {arguments:?} of {profile:?}");
        }
    }
}

#[test]
fn what_work_needs() {
    let thread =
        (libc::CLONE_VM | libc::CLONE_FS | libc::CLONE_FILES | libc::CLONE_SIGHAND | libc::CLONE_THREAD) as u64;
    let needed: &[(i64, &[u64])] = &[
        (libc::SYS_clone, &[thread]),
        (libc::SYS_mmap, &[0, 4096, 7, (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as u64]),
        (libc::SYS_mmap, &[0, 4096, 1, libc::MAP_SHARED as u64, 5]),
        (libc::SYS_mprotect, &[0, 4096, 7]),
        (libc::SYS_openat, &[0, 0, (libc::O_RDONLY | libc::O_CLOEXEC | libc::O_DIRECTORY) as u64]),
        (libc::SYS_socketpair, &[libc::AF_UNIX as u64, (libc::SOCK_STREAM | libc::SOCK_CLOEXEC) as u64]),
        (libc::SYS_tgkill, &[u64::from(std::process::id()), 1, libc::SIGABRT as u64]),
        (libc::SYS_fcntl, &[3, libc::F_DUPFD_CLOEXEC as u64]),
        (libc::SYS_ioctl, &[3, libc::FIONBIO]),
        (libc::SYS_prctl, &[libc::PR_SET_NAME as u64]),
        (libc::SYS_prlimit64, &[0]),
    ];
    for profile in Profile::ALL {
        for (number, arguments) in needed {
            assert_eq!(answer(profile, true, *number, arguments), Answer::Allowed, "{number} {arguments:?}");
        }
        assert_eq!(answer(profile, true, libc::SYS_clone3, &[]), Answer::Errno(libc::ENOSYS as u32));
        assert_eq!(answer(profile, false, libc::SYS_clone3, &[]), Answer::Errno(libc::ENOSYS as u32));
    }
}

#[test]
fn other_architectures_are_none() {
    // 32-bit calls have other numbers.
    let call = Call(libc::SYS_read, [0; 6]);
    assert_eq!(answer_here(Profile::Transcode, true, call, 0x4000_0003), Answer::Killed);
}

proptest! {
    /// No number that is not listed passes, x32's among them, and no upper half of an argument opens what the lower half closes.
    #[test]
    fn nothing_else_passes(number in prop_oneof![0i64..600, 0x4000_0000i64..0x4000_0300], upper in any::<u32>()) {
        for profile in Profile::ALL {
            let listed = allowed::rules(profile).unwrap().contains_key(&number);
            if !listed {
                prop_assert_ne!(answer(profile, true, number, &[]), Answer::Allowed);
            }
            let upper = u64::from(upper) << 32;
            let flags = upper | libc::O_WRONLY as u64;
            prop_assert_eq!(answer(profile, true, libc::SYS_openat, &[0, 0, flags]), EPERM);
            prop_assert_eq!(answer(profile, true, libc::SYS_clone, &[upper | libc::SIGCHLD as u64]), EPERM);
        }
    }
}
