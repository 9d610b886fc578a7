//! See `fuzz::whip_headers`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::whip_headers(data));
