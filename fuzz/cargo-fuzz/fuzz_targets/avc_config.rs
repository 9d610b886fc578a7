//! See `fuzz::avc_config`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::avc_config(data));
