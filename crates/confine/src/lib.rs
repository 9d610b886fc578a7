//! Confinement: what the processes of this program take away from themselves, so that whoever takes one over gains little.
//!
//! A worker meets strangers' bytes in C code. It keeps the right to read libraries and its own threads' state, to use memory and
//! threads, and to talk to its parent over the socket that it inherited; the one that pulls a URL keeps the network as well. The kernel
//! enforces that in layers: Landlock for files, TCP and signals, seccomp for system calls, limits for memory and descriptors, no
//! capabilities. The parent ([`service`]) only gives up what it never needs, as it holds the ports and all secrets.
//!
//! Order in a worker: [`Child::enter`] as the first lines, with one thread; then GStreamer and its plugins are loaded; then
//! [`Child::seal`], before the first byte of a stranger. Nothing is loosened later: another [`Profile`] is another process.
//!
//! All that only Linux has stands in `system`, which is `linux.rs`; on other systems, and with the feature `portable` for its tests, it is
//! `portable.rs`, which confines nothing and says so.
#![forbid(unsafe_code)]

mod child;
mod error;
#[cfg(all(target_os = "linux", not(feature = "portable")))]
mod linux;
pub mod memory;
#[cfg(not(all(target_os = "linux", not(feature = "portable"))))]
mod portable;
mod profile;
mod sealed_file;
pub mod service;
mod support;

#[cfg(all(target_os = "linux", not(feature = "portable")))]
use linux as system;
#[cfg(not(all(target_os = "linux", not(feature = "portable"))))]
use portable as system;

pub use child::{Child, Temporary};
pub use error::Error;
pub use profile::{Mode, Profile};
pub use sealed_file::{inherited_path, sealed_file};
pub use support::Support;

/// The signal that ends a process which asks the kernel for what no worker ever needs.
pub const KILLED_BY: i32 = libc::SIGSYS;
