//! What stands in on systems other than Linux: nothing is confined, and everybody is told so; a worker whose parent is gone finds its socket
//! closed, and ends by that.

use crate::{Error, Profile, Support};
use rustix::process::getppid;
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::Path;

/// Where a process opens its own descriptors.
pub(crate) const DESCRIPTORS: &str = "/dev/fd";

const NO_LAYER: &str = "this system has no layer that confines workers; Linux has";

/// The parent is there.
pub(crate) fn end_with_parent() -> std::io::Result<()> {
    getppid().map(drop).ok_or_else(|| std::io::Error::other("the parent is gone"))
}

/// Core files hold a publisher's pictures.
pub(crate) fn lower_limits(_: Profile) -> std::io::Result<()> {
    use rustix::process::{Resource, Rlimit, setrlimit};
    Ok(setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?)
}

/// Nothing to present.
pub(crate) fn present(_: Profile) {}

/// Nothing to hold.
pub(crate) fn threads() -> Option<File> {
    None
}

/// There is no such layer.
pub(crate) fn give_up_rights() -> Result<(), Error> {
    Err(Error::NoLayer(NO_LAYER))
}

/// There is no such layer.
pub(crate) fn give_up_all_but_a_services() -> Result<(), Error> {
    Err(Error::NoLayer(NO_LAYER))
}

/// There is no such layer.
pub(crate) fn hide() -> Result<(), Error> {
    Err(Error::NoLayer(NO_LAYER))
}

/// Nothing is hidden.
pub(crate) fn show() {}

/// There is no such layer.
pub(crate) fn close_files(_: Profile) -> Result<(), Error> {
    Err(Error::NoLayer(NO_LAYER))
}

/// There is no such layer.
pub(crate) fn deny_calls(_: Profile) -> Result<(), Error> {
    Err(Error::NoLayer(NO_LAYER))
}

/// There is no such layer.
pub(crate) fn allow_calls(_: Profile) -> Result<(), Error> {
    Err(Error::NoLayer(NO_LAYER))
}

/// None: files get a name for a moment.
pub(crate) fn unnamed_file(_: &Path) -> Option<File> {
    None
}

/// A file with this content that has no name any more and was opened to be read.
pub(crate) fn sealed_file(name: &str, content: &[u8]) -> std::io::Result<OwnedFd> {
    let path =
        std::env::temp_dir().join(format!("{name}-{}-{:016x}", std::process::id(), crate::sealed_file::random()));
    File::options().write(true).create_new(true).open(&path)?.write_all(content)?;
    let opened = File::open(&path);
    std::fs::remove_file(&path)?;
    Ok(opened?.into())
}

/// None is there.
pub(crate) fn try_layers() -> Support {
    Support { missing: vec![NO_LAYER.to_owned()], ..Support::none() }
}

#[cfg(test)]
mod tests {
    use crate::{Child, Mode, Profile, Support, service};

    #[test]
    fn workers_run_unconfined_and_it_is_said() {
        let support = Support::find();
        assert_eq!((support.files, support.calls, support.missing.len()), (0, false, 1));
        assert!(support.layers().iter().all(|(_, there)| !there));
        let mut child = Child::enter(Profile::DemuxUrl, Mode::Auto).unwrap();
        child.seal().unwrap();
        assert!(child.take_temporary().take().is_ok(), "it has its temporary file");
        assert!(Child::enter(Profile::Transcode, Mode::Never).is_ok());
    }

    #[test]
    fn who_requires_confinement_does_not_start() {
        assert!(Child::enter(Profile::Transcode, Mode::Require).is_err());
        assert!(service::give_up(Mode::Require).is_err());
        assert_eq!(service::give_up(Mode::Auto).unwrap(), Support::find());
    }
}
