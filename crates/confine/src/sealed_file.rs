//! A file in memory that nobody can change any more.

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::os::fd::OwnedFd;

/// Makes a file with this content that has no path and can't be written, not even by whoever holds it. Processes that are started
/// while it is open inherit it, and open it as `/proc/self/fd/N`.
///
/// # Errors
/// The system has no memory or descriptors left.
pub fn sealed_file(name: &str, content: &[u8]) -> std::io::Result<OwnedFd> {
    let mut file = File::from(memfd_create(name, MemfdFlags::ALLOW_SEALING)?);
    file.write_all(content)?;
    fcntl_add_seals(&file, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE)?;
    Ok(file.into())
}

/// A number that nobody guesses, for names of files. The standard library seeds each state from the system.
pub(crate) fn random() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn it_is_read_and_never_written() {
        let file = sealed_file("test", b"content").unwrap();
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        assert_eq!(std::fs::read(&path).unwrap(), b"content");
        let mut opened = File::options().write(true).open(&path).unwrap();
        assert!(opened.write_all(b"other").is_err() && opened.set_len(0).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"content");
        assert_ne!(random(), random());
    }
}
