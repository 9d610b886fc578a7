//! The transcode worker as its parent sees it: a process at the other end of a socket pair, fed with what ffmpeg made.
//!
//! Media is made by ffmpeg from test pictures and tones at test time; what comes out is decoded by ffmpeg and looked at.

#![allow(missing_docs, unreachable_pub)]

mod audio;
mod faults;
mod flv;
mod media;
mod no_demux;
mod support;
mod video;

/// Not a test: the child of all other tests is this program, started with [`support::CHILD`] in its environment. It ends
/// inside; without the variable there is nothing to do.
#[test]
fn child() {
    use std::os::fd::AsFd;
    if std::env::var_os(support::CHILD).is_some() {
        let socket = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
        let (profile, mode) = (worker::Profile::Transcode, worker::Mode::Require);
        let code = worker::run::<transcode::Transcoder, no_demux::NoDemux>(socket, profile, mode);
        std::process::exit(if code == std::process::ExitCode::SUCCESS { 0 } else { 1 });
    }
}
