//! What only Linux has: the layers of confinement, the tie to the parent, files in memory.

mod calls;
mod files;
mod limits;
mod rights;

pub(crate) use calls::{allow as allow_calls, deny as deny_calls};
pub(crate) use files::close as close_files;
pub(crate) use limits::lower as lower_limits;
pub(crate) use rights::{hide, show};

use crate::{Error, Profile, Support};
use landlock::LandlockStatus;
use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, memfd_create, openat};
use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use rustix::thread::{CapabilitySet, set_no_new_privs};
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::Path;

impl From<landlock::RulesetError> for Error {
    fn from(error: landlock::RulesetError) -> Self {
        Self::Layer("files can't be closed off (Landlock)", error.into())
    }
}

impl From<seccompiler::Error> for Error {
    fn from(error: seccompiler::Error) -> Self {
        Self::Layer("system calls can't be filtered (seccomp)", error.into())
    }
}

impl From<seccompiler::BackendError> for Error {
    fn from(error: seccompiler::BackendError) -> Self {
        Self::Layer("system calls can't be filtered on this machine", error.into())
    }
}

/// Where a process opens its own descriptors.
pub(crate) const DESCRIPTORS: &str = "/proc/self/fd";

/// What a service that was started as root may still need: ports below 1024, and files that only root may read, such as certificates
/// that are read again when they change.
const KEPT: [CapabilitySet; 3] =
    [CapabilitySet::NET_BIND_SERVICE, CapabilitySet::DAC_OVERRIDE, CapabilitySet::DAC_READ_SEARCH];

/// Ends this process with its parent, whatever happens to that.
pub(crate) fn end_with_parent() -> std::io::Result<()> {
    let parent = getppid();
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // The parent may have died before the line above; then the process has another one by now.
    if parent.is_none() || getppid() != parent {
        return Err(std::io::Error::other("the parent is gone"));
    }
    Ok(())
}

/// Names this process, and makes it the first to go when memory runs out.
pub(crate) fn present(profile: Profile) {
    rights::volunteer();
    rights::set_name(profile);
}

/// This process's threads in procfs. A rule of Landlock holds an inode, and procfs makes a new one when it has forgotten the old; while
/// this is open it does not forget.
pub(crate) fn threads() -> Option<File> {
    File::open("/proc/self/task").ok()
}

/// Gives up all capabilities and new privileges.
pub(crate) fn give_up_rights() -> Result<(), Error> {
    rights::give_up(CapabilitySet::empty())
}

/// Gives up all that a service never needs.
pub(crate) fn give_up_all_but_a_services() -> Result<(), Error> {
    rights::give_up(KEPT.into_iter().fold(CapabilitySet::empty(), CapabilitySet::union))
}

/// A file without a name in this directory, where its file system knows such files.
pub(crate) fn unnamed_file(directory: &Path) -> Option<File> {
    let unnamed = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC | OFlags::EXCL;
    openat(rustix::fs::CWD, directory, unnamed, Mode::RUSR | Mode::WUSR).map(File::from).ok()
}

/// A file in memory with this content that can't be written, not even by whoever holds it.
pub(crate) fn sealed_file(name: &str, content: &[u8]) -> std::io::Result<OwnedFd> {
    let mut file = File::from(memfd_create(name, MemfdFlags::ALLOW_SEALING)?);
    file.write_all(content)?;
    fcntl_add_seals(&file, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE)?;
    Ok(file.into())
}

/// Tries the layers on this thread, which is to end afterwards.
pub(crate) fn try_layers() -> Support {
    let mut support = Support::none();
    let refused = |e: Error| e.text();
    let files = set_no_new_privs(true).map_err(|e| e.to_string()).and_then(|()| files::try_it().map_err(refused));
    let open = "whoever takes a worker over can read what this user may read";
    match files {
        Ok(LandlockStatus::Available { effective_abi, .. }) => support.files = effective_abi as u32,
        Ok(LandlockStatus::NotEnabled) => {
            let why = "Landlock is not among the kernel's active security modules (lsm=)";
            support.missing.push(format!("{why}: {open}"));
        }
        Ok(LandlockStatus::NotImplemented) => {
            let why = "the kernel, or the container's own filter, offers no Landlock (Linux 5.13)";
            support.missing.push(format!("{why}: {open}"));
        }
        Err(why) => support.missing.push(format!("{why}: {open}")),
    }
    match calls::try_it() {
        Ok(()) => support.calls = true,
        Err(e) => {
            let open = "whoever takes a worker over has the network and every system call";
            support.missing.push(format!("{}: {open}", e.text()));
        }
    }
    support
}
