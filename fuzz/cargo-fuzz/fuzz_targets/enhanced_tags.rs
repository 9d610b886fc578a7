//! See `fuzz::enhanced_tags`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::enhanced_tags(data));
