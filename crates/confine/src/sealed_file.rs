//! A file in memory that nobody can change any more.

use crate::system;
use std::hash::{BuildHasher, RandomState};
use std::os::fd::{AsRawFd, OwnedFd};

/// Makes a file with this content that has no path and can't be written, not even by whoever holds it. Processes that are started
/// while it is open inherit it, and open it at [`inherited_path`].
///
/// # Errors
/// The system has no memory or descriptors left.
pub fn sealed_file(name: &str, content: &[u8]) -> std::io::Result<OwnedFd> {
    system::sealed_file(name, content)
}

/// Where this process, or one that inherits the file, opens it.
pub fn inherited_path(file: &impl AsRawFd) -> String {
    format!("{}/{}", system::DESCRIPTORS, file.as_raw_fd())
}

/// A number that nobody guesses, for names of files. The standard library seeds each state from the system.
pub(crate) fn random() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Write;

    #[test]
    fn it_is_read_and_never_written() {
        let file = sealed_file("test", b"content").unwrap();
        let path = inherited_path(&file);
        assert_eq!(std::fs::read(&path).unwrap(), b"content");
        if cfg!(not(feature = "portable")) {
            let mut opened = File::options().write(true).open(&path).unwrap();
            assert!(opened.write_all(b"other").is_err() && opened.set_len(0).is_err());
        }
        assert!(File::from(file).write_all(b"other").is_err());
        assert_ne!(random(), random());
    }
}
