//! See `fuzz::rtp_payloads`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::rtp_payloads(data));
