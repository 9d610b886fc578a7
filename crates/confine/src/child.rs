//! A worker's confinement, in the two steps that it takes.

use crate::{Error, Mode, Profile, system};
use rustix::process::{Resource, Rlimit, setrlimit};
use std::fs::File;

/// A process that has given up most rights; see [`Child::seal`] for the rest.
#[derive(Debug)]
pub struct Child {
    profile: Profile,
    mode: Mode,
    temporary: Temporary,
    /// Kept open; see [`system::threads`].
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
        system::end_with_parent().map_err(|e| Error::System("this process can't be tied to its parent", e))?;
        system::lower_limits(profile).map_err(|e| Error::System("the limits of this process can't be set", e))?;
        system::present(profile);
        let temporary = Temporary(profile.uses_network().then(unnamed_file).flatten());
        let child = Self { profile, mode, temporary, _threads: system::threads() };
        child.tolerated(system::give_up_rights)?;
        child.tolerated(system::hide)?;
        child.tolerated(|| system::close_files(profile))?;
        child.tolerated(|| system::deny_calls(profile))?;
        Ok(child)
    }

    /// Leaves only the system calls that work needs, for all threads. To be called once everything is loaded, before the first byte
    /// of a stranger.
    ///
    /// # Errors
    /// With [`Mode::Require`], if the kernel does not take the filter.
    pub fn seal(&self) -> Result<(), Error> {
        self.tolerated(|| system::allow_calls(self.profile))
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
    let directory = std::env::temp_dir();
    system::unnamed_file(&directory).or_else(|| removed_file(&directory))
}

/// The same on file systems that know no unnamed files.
fn removed_file(directory: &std::path::Path) -> Option<File> {
    let path = directory.join(format!("ingress-{}-{:016x}", std::process::id(), crate::sealed_file::random()));
    let file = File::options().read(true).write(true).create_new(true).open(&path).ok()?;
    std::fs::remove_file(&path).ok()?;
    Some(file)
}
