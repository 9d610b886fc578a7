//! See `fuzz::whip_offers`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::whip_offers(data));
