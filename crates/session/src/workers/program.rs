//! How workers are started: program, arguments, environment, and the registry of GStreamer's plugins that they share.

use confine::{Mode, Profile};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// Environment that a worker may see: language, where to find programs, C libraries and the certificates to trust, and where GStreamer
/// keeps what it found.
const ENVIRONMENT: &[&str] = &[
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "XDG_CACHE_HOME",
    "LD_LIBRARY_PATH",
    "RUST_BACKTRACE",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

/// What is told to GStreamer and GLib. A worker can neither start the program that looks at plugins nor write what that found; it has no
/// desktop whose settings could be asked for, and no proxy: it connects where it was told that it may.
const TOLD: [(&str, &str); 5] = [
    ("GST_REGISTRY_UPDATE", "no"),
    ("GST_REGISTRY_FORK", "no"),
    ("GSETTINGS_BACKEND", "memory"),
    ("GIO_USE_VFS", "local"),
    ("GIO_USE_PROXY_RESOLVER", "dummy"),
];

/// See the module.
#[derive(Debug)]
pub struct Program {
    /// The program.
    pub path: PathBuf,
    /// Its first arguments. The name of the [`Profile`] and the mode follow.
    pub arguments: Vec<String>,
    /// How far workers are confined.
    pub confinement: Mode,
    registry: OnceLock<OwnedFd>,
    killed: Arc<AtomicU64>,
}

impl Program {
    /// Workers are started as `path arguments… PROFILE MODE`.
    pub fn new(path: impl Into<PathBuf>, arguments: &[&str], confinement: Mode) -> Self {
        let arguments = arguments.iter().map(|a| (*a).to_owned()).collect();
        Self { path: path.into(), arguments, confinement, registry: OnceLock::new(), killed: Arc::default() }
    }

    /// Lets all workers that are started from now on share this registry (see [`registry::make`](super::registry::make)). The first counts.
    pub fn share(&self, registry: OwnedFd) {
        let _ = self.registry.set(registry);
    }

    /// Workers that their confinement has ended.
    pub(super) fn killed(&self) -> u64 {
        self.killed.load(Ordering::Relaxed)
    }

    /// Where those are counted.
    pub(super) fn kills(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.killed)
    }

    /// The command that starts a worker.
    pub(super) fn worker(&self, profile: Profile) -> Command {
        let mut command = Command::new(&self.path);
        command.args(&self.arguments).args([profile.as_str(), self.confinement.as_str()]);
        environment(&mut command);
        command.envs(TOLD);
        if let Some(registry) = self.registry.get() {
            let inherited = confine::inherited_path(registry);
            command.env("GST_REGISTRY", &inherited).env("GST_REGISTRY_1_0", inherited);
        }
        command
    }
}

/// Leaves a command no more of this process's environment than a worker may see.
pub(super) fn environment(command: &mut Command) {
    command
        .env_clear()
        .envs(ENVIRONMENT.iter().filter_map(|k| Some((k, std::env::var_os(k)?))))
        .envs(std::env::vars_os().filter(|(k, _)| k.to_string_lossy().starts_with("GST_")))
        // One heap for all threads: a worker's threads share frames anyway, and each heap of its own keeps megabytes.
        .env("MALLOC_ARENA_MAX", "2");
}
