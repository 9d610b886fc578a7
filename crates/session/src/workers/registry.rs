//! The registry of GStreamer's plugins, made once at the start of the service by a process that meets no stranger's bytes. Workers read
//! it and can't write it: what stands there is code that they load.

use super::program::environment;
use std::ffi::OsString;
use std::fs::{DirBuilder, File};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

/// How long it may take: a second on a machine that has nothing else to do, with the 250 plugins of a distribution.
const DEADLINE: Duration = Duration::from_secs(30);
/// The longest that is believed; one of 250 plugins has 1.2 MB.
const MAX_BYTES: u64 = 64 << 20;

/// A directory for this user alone that is gone when it is dropped.
struct Directory(PathBuf);

impl Directory {
    fn new() -> io::Result<Self> {
        // A name that exists already is refused, whoever made it.
        let name = format!("ingress-{}-{:016x}", std::process::id(), RandomState::new().hash_one(0));
        let path = std::env::temp_dir().join(name);
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // What is left is a file of a megabyte in the directory for temporary files.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What stands in a registry that the environment names as ready and not to be made again, as that of the container image is.
fn ready_made(variable: impl Fn(&str) -> Option<OsString>) -> Option<io::Result<Vec<u8>>> {
    let path = variable("GST_REGISTRY_1_0").or_else(|| variable("GST_REGISTRY"))?;
    let file =
        File::open(path).ok().filter(|_| variable("GST_REGISTRY_UPDATE").is_some_and(|update| update == "no"))?;
    Some(content(file))
}

fn content(file: File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Gives the registry that the environment names as ready. Where there is none, runs `program arguments…` with `GST_REGISTRY` in its environment, and seals what it writes there.
///
/// # Errors
/// It could not be started, or made none.
pub async fn make(program: &Path, arguments: &[String]) -> io::Result<OwnedFd> {
    if let Some(bytes) = ready_made(|name| std::env::var_os(name)) {
        return confine::sealed_file("gstreamer-registry", &bytes?);
    }
    let directory = Directory::new()?;
    let file = directory.0.join("registry");
    let mut command = std::process::Command::new(program);
    environment(&mut command);
    command.args(arguments).env("GST_REGISTRY", &file).env("GST_REGISTRY_1_0", &file);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = tokio::process::Command::from(command).kill_on_drop(true).spawn()?;
    let ended = tokio::time::timeout(DEADLINE, child.wait()).await;
    let status = ended.map_err(|_| io::Error::other(format!("it was not done in {DEADLINE:?}")))??;
    if !status.success() {
        return Err(io::Error::other(format!("what looks at GStreamer's plugins ended with {status}")));
    }
    confine::sealed_file("gstreamer-registry", &content(File::open(&file)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_that_is_ready_needs_no_place_for_another() {
        let directory = Directory::new().unwrap();
        let file = directory.0.join("registry");
        std::fs::write(&file, b"plugins").unwrap();
        let named = |update: &'static str, path: PathBuf| {
            ready_made(move |name| match name {
                "GST_REGISTRY" => Some(path.clone().into()),
                "GST_REGISTRY_UPDATE" => Some(update.into()),
                _ => None,
            })
        };
        assert_eq!(named("no", file.clone()).unwrap().unwrap(), b"plugins");
        assert!(named("yes", file).is_none(), "it may be out of date");
        assert!(named("no", directory.0.join("none")).is_none() && ready_made(|_| None).is_none());
    }
}
