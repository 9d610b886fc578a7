//! Fetching for pulled sources: HTTP and HTTPS where every address is checked before it is connected to, on every redirect and
//! every entry of a playlist; files by ranges; HLS; and for RTSP, which a library speaks, a relay under the same rules.
//!
//! All of it blocks: it runs in a child process that has nothing else to do and that is killed to stop it. Bytes are not
//! understood here beyond HTTP, playlists, the splice points of an MPEG-TS and a byte of FLV.
#![forbid(unsafe_code)]

mod address;
mod again;
mod body;
mod crypt;
mod error;
mod file;
mod guard;
pub mod hls;
mod http;
mod icy;
mod patience;
pub mod playlist;
mod relay;
pub mod rtsp;
mod socket;
mod timed;

pub use address::{Address, Scheme};
pub use again::Again;
pub use body::{Chunks, Framing};
pub use error::Error;
pub use file::RangeFile;
pub use guard::{Verdict, check_host, guard_listener, judge, resolve};
pub use http::{Client, Response, reads_head};
pub use icy::Titles;
pub use patience::Waits;
pub use relay::Relay;
