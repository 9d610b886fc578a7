//! What a worker may still open: libraries, plugins and what they look at while they load, all of it only to be read. No configuration,
//! no home, nothing that is written.

use crate::{Error, Profile};
use landlock::{
    ABI, Access, AccessFs, AccessNet, LandlockStatus, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetError, Scope, path_beneath_rules,
};
use std::path::{Path, PathBuf};

/// The newest Landlock that this was tested with. Older ones are given what they know.
const TESTED: ABI = ABI::V7;

/// Directories of libraries, plugins and their data. Not `/usr` as a whole: `/usr/local/etc` may hold a configuration.
const LIBRARIES: &[&str] = &[
    "/lib",
    "/lib32",
    "/lib64",
    "/usr/lib",
    "/usr/lib32",
    "/usr/lib64",
    "/usr/libexec",
    "/usr/share",
    "/usr/local/lib",
    "/usr/local/lib64",
    "/usr/local/share",
    "/nix/store",
];

/// What libraries read about the machine and their own set-up. `/etc` is not given as a whole: it may hold a configuration. Found by
/// strace on GStreamer, gnutls, gcrypt, x265 and glibc; those that a machine lacks are left out.
const ABOUT: &[&str] = &[
    "/etc/ld.so.cache",
    "/etc/ld.so.preload",
    "/etc/localtime",
    "/etc/gnutls",
    "/etc/gcrypt",
    "/etc/crypto-policies",
    "/etc/fonts",
    "/etc/selinux/config",
    "/etc/ssl/openssl.cnf",
    "/etc/pki/tls/openssl.cnf",
    "/proc/self/task",
    "/proc/self/maps",
    "/proc/self/stat",
    "/proc/self/statm",
    "/proc/self/status",
    "/proc/self/cgroup",
    "/proc/cpuinfo",
    "/proc/filesystems",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/sys/crypto/fips_enabled",
    "/proc/sys/vm/overcommit_memory",
    "/sys/devices/system/cpu",
    "/sys/devices/system/node",
    "/sys/kernel/mm/transparent_hugepage",
    "/dev/urandom",
    "/dev/random",
];

/// What names, addresses and certificates are looked up in.
const NETWORK: &[&str] = &[
    "/etc/gai.conf",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/protocols",
    "/etc/resolv.conf",
    "/etc/services",
    "/run/systemd/resolve",
    "/etc/ssl/certs",
    "/etc/ssl/cert.pem",
    "/etc/ca-certificates",
    "/etc/pki/ca-trust",
    "/etc/pki/tls/certs",
    "/var/lib/ca-certificates",
];

/// Environment that names directories or files, separated by colons, which libraries read.
const NAMED: &[&str] = &[
    "LD_LIBRARY_PATH",
    "GST_PLUGIN_PATH",
    "GST_PLUGIN_PATH_1_0",
    "GST_PLUGIN_SYSTEM_PATH",
    "GST_PLUGIN_SYSTEM_PATH_1_0",
    "GST_REGISTRY",
    "GST_REGISTRY_1_0",
    "GST_PRESET_PATH",
];

/// The same for who uses the network.
const NAMED_NETWORK: &[&str] = &["SSL_CERT_FILE", "SSL_CERT_DIR"];

/// Lets this thread, and those that it starts, open nothing else from now on.
pub(crate) fn close(profile: Profile) -> Result<(), Error> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let mut rules = handled(profile)?.add_rules(path_beneath_rules(readable(profile), read))?;
    if let Ok(null) = PathFd::new("/dev/null") {
        rules = rules.add_rule(PathBeneath::new(null, AccessFs::ReadFile | AccessFs::WriteFile))?;
    }
    match rules.restrict_self()?.landlock {
        LandlockStatus::Available { .. } => Ok(()),
        LandlockStatus::NotEnabled | LandlockStatus::NotImplemented => Err(Error::NoFiles),
    }
}

/// What the kernel says to rules that concern nothing. They hold for this thread.
pub(crate) fn try_it() -> Result<LandlockStatus, Error> {
    Ok(handled(Profile::Transcode)?.restrict_self()?.landlock)
}

fn handled(profile: Profile) -> Result<landlock::RulesetCreated, RulesetError> {
    let mut ruleset = Ruleset::default().handle_access(AccessFs::from_all(TESTED))?.scope(Scope::from_all(TESTED))?;
    if !profile.uses_network() {
        ruleset = ruleset.handle_access(AccessNet::from_all(TESTED))?;
    }
    ruleset.create()
}

fn readable(profile: Profile) -> Vec<PathBuf> {
    let network = profile.uses_network();
    let always = LIBRARIES.iter().chain(ABOUT).chain(NETWORK.iter().filter(|_| network)).map(PathBuf::from);
    let named = NAMED.iter().chain(NAMED_NETWORK.iter().filter(|_| network));
    let named = named.filter_map(std::env::var_os).flat_map(|paths| std::env::split_paths(&paths).collect::<Vec<_>>());
    // The program itself, for the line numbers of a panic; the libraries that it has already, wherever they are; and the registry that
    // GStreamer keeps by itself where it is told no other.
    let own = std::env::current_exe().into_iter().chain(loaded()).chain(default_registry());
    // Descriptors need no rule, and there is none for files without a path.
    let with_path = |path: &PathBuf| path.is_absolute() && path != Path::new("/") && !path.starts_with("/proc/self/fd");
    always.chain(named.chain(own).filter(with_path)).collect()
}

/// The libraries that this process has loaded, and GStreamer's plugins beside GStreamer.
fn loaded() -> Vec<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let mut found: Vec<PathBuf> = Vec::new();
    // The sixth field is the path (proc(5)).
    for path in maps.lines().filter_map(|line| line.splitn(6, ' ').nth(5)).map(str::trim_start) {
        let path = Path::new(path);
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !name.contains(".so") || found.iter().any(|known| known == path) {
            continue;
        }
        if name.starts_with("libgstreamer-1.0.so") {
            found.extend(path.parent().map(|directory| directory.join("gstreamer-1.0")));
        }
        found.push(path.to_owned());
    }
    found
}

/// Where GStreamer keeps its registry by default (`gst_registry_get`): a cache of what plugins there are, and no user's data.
fn default_registry() -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))?;
    Some(cache.join("gstreamer-1.0").join(format!("registry.{}.bin", std::env::consts::ARCH)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_readable_and_homes_are_not() {
        for profile in Profile::ALL {
            let paths = readable(profile);
            assert!(paths.iter().all(|path| path.is_absolute()));
            for closed in ["/", "/etc", "/home", "/root", "/tmp", "/usr", "/var", "/proc", "/proc/self", "/sys", "/dev"]
            {
                assert!(!paths.contains(&PathBuf::from(closed)), "{closed}");
            }
            assert_eq!(paths.contains(&PathBuf::from("/etc/resolv.conf")), profile.uses_network());
        }
        assert!(loaded().iter().any(|path| path.to_string_lossy().contains("libc.so")));
    }
}
