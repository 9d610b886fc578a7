//! File descriptors: as many as the system lets us have.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What is kept free for what is no such connection: the log, Redis, pages, and some sessions.
const OTHERS: u64 = 200;

/// Raises this process's limit on open files to the highest allowed: the usual 1,024 is for programs that use select(2), and a
/// thousand strangers would reach it. Gives advice if even the highest is too low for so many connections.
pub(crate) fn raise(connections: u32) -> Option<String> {
    let limit = getrlimit(Resource::Nofile);
    // Raising it up to the maximum is anybody's right; should a system refuse all the same, the old one stays.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let now = getrlimit(Resource::Nofile).current?;
    (now < u64::from(connections) + OTHERS).then(|| {
        format!(
            "only {now} open files are allowed, which is too few for {connections} connections (rtmp_max_connections, \
             whip_max_connections) and sessions beside them; raise the limit (ulimit -n, LimitNOFILE)"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_raised_and_checked() {
        assert_eq!(raise(0), None);
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
        if limit.current.is_some() {
            assert!(raise(u32::MAX).is_some_and(|advice| advice.contains("LimitNOFILE")));
        }
    }
}
