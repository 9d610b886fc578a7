//! Reads files of `/proc` (proc(5)): for metrics and for the account of the machine's load.

use std::fs;
use std::path::Path;

/// Ticks a second (`USER_HZ`): 100 on every architecture Linux still supports.
pub(crate) const USER_HZ: f64 = 100.0;

/// When a process ran, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Times {
    /// CPU time used by all threads, in user and kernel mode.
    pub(crate) cpu: f64,
    /// Start after boot.
    pub(crate) started: f64,
}

impl Times {
    /// Of the process with this directory; `None` if there is none.
    pub(crate) fn read(directory: &Path) -> Option<Self> {
        let stat = fs::read_to_string(directory.join("stat")).ok()?;
        // The name in parentheses may hold anything; what follows the last one begins with field 3.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        let seconds = |field: usize| Some(fields.get(field - 3)?.parse::<f64>().ok()? / USER_HZ);
        Some(Self { cpu: seconds(14)? + seconds(15)?, started: seconds(22)? })
    }
}

/// The number that follows a word at the beginning of a line.
pub(crate) fn word_after(text: &str, word: &str) -> Option<f64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(word))?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

/// Bytes, where the file has kilobytes behind the word.
pub(crate) fn bytes_after(text: &str, word: &str) -> Option<u64> {
    // Whole numbers below 2^53 are exact.
    Some((word_after(text, word)? * 1024.0) as u64)
}
