//! See `fuzz::rtmp_chunks`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::rtmp_chunks(data));
