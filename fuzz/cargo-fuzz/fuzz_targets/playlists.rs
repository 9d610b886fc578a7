//! See `fuzz::playlists`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::playlists(data));
