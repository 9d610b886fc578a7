//! See `fuzz::redundant_sound`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::redundant_sound(data));
