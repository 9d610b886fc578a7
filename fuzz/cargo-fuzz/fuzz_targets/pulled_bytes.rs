//! See `fuzz::pulled_bytes`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::pulled_bytes(data));
