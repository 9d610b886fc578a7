//! See `fuzz::rtmp_connection`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::rtmp_connection(data));
