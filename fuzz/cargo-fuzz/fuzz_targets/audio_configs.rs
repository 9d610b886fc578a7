//! See `fuzz::sound_configs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::sound_configs(data));
