//! What is refused from the first line on, while libraries still load.

use super::Rules;
use super::conditions::{Is, all};
use crate::{Error, Profile};

/// No library does this in order to decode or demultiplex: who asks for it was taken over, and ends.
const NEVER: &[i64] = &[
    libc::SYS_bpf,
    libc::SYS_chroot,
    libc::SYS_delete_module,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_init_module,
    libc::SYS_kexec_load,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_pivot_root,
    libc::SYS_ptrace,
    libc::SYS_reboot,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_umount2,
];

/// Other programs and processes, other namespaces, and parts of the kernel that nothing here uses.
const REFUSED: &[i64] = &[
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_fanotify_init,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_kcmp,
    libc::SYS_keyctl,
    libc::SYS_kill,
    libc::SYS_memfd_create,
    libc::SYS_name_to_handle_at,
    libc::SYS_perf_event_open,
    libc::SYS_personality,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_send_signal,
    libc::SYS_process_madvise,
    libc::SYS_process_mrelease,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_quotactl,
    libc::SYS_request_key,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_sethostname,
    libc::SYS_setns,
    libc::SYS_settimeofday,
    libc::SYS_syslog,
    libc::SYS_tkill,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
    libc::SYS_vhangup,
];

/// The same where the architecture has them.
#[cfg(target_arch = "x86_64")]
const REFUSED_HERE: &[i64] = &[
    libc::SYS_fork,
    libc::SYS_ioperm,
    libc::SYS_iopl,
    libc::SYS_kexec_file_load,
    libc::SYS_memfd_secret,
    libc::SYS_modify_ldt,
    libc::SYS_vfork,
];
#[cfg(not(target_arch = "x86_64"))]
const REFUSED_HERE: &[i64] = &[];

/// Sockets, for those who have no network. `socketpair` is no network.
const NETWORK: &[i64] =
    &[libc::SYS_accept, libc::SYS_accept4, libc::SYS_bind, libc::SYS_connect, libc::SYS_listen, libc::SYS_socket];

/// The flags of `clone` lie in memory for `clone3`, where a filter does not see them: the C library then uses `clone`. Memory policy is
/// refused by containers, too, and libnuma complains unless it looks missing.
const MISSING: &[i64] =
    &[libc::SYS_clone3, libc::SYS_mbind, libc::SYS_set_mempolicy, libc::SYS_migrate_pages, libc::SYS_move_pages];

fn always(calls: &[i64]) -> Rules {
    calls.iter().map(|call| (*call, Vec::new())).collect()
}

/// What ends the process.
pub(super) fn never() -> Rules {
    always(NEVER)
}

/// What is refused.
pub(super) fn refused(profile: Profile) -> Result<Rules, Error> {
    let mut rules = always(REFUSED);
    rules.extend(always(REFUSED_HERE));
    if !profile.uses_network() {
        rules.extend(always(NETWORK));
    }
    // A process of its own; only threads are left.
    rules.insert(libc::SYS_clone, vec![all(&[Is::Bits(0, libc::CLONE_THREAD as u64, 0)])?]);
    Ok(rules)
}

/// What looks missing.
pub(super) fn missing() -> Rules {
    always(MISSING)
}
