//! See `fuzz::session_life`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::session_life(data));
