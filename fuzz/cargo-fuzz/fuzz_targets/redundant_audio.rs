//! See `fuzz::redundant_audio`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::redundant_audio(data));
