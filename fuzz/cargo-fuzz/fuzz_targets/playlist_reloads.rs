//! See `fuzz::playlist_reloads`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::playlist_reloads(data));
