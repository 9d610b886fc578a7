//! File descriptors: as many as the system lets us have, and never so many of strangers that nothing is left for the rest.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What is kept free for what is no such connection: the log, Redis, pages, media ports, and sessions.
const OTHERS: u64 = 800;
/// Of a low limit, the share that is kept free in place of that: one in so many.
const LEAST_SHARE: u64 = 4;

/// Raises this process's limit on open files to the highest allowed: the usual 1,024 is for programs that use select(2), and a
/// thousand strangers would reach it. Lowers these limits on connections if even the highest is too low for them, and gives advice
/// then: a health check that finds no descriptor left would end the whole machine's sessions.
pub(crate) fn fit(connections: [&mut u32; 2]) -> Option<String> {
    let limit = getrlimit(Resource::Nofile);
    // Raising it up to the maximum is anybody's right; should a system refuse all the same, the old one stays.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    lower(getrlimit(Resource::Nofile).current?, connections)
}

fn lower(files: u64, connections: [&mut u32; 2]) -> Option<String> {
    let asked: u64 = connections.iter().map(|count| u64::from(**count)).sum();
    let free = files - OTHERS.min(files / LEAST_SHARE);
    if asked <= free {
        return None;
    }
    let lowered = connections.map(|count| {
        // Not above what it was, so it fits.
        *count = u32::try_from(u64::from(*count) * free / asked).unwrap_or(*count).max(1);
        *count
    });
    Some(format!(
        "only {files} open files are allowed: {} RTMP and {} WHIP connections are taken at most, in place of what rtmp_max_connections and \
         whip_max_connections say; raise the limit (ulimit -n, LimitNOFILE)",
        lowered[0], lowered[1]
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_raised() {
        assert_eq!(fit([&mut 1, &mut 1]), None);
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
    }

    #[test]
    fn connections_leave_files_for_the_rest() {
        let fitted = |files, mut rtmp: u32, mut whip: u32| {
            let advice = lower(files, [&mut rtmp, &mut whip]);
            assert!(u64::from(rtmp) + u64::from(whip) <= files * 3 / 4);
            (rtmp, whip, advice.is_some_and(|text| text.contains("LimitNOFILE")))
        };
        assert_eq!(fitted(1_048_576, 1000, 1000), (1000, 1000, false));
        assert_eq!(fitted(4096, 1000, 1000), (1000, 1000, false));
        assert_eq!(fitted(1024, 1000, 1000), (384, 384, true));
        assert_eq!(fitted(1024, 3000, 1000), (576, 192, true));
    }
}
