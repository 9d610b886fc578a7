//! See `fuzz::flv_tags`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::flv_tags(data));
