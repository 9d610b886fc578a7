//! See `fuzz::hevc_config`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::hevc_config(data));
