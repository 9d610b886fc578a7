//! A worker's confinement, in the two steps that it takes.

use crate::{Error, Mode, Profile, calls, files, limits, rights};
use rustix::fs::{Mode as Permissions, OFlags, openat};
use rustix::process::{Resource, Rlimit, Signal, getppid, set_parent_process_death_signal, setrlimit};
use std::fs::File;

/// A process that has given up most rights; see [`Child::seal`] for the rest.
#[derive(Debug)]
pub struct Child {
    profile: Profile,
    mode: Mode,
    temporary: Temporary,
    /// This process's threads in procfs. A rule of Landlock holds an inode, and procfs makes a new one when it has forgotten the old;
    /// while this is open it does not forget.
    _threads: Option<File>,
}

impl Child {
    /// Ends with the parent whatever happens to it, takes only so much memory, is the first to go when the machine has none, and
    /// leaves no core files; gives up files, capabilities and the system calls that not even loading libraries needs. To be called while
    /// there is one thread: what is started later inherits it.
    ///
    /// # Errors
    /// If the parent is gone, or the limits can't be set; with [`Mode::Require`] also if a layer can't be had.
    pub fn enter(profile: Profile, mode: Mode) -> Result<Self, Error> {
        end_with_parent().map_err(|e| Error::System("this process can't be tied to its parent", e))?;
        limits::lower(profile).map_err(|e| Error::System("the limits of this process can't be set", e))?;
        rights::volunteer();
        rights::set_name(profile);
        let temporary = Temporary(profile.uses_network().then(unnamed_file).flatten());
        let threads = File::open("/proc/self/task").ok();
        let child = Self { profile, mode, temporary, _threads: threads };
        child.tolerated(|| rights::give_up(rights::NONE))?;
        child.tolerated(rights::hide)?;
        child.tolerated(|| files::close(profile))?;
        child.tolerated(|| calls::deny(profile))?;
        Ok(child)
    }

    /// Leaves only the system calls that work needs, for all threads. To be called once everything is loaded, before the first byte
    /// of a stranger.
    ///
    /// # Errors
    /// With [`Mode::Require`], if the kernel does not take the filter.
    pub fn seal(&self) -> Result<(), Error> {
        self.tolerated(|| calls::allow(self.profile))
    }

    /// What this worker may do.
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// Its one temporary file, for whom takes it first.
    pub fn take_temporary(&mut self) -> Temporary {
        std::mem::replace(&mut self.temporary, Temporary(None))
    }

    /// Takes a layer, or does without as the mode says. That a layer is missing was said once, by the parent.
    fn tolerated(&self, layer: impl FnOnce() -> Result<(), Error>) -> Result<(), Error> {
        match self.mode {
            Mode::Never => Ok(()),
            Mode::Auto => layer().or(Ok(())),
            Mode::Require => layer(),
        }
    }
}

fn end_with_parent() -> std::io::Result<()> {
    let parent = getppid();
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // The parent may have died before the line above; then the process has another one by now.
    if parent.is_none() || getppid() != parent {
        return Err(std::io::Error::other("the parent is gone"));
    }
    Ok(())
}

/// A file without a name in the directory for temporary files: nobody can open it by a path, and it is gone with the process.
#[derive(Debug)]
pub struct Temporary(Option<File>);

impl Temporary {
    /// None.
    pub fn none() -> Self {
        Self(None)
    }

    /// Lets no file of this process, and so this one, become longer than `bytes`.
    pub fn limit(&self, bytes: u64) {
        let limit = Some(bytes);
        // Lowering it is anybody's right. Whoever writes counts as well: this is for one who was taken over.
        let _ = setrlimit(Resource::Fsize, Rlimit { current: limit, maximum: limit });
    }

    /// The file.
    ///
    /// # Errors
    /// There is none: the directory (`TMPDIR`, else `/tmp`) can't be written, or it was taken.
    pub fn take(&mut self) -> std::io::Result<File> {
        let missing = || std::io::Error::other(format!("{} can't be written", std::env::temp_dir().display()));
        self.0.take().ok_or_else(missing)
    }
}

/// Opens one while files can still be opened.
fn unnamed_file() -> Option<File> {
    let permissions = Permissions::RUSR | Permissions::WUSR;
    let unnamed = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC | OFlags::EXCL;
    let directory = std::env::temp_dir();
    let opened = openat(rustix::fs::CWD, directory.as_path(), unnamed, permissions);
    opened.map(File::from).ok().or_else(|| removed_file(&directory))
}

/// The same on file systems that know no unnamed files.
fn removed_file(directory: &std::path::Path) -> Option<File> {
    let path = directory.join(format!("ingress-{}-{:016x}", std::process::id(), crate::sealed_file::random()));
    let file = File::options().read(true).write(true).create_new(true).open(&path).ok()?;
    std::fs::remove_file(&path).ok()?;
    Some(file)
}
