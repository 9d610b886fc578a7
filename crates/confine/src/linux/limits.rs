//! Limits of a worker process.

use crate::{Profile, memory};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io;

/// Open files. A session with three layers has about 40, a pull over RTSP 60 (measured).
const FILES: u64 = 256;

/// Bytes of a file that is written by a worker that has none to write: standard error, should it be a file, and the 64 kB that ORC
/// keeps machine code in where Landlock does not keep it from that.
const FILE_SIZE: u64 = 16 << 20;

/// Lowers them. Processes are not limited: the kernel counts all of the user's, and a worker can't start any.
pub(crate) fn lower(profile: Profile) -> io::Result<()> {
    // A core file would hold a publisher's pictures.
    to(Resource::Core, 0)?;
    to(Resource::Data, memory::child_limit(&memory::Roots::default()))?;
    to(Resource::Nofile, FILES)?;
    to(Resource::Msgqueue, 0)?;
    if !profile.uses_network() {
        to(Resource::Fsize, FILE_SIZE)?;
    }
    Ok(())
}

fn to(resource: Resource, most: u64) -> io::Result<()> {
    let limit = Some(getrlimit(resource).maximum.map_or(most, |now| now.min(most)));
    Ok(setrlimit(resource, Rlimit { current: limit, maximum: limit })?)
}
