//! See `fuzz::rtp_headers`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::rtp_headers(data));
