//! Fetches pulled sources: HTTP and HTTPS, files by range requests, HLS, and a relay for RTSP, which a library speaks. The guard
//! checks every address before it is connected to, also those of redirects and of entries of playlists.
//!
//! All of it blocks: it runs in a child process that does nothing else and is killed to stop it. Nothing here knows containers
//! or codecs.
#![forbid(unsafe_code)]

mod address;
mod backoff;
mod body;
mod crypt;
mod deadline_stream;
mod error;
mod file;
mod guard;
pub mod hls;
mod http;
mod icy;
mod inflate;
mod login;
mod part;
pub mod playlist;
mod proxied;
mod relay;
mod resumable_body;
pub mod rtsp;
mod socket;

pub use address::{Address, Scheme};
pub use backoff::Backoff;
pub use body::{Chunks, Framing};
pub use error::Error;
pub use file::RangeFile;
pub use guard::{Verdict, check_host, guard_listener, judge, resolve};
pub use http::{Client, Response, Version, reads_head};
pub use icy::Titles;
pub use relay::Relay;
pub use resumable_body::ResumableBody;
